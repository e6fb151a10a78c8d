"""The end of an audit log: a daemon that is told to stop has it signed first."""

import json
import signal
import subprocess

import pytest
from tests.daemon.harness import KEYWAY, until
from tests.daemon.pool.app import App
from tests.daemon.pool.tokens import PIN

ROLES = '[identity.all]\nanyone = true\nroles = ["all"]\n[role.all]\ntokens = ["pkcs11:"]\n'


@pytest.fixture
def audited(start, member, home, request):
    """A daemon with an audit log that a key on its token signs, and the token. Signing may take a minute, or what the test says."""
    drain = getattr(request, "param", 60)
    pin_file = home / "pin"
    pin_file.write_text(PIN)
    pin_file.chmod(0o600)
    (home / "audit").mkdir()
    one = member("one")
    audit = (
        f'[limits]\nending = 0.5\ndrain = {drain}\n[audit]\nfile = "{home}/audit/audit.jsonl"\ncheckpoint_pin_file = "{pin_file}"\n'
        'checkpoint_key = "pkcs11:token=vault;object=ec"\n'
    )
    daemon = start(one.section + one.plain + ROLES + audit)
    one.at(daemon)
    return daemon, one


def keyway(*arguments):
    done = subprocess.run([*KEYWAY, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def events(home):
    lines = (home / "audit" / "audit.jsonl").read_text().splitlines()[1:]
    return [json.loads(line) for line in lines]


def test_the_log_is_signed_to_its_end(audited, home):
    daemon, _ = audited
    with App(daemon, 0) as app:
        app.sign(app.object("rsa"))
    status, public = keyway("key", "public", "--socket", daemon.socket, "--pin-file", home / "pin", "vault", "ec")
    assert status == 0, public
    (home / "public.pem").write_text(public)
    assert daemon.stop() == 0
    *before, checkpoint = events(home)
    stop = next(each["seq"] for each in before if each["event"] == "stop")
    # What is behind the stop is what the signature took.
    assert [each["call"] for each in before[stop:]] == ["C_Login", "C_Sign"]
    assert checkpoint["of"] == stop
    status, output = keyway("audit", "verify", "--key", home / "public.pem", home / "audit")
    assert (status, f"signed up to line {stop}, by the last line" in output) == (0, True), output
    assert daemon.events("audit log not signed to its end") == []
    # And again: the chain goes on.
    daemon.start()
    assert daemon.stop() == 0
    status, output = keyway("audit", "verify", "--key", home / "public.pem", home / "audit")
    assert (status, "by the last line" in output) == (0, True), output


@pytest.mark.parametrize("function", ["C_Sign", "C_Initialize"])
@pytest.mark.parametrize("audited", [0.5], indirect=True)
def test_a_token_that_does_not_answer_does_not_hold_up_the_end(audited, home, function):
    daemon, one = audited
    one.does(function, "hang")
    assert daemon.stop() == 0
    assert daemon.events("audit log not signed to its end")
    assert events(home)[-1]["event"] in ("stop", "call")
    assert "signature" not in (home / "audit" / "audit.jsonl").read_text()


def test_who_is_told_twice_does_not_wait_for_a_signature(audited, home):
    daemon, one = audited
    one.does("C_Sign", "hang")
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: one.calls("C_Sign"), "the token is asked")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(20) == 0
    assert daemon.events("audit log not signed to its end")


def test_a_key_that_is_not_there_is_told(audited, home):
    daemon, one = audited
    one.does("C_Login", "rv 0xa0")
    assert daemon.stop() == 0
    assert events(home)[-1]["reason"] == "the token refuses: CKR_PIN_INCORRECT: C_Login"
