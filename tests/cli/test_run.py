"""`keyway run`: the contract that others rely on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keyway.cli.client import Client
from keyway.cli.tokens import slots_of
from keyway.config.locate import module_library, softhsm_module
from keyway.cryptoki import Null, TokenInfo, unpadded

CONTRACT = {
    "KEYWAY_MODULE",
    "KEYWAY_ADDRESS",
    "KEYWAY_PIN",
    "KEYWAY_SO_PIN",
    "KEYWAY_TOKEN",
    "KEYWAY_DIRECT_MODULE",
    "KEYWAY_DAEMON_PID",
    "SOFTHSM2_CONF",
}


def environment_of(done):
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def test_the_environment(keyway):
    done = keyway("run", "--", "env")
    assert done.returncode == 0, done.stderr
    environment = environment_of(done)
    assert environment.keys() >= CONTRACT
    assert environment["KEYWAY_TOKEN"] == "keyway"
    assert environment["KEYWAY_PIN"] == environment["KEYWAY_SO_PIN"] == "12345678"
    assert environment["KEYWAY_MODULE"] == str(module_library())
    assert environment["KEYWAY_DIRECT_MODULE"] == str(softhsm_module())
    assert environment["KEYWAY_ADDRESS"].startswith("unix:/")


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_is_the_commands(keyway, status):
    assert keyway("run", "--", "sh", "-c", f"exit {status}").returncode == status


def test_a_signal_is_an_exit_status_as_in_a_shell(keyway):
    assert keyway("run", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9


@pytest.mark.parametrize(("command", "status"), [("/no/such/command", 127), ("/etc/passwd", 126)])
def test_a_command_that_can_not_be_run(keyway, command, status):
    done = keyway("run", "--", command)
    assert done.returncode == status
    assert command in done.stderr


def test_options_of_the_command_are_its_own(keyway):
    assert keyway("run", "echo", "--token", "x", "--help").stdout == "--token x --help\n"
    assert keyway("run", "--", "echo", "--dir").stdout == "--dir\n"


def test_a_command_is_needed(keyway):
    done = keyway("run")
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


@pytest.mark.parametrize("label", ["", "x" * 33, "é" * 17])
def test_a_label_must_fit(keyway, label):
    done = keyway("run", "--token", label, "--", "true")
    assert done.returncode == 2
    assert "1 to 32 bytes" in done.stderr


SLOTS = [sys.executable, "-m", "keyway.cli", "slots"]


def test_the_tokens(keyway):
    done = keyway("run", "--token", "first", "--token", "zweites é", "--", "sh", "-c", f"{' '.join(SLOTS)}; env")
    assert done.returncode == 0, done.stderr
    assert ": first (SoftHSM v2" in done.stdout
    assert ": zweites é (SoftHSM v2" in done.stdout
    assert environment_of(done)["KEYWAY_TOKEN"] == "first"


def test_a_real_program_through_module_daemon_and_host(keyway):
    script = (
        'pkcs11-tool --module "$KEYWAY_MODULE" --token-label demo --login --pin "$KEYWAY_PIN" '
        "--keypairgen --key-type EC:prime256v1 --id 01 --label key && "
        'pkcs11-tool --module "$KEYWAY_DIRECT_MODULE" --token-label demo --login --pin "$KEYWAY_PIN" --list-objects'
    )
    done = keyway("run", "--token", "demo", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Private Key Object" in done.stdout.rpartition("Using slot")[2] or "Private Key Object" in done.stdout


def test_nothing_is_left(keyway, scratch):
    done = keyway("run", "--", "sh", "-c", "env; pgrep -P $KEYWAY_DAEMON_PID")
    pids = [int(line) for line in done.stdout.splitlines() if line.isdecimal()]
    assert len(pids) >= 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert list(scratch.iterdir()) == []


def test_with_a_directory_the_tokens_stay(keyway, tmp_path):
    first = keyway("run", "--dir", tmp_path / "kept", "--token", "demo", "--", *SLOTS)
    again = keyway("run", "--dir", tmp_path / "kept", "--token", "demo", "--token", "more", "--", *SLOTS)
    (line,) = [line for line in first.stdout.splitlines() if ": demo (" in line]
    assert line in again.stdout.splitlines()
    assert ": more (" in again.stdout
    assert any((tmp_path / "kept" / "tokens").iterdir())


@pytest.mark.parametrize("command", [("run", "--dir", "/proc/none", "--", "true"), ("up", "--dir", "/dev/null")])
def test_a_directory_that_can_not_be_used(keyway, command):
    done = keyway(*command)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {command[2]}/tokens: ")


def test_a_path_that_is_too_long_for_a_socket(keyway, tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    done = keyway("run", "--", "true", env={"TMPDIR": str(deep)})
    assert done.returncode == 1
    assert "too long for a unix socket" in done.stderr
    assert list(deep.iterdir()) == []


def test_it_can_be_told_to_stop(start):
    process = start("run", "--", "sh", "-c", "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("told\n", 3)


def test_it_can_be_nested(keyway):
    done = keyway("run", "--token", "outer", "--", *SLOTS[:3], "run", "--token", "inner", "--", *SLOTS)
    assert ": inner (" in done.stdout
    assert "outer" not in done.stdout


class TestUp:
    def test_until_it_is_interrupted(self, start):
        process = start("up", "--token", "demo")
        told = {}
        for line in iter(process.stdout.readline, ""):
            if line.startswith("#"):
                break
            name, _, value = line.removeprefix("export ").strip().partition("=")
            told[name] = value
        assert told.keys() >= CONTRACT
        with Client(Path(told["KEYWAY_ADDRESS"].removeprefix("unix:")), 20) as client:
            client.call("C_Initialize", 0, Null(), b"")
            tokens = [client.call("C_GetTokenInfo", True, target=slot)[0] for slot in slots_of(client)]
            labels = [unpadded(token.label) for token in tokens if isinstance(token, TokenInfo)]
            assert "demo" in labels
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0

    def test_what_it_prints_is_for_a_shell(self, start, tmp_path):
        strange = tmp_path / "with 'blanks' $HOME"
        process = start("up", "--dir", strange, "--token", "a 'b' $(c)")
        lines = []
        for line in iter(process.stdout.readline, ""):
            lines.append(line)
            if line.startswith("#"):
                break
        shown = subprocess.run(
            ["sh", "-c", "".join(lines) + 'printf %s "$KEYWAY_TOKEN"'], capture_output=True, text=True, check=True
        )
        assert shown.stdout == "a 'b' $(c)"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
