"""The other commands."""

import re
import sys
from pathlib import Path

import pytest

from keyway.config.locate import module_library, softhsm_module

COMMANDS = (
    "agent", "api", "audit", "cert", "check", "csr", "drain", "forward", "key", "module", "p11-kit-server", "policy", "pool", "reload", "remote", "resume", "run", "serve", "slots", "status", "strongswan", "token", "top", "trace",
    "up",
)  # fmt: skip


def test_help_names_all_commands(keyway):
    lines = keyway("--help").stdout.partition("Commands:")[2].splitlines()
    assert [line.split()[0] for line in lines if line[2:3].strip()] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_has_help(keyway, command):
    done = keyway(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")


def test_an_unknown_command(keyway):
    done = keyway("nonsense")
    assert done.returncode == 2
    assert "No such command 'nonsense'" in done.stderr


def test_the_reference_names_all_commands():
    page = (Path(__file__).resolve().parents[2] / "docs/reference/commands.md").read_text()
    assert sorted(set(re.findall(r"^\| `keyway ([\w-]+)[` ]", page, re.MULTILINE))) == list(COMMANDS)


def test_module(keyway):
    assert keyway("module").stdout == f"{module_library()}\n"


def test_version(keyway):
    assert keyway("--version").stdout.startswith("keyway, version ")


class TestCheck:
    def test_good(self, keyway, tmp_path):
        path = tmp_path / "k.toml"
        path.write_text(f'[backend.s]\nmodule = "{softhsm_module()}"\n')
        done = keyway("check", path)
        assert done.returncode == 0
        assert "good" in done.stdout

    def test_where_clients_connect_is_told(self, keyway, tmp_path):
        path = tmp_path / "k.toml"
        path.write_text(
            f'[backend.s]\nmodule = "{softhsm_module()}"\n[listener.old]\naddress = "unix:/run/p"\nprotocol = "p11-kit"\n'
            'tokens = ["pkcs11:token=demo"]\n[offer.out]\nto = "tls://gw.test:5658"\nca = "/ca"\ncertificate = "/c"\nkey = "/k"\n'
        )
        lines = keyway("check", path).stdout.splitlines()
        assert lines[1:] == [
            "listener old: p11-kit on unix:/run/p, only pkcs11:token=demo",
            "offer out: to tls://gw.test:5658",
        ]
        assert "2 listener(s), 1 offer(s)" in lines[0]

    def test_every_mistake_is_told(self, keyway, tmp_path):
        path = tmp_path / "k.toml"
        path.write_text('[backend.s]\nmodule = "/m"\nspares = -2\n[log]\nlevel = "x"\n')
        done = keyway("check", path)
        assert done.returncode == 1
        assert f"{path}:3: backend.s.spares: must be at least -1" in done.stderr
        assert f"{path}:5: log.level: must be one of" in done.stderr

    def test_a_module_that_is_not_there(self, keyway, tmp_path):
        path = tmp_path / "k.toml"
        path.write_text('\n[backend.s]\n\nmodule = "/no/such.so"\n')
        done = keyway("check", path)
        assert done.returncode == 1
        assert f"{path}:4: backend.s.module: /no/such.so: no such file" in done.stderr


@pytest.mark.parametrize("command", ["status", "slots", "top"])
def test_no_daemon_is_there(keyway, tmp_path, command):
    done = keyway(command, "--socket", tmp_path / "none")
    assert done.returncode == 1
    assert "no daemon at" in done.stderr


def test_serve_without_a_file(keyway, tmp_path):
    done = keyway("serve", "-c", tmp_path / "none.toml")
    assert done.returncode == 1
    assert "can't be read" in done.stderr


def test_status_and_slots_of_a_running_daemon(keyway):
    done = keyway(
        "run",
        "--",
        "sh",
        "-c",
        'python="$0"; "$python" -m keyway.cli status; "$python" -m keyway.cli slots',
        sys.executable,
    )
    assert "backend softhsm:" in done.stdout
    assert ": keyway (SoftHSM v2" in done.stdout
