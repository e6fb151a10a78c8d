"""Calls in the audit log: who did what with which key, and what came of it."""

import json
import socket
import tempfile
from pathlib import Path

import pytest
from tests.audit.logs import verified
from tests.daemon.conftest import starting
from tests.daemon.guard.guests import CONFIG, Guests
from tests.daemon.harness import until
from tests.daemon.pool import tokens
from tests.daemon.pool.app import WRITE, App
from tests.daemon.pool.tokens import PIN
from tests.daemon.pool.writer import template

from keyway.cryptoki import RV, Mechanism, Null
from keyway.cryptoki.constants import (
    CKA_LABEL,
    CKA_TOKEN,
    CKA_VALUE_LEN,
    CKM_AES_KEY_GEN,
    CKM_ECDSA,
    CKU_USER,
)


class Recorded(Guests):
    """Guests of a daemon with an audit log."""

    def __init__(self, daemon, home):
        super().__init__(daemon, home)
        self.path = home / "audit" / "audit.jsonl"

    def records(self, call=""):
        lines = self.path.read_bytes().splitlines(keepends=True)[1:]
        told = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [each for each in told if each.get("call") and (not call or each["call"] == call)]

    def until(self, call, number=1):
        """Wait until calls of a function are recorded, and return the last one."""
        until(lambda: len(self.records(call)) >= number, f"{number} of {call} are recorded")
        return self.records(call)[-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("made")
    tokens.original(home)
    return home


@pytest.fixture
def recorded(made):
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        home = Path(name)
        (home / "audit").mkdir()

        def begin(config=CONFIG, audit='file = "{home}/audit/audit.jsonl"'):
            more = f"[audit]\n{audit}\n".format(home=home)
            return Recorded(start(tokens.member(home, made, "hsm") + config.format(home=home) + more), home)

        yield begin


def shown(record):
    left = ("time", "seq", "hash", "duration_us", "request", "context")
    assert record["context"]
    assert record["duration_us"] >= 0
    return {name: value for name, value in record.items() if name not in left}


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_a_signature(recorded, fused):
    guests = recorded()
    with guests.app("signer") as app:
        assert app.signed(app.object("rsa"), fused=fused) == RV.CKR_OK
        key = {"object": "private key 'rsa' id 01", "mechanism": "CKM_SHA256_RSA_PKCS"}
        who = {"event": "call", "identity": "signer", "token": "vault"}
        assert shown(guests.until("C_Sign")) == {**who, **key, "call": "C_Sign", "rv": "CKR_OK"}
        assert shown(guests.until("C_Login")) == {**who, "call": "C_Login", "rv": "CKR_OK"}
    assert guests.daemon.stop() == 0
    assert verified(guests.path).is_good
    assert PIN not in guests.path.read_text()


def test_in_parts(recorded):
    guests = recorded()
    with guests.app("owner") as app:
        app.good("C_SignInit", Mechanism(0x40, Null()), app.object("rsa"), target=1)
        app.good("C_SignUpdate", b"some ", target=1)
        app.output("C_SignFinal")
        record = guests.until("C_SignFinal")
        assert (record["object"], record["mechanism"]) == ("private key 'rsa' id 01", "CKM_SHA256_RSA_PKCS")


def test_what_is_made(recorded):
    guests = recorded()
    with guests.app("owner", flags=WRITE) as app:
        made = template({CKA_LABEL: b"fresh", CKA_VALUE_LEN: 32, CKA_TOKEN: b"\1"})
        (_, handle) = app.good("C_GenerateKey", Mechanism(CKM_AES_KEY_GEN, Null()), made, 0, target=1)
        record = guests.until("C_GenerateKey")
        assert (record["mechanism"], record["object"]) == ("CKM_AES_KEY_GEN", "object 'fresh'")
        app.good("C_DestroyObject", handle, target=1)
        assert guests.until("C_DestroyObject")["object"] == "secret key 'fresh'"


def test_what_is_refused(recorded):
    guests = recorded()
    with guests.app("signer") as app:
        assert app.signed(app.object("rsa"), mechanism=Mechanism(CKM_ECDSA, Null())) == RV.CKR_MECHANISM_INVALID
        record = guests.until("C_SignInit")
        assert (record["event"], record["identity"], record["rv"]) == ("refused", "signer", "CKR_MECHANISM_INVALID")
        assert record["mechanism"] == "CKM_ECDSA"


def test_what_fails(recorded):
    guests = recorded()
    with guests.app("owner", login=False) as app:
        assert app.call("C_Login", CKU_USER, b"wrong-pin", target=1)[0] == RV.CKR_PIN_INCORRECT
        assert guests.until("C_Login")["rv"] == "CKR_PIN_INCORRECT"


def test_without_identities_it_is_the_user(recorded):
    guests = recorded('[token.vault]\nbackend = "hsm"\nlabel = "vault"\nslot = 0\n')
    with App(guests.daemon) as app:
        assert app.signed(app.object("rsa")) == RV.CKR_OK
        record = guests.until("C_Sign")
        assert record["identity"].startswith("uid ")
        assert record["object"] == "private key 'rsa' id 01"


def test_nothing_is_signed_that_can_not_be_recorded(recorded, tmp_path):
    path = tmp_path / "syslog"
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(path))
    guests = recorded(audit=f'syslog = "{path}"')
    with guests.app("signer") as app:
        key = app.object("rsa")
        assert app.signed(key) == RV.CKR_OK
        log.close()
        path.unlink()
        until(lambda: app.signed(key) == RV.CKR_DEVICE_ERROR, "no more is signed")
        assert len(app.find()) == 2  # What is not recorded goes on.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
            again.bind(str(path))
            until(lambda: app.signed(key) == RV.CKR_OK, "it is signed again")
