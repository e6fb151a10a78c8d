"""The audit log of a running gateway."""

import json
import subprocess

import pytest
from tests.audit.logs import verified
from tests.daemon.harness import KEYWAY, softhsm, until
from tests.daemon.tokens import PIN, make

from keyway import Client
from keyway.observe.audit import verify


def command(*arguments):
    done = subprocess.run([*KEYWAY, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def told(path):
    """The lines of a log that are whole, but for the first of the file."""
    lines = path.read_bytes().splitlines(keepends=True)[1:]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


@pytest.fixture
def path(home):
    (home / "audit").mkdir()
    return home / "audit" / "audit.jsonl"


def events(path):
    return [each["event"] for each in told(path)]


def test_start_reload_and_stop_are_recorded(start, home, path):
    daemon = start(softhsm(home) + f'[audit]\nfile = "{path}"\n')
    assert command("reload", "--socket", daemon.socket)[0] == 0
    config = home / "keyway.toml"
    config.write_text(config.read_text() + "[limits]\ncontexts = 7\n")
    assert command("reload", "--socket", daemon.socket)[0] == 0
    good = config.read_text()
    config.write_text(good + "contexts = 8\n")
    assert command("reload", "--socket", daemon.socket)[0] == 1
    config.write_text(good)
    assert daemon.stop() == 0
    records = told(path)
    assert [each["event"] for each in records] == ["start", *["configuration"] * 3, "stop"]
    assert [each["reason"] for each in records[1:4]] == [
        "nothing has changed",
        "limits: changed",
        "not changed: 1 problems",
    ]
    daemon.start()
    assert daemon.stop() == 0
    assert events(path)[-2:] == ["start", "stop"]
    assert verified(path).is_good


def test_status_tells(start, home, path):
    daemon = start(softhsm(home) + f'[audit]\nfile = "{path}"\n')
    until(lambda: daemon.status()["audit"]["records"] == 1, "the start is written")
    audit = daemon.status()["audit"]
    assert (audit["sinks"], audit["seq"], audit["dropped"], audit["error"]) == (["file"], 1, 0, "")
    status, output = command("status", "--socket", daemon.socket)
    assert status == 0
    assert "audit: file: line 1, 1 written, 0 dropped, no checkpoint yet" in output
    # The hash tells later whether the end was cut off.
    assert command("audit", "verify", "--expect", audit["hash"], path.parent)[0] == 0


def test_without_the_section_there_is_none(daemon):
    assert "audit" not in daemon.status()


def test_a_killed_daemon_s_unfinished_line_is_told(start, home, path):
    daemon = start(softhsm(home) + f'[audit]\nfile = "{path}"\n')
    until(lambda: events(path) == ["start"], "the start is written")
    daemon.process.kill()
    daemon.process.wait()
    with path.open("ab") as file:
        file.write(b'{"seq":2,"ti')
    daemon.start()
    until(lambda: events(path)[1:] == ["recovered", "start"], "it goes on")
    assert told(path)[1]["reason"] == "12 bytes of an unfinished line were cut off"
    assert command("audit", "verify", path.parent)[0] == 0


def test_a_log_that_can_t_be_opened_keeps_the_daemon_from_starting(home, path):
    path.write_text("something else\n")
    config = home / "keyway.toml"
    config.write_text(f'[listen]\nsocket = "{home / "k.sock"}"\n{softhsm(home)}[audit]\nfile = "{path}"\n')
    status, output = command("serve", "-c", config)
    assert status == 1
    assert f"Error: audit log {path}: the file is none" in output
    assert not (home / "k.sock").exists()


def test_lines_on_standard_output(home):
    config = home / "keyway.toml"
    config.write_text(f'[listen]\nsocket = "{home / "k.sock"}"\n{softhsm(home)}[audit]\nstdout = true\n')
    with subprocess.Popen(
        [*KEYWAY, "serve", "-c", str(config)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        process.terminate()
        lines += process.stdout.readlines()
        assert process.wait(30) == 0
    assert [json.loads(line)["event"] for line in lines] == ["start", "stop"]
    assert verify(lines).is_good


@pytest.mark.parametrize(("kind", "pin"), [("EC:prime256v1", PIN), ("rsa:2048", f"{PIN}\n")])
def test_checkpoints_are_signed_by_a_token(start, home, path, kind, pin):
    pin_file = home / "pin"
    pin_file.write_text(pin)
    pin_file.chmod(0o600)
    daemon = start(
        softhsm(home)
        + f'[audit]\nfile = "{path}"\ncheckpoint_seconds = 1\ncheckpoint_pin_file = "{pin_file}"\n'
        + 'checkpoint_key = "pkcs11:token=demo;object=audit"\n'
    )
    make(daemon, "demo")

    def checkpoint(condition):
        """Have a checkpoint made, and return the first one that is as it should be."""
        found: list[dict] = []

        def comes():
            assert command("reload", "--socket", daemon.socket)[0] == 0
            found[:] = [each for each in told(path) if each["event"] == "checkpoint" and condition(each)]
            return found

        until(comes, "there is such a checkpoint", 60)
        return found[0]

    # There is no key yet: the checkpoint says so.
    checkpoint(lambda each: each.get("reason") == "0 private keys match the URI")
    with Client(f"unix:{daemon.socket}") as client:
        public = client.create_key("demo", "audit", kind, pin=PIN).public_key_pem
    (home / "public.pem").write_text(public)
    signed = checkpoint(lambda each: "signature" in each)
    # A wrong PIN is tried once.
    pin_file.write_text("wrong")
    checkpoint(lambda each: each.get("reason") == "the token refuses: CKR_PIN_INCORRECT: C_Login")
    checkpoint(lambda each: "is not tried again" in each.get("reason", ""))
    assert daemon.status()["audit"]["checkpoint"]["signed"] is False
    pin_file.write_text(pin)
    count = sum("signature" in each for each in told(path))
    until(
        lambda: checkpoint(lambda each: "signature" in each) and sum("signature" in e for e in told(path)) > count,
        "",
        60,
    )
    assert daemon.stop() == 0
    status, output = command("audit", "verify", "--key", home / "public.pem", path.parent)
    assert (status, "signed up to line" in output) == (0, True), output
    path.write_bytes(path.read_bytes().replace(signed["head"].encode(), b"0" * 64))
    assert command("audit", "verify", "--key", home / "public.pem", path.parent)[0] == 1
