"""Stock clients with their tools, at the real daemon. tests/fidelity runs whole suites of applications the same way."""

import os
import subprocess
from collections.abc import Callable

import pytest
from tests.daemon.harness import backend, softhsm
from tests.daemon.tokens import PIN
from tests.front.conftest import Front, listener

from keyway.cryptoki import Numbers, Room
from keyway.cryptoki.constants import CKM_AES_CMAC, CKM_RSA_PKCS, CKM_SHA256_RSA_PKCS
from keyway.cryptoki.names import mechanism_name
from keyway.p11kit import DIALECTS

Tool = Callable[..., bytes]
LOGIN = ("--token-label", "demo", "--login", "--pin", PIN)


@pytest.fixture
def tool(front, release) -> Tool:
    """Runs pkcs11-tool and returns what it prints."""

    def run(*arguments: str, status: int = 0) -> bytes:
        done = subprocess.run(
            ["pkcs11-tool", "--module", str(release.client), *arguments],
            env={**os.environ, **front.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


def test_keys_are_made_listed_used_and_deleted(tool, home):
    tool(*LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "02", "--label", "curve")
    tool(*LOGIN, "--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--label", "pair")
    assert tool(*LOGIN, "--list-objects").count(b"pair") == 2
    data, digest, signature = home / "data", home / "digest", home / "signature"
    data.write_bytes(b"to be signed")
    digest.write_bytes(bytes(32))
    for id_, mechanism, given in (
        ("01", ("SHA256-RSA-PKCS",), data),
        ("01", ("RSA-PKCS-PSS", "--hash-algorithm", "SHA256"), digest),
        ("02", ("ECDSA",), digest),
    ):
        about = ("--id", id_, "--mechanism", *mechanism, "--input-file", str(given))
        tool(*LOGIN, "--sign", *about, "--output-file", str(signature))
        assert b"Signature is valid" in tool(*LOGIN, "--verify", *about, "--signature-file", str(signature))
        signature.write_bytes(signature.read_bytes()[:-1] + bytes([signature.read_bytes()[-1] ^ 1]))
        assert b"Invalid signature" in tool(*LOGIN, "--verify", *about, "--signature-file", str(signature))
    tool(*LOGIN, "--delete-object", "--type", "privkey", "--id", "01")
    assert tool(*LOGIN, "--list-objects").count(b"pair") == 1


def test_data_is_written_and_read(tool, home):
    data, back = home / "data", home / "back"
    data.write_bytes(os.urandom(4000))
    tool(*LOGIN, "--write-object", str(data), "--type", "data", "--label", "blob", "--private")
    tool(*LOGIN, "--read-object", "--type", "data", "--label", "blob", "--output-file", str(back))
    assert back.read_bytes() == data.read_bytes()
    assert b"blob" not in tool("--token-label", "demo", "--list-objects")


def test_tokens_and_pins(tool, front):
    with front.connect() as client:
        client.initialize()
        empty = len(client.slots()) - 1
    tool("--slot-index", str(empty), "--init-token", "--label", "second", "--so-pin", "1234567890")
    second = ("--token-label", "second")
    tool(*second, "--init-pin", "--so-pin", "1234567890", "--pin", "abcdefgh")
    tool(*second, "--login", "--pin", "abcdefgh", "--change-pin", "--new-pin", "hgfedcba")
    tool(*second, "--login", "--pin", "hgfedcba", "--list-objects")
    wrong = tool(*second, "--login", "--pin", "wrongwrong", "--list-objects", status=1)
    assert b"CKR_PIN_INCORRECT" in wrong
    for secret in ("1234567890", "abcdefgh", "hgfedcba", "wrongwrong"):
        assert secret not in front.daemon.log()


def test_what_the_client_hides_is_told_once(tool, front, release):
    assert tool("--list-mechanisms") == tool("--list-mechanisms")
    with front.connect(release.version) as client:
        client.initialize()
        slot = client.slot_of("demo")
        (listed,) = client.good("C_GetMechanismList", Room(200, True), target=slot)
        assert isinstance(listed, Numbers)
        # The list is whole: what a client hides is its own affair.
        assert len(listed.data or ()) == 70
    shown = len(tool("--list-mechanisms").splitlines()) - 2
    (entry,) = front.daemon.events("mechanisms hidden by the client")
    assert entry["level"] == "info"
    assert (entry["listener"], entry["backend"], entry["version"]) == ("front", "softhsm", release.version)
    assert entry["count"] == 70 - shown
    names = entry["mechanisms"].split(",")
    dialect = DIALECTS[release.version]
    for mechanism in (CKM_AES_CMAC, CKM_RSA_PKCS, CKM_SHA256_RSA_PKCS):
        is_hidden = mechanism_name(mechanism).removeprefix("CKM_") in names
        assert is_hidden is not dialect.serialises(mechanism)
    assert entry["reason"]


def test_each_backend_and_each_dialect_is_told(start, home):
    """Several backends behind one listener, and clients of two dialects."""
    front = Front(start(softhsm(home, "one") + softhsm(home, "two") + listener(home)), home / "front")
    for version in (0, 2, 0):
        with front.connect(version) as client:
            client.initialize()
            for slot in client.slots():
                client.good("C_GetMechanismList", Room(200, True), target=slot)
    told = [(entry["backend"], entry["version"]) for entry in front.daemon.events("mechanisms hidden by the client")]
    assert sorted(told) == [("one", 0), ("one", 2), ("two", 0), ("two", 2)]


def test_who_uses_it_is_in_the_log(tool, front):
    tool("--list-slots")
    entry = front.daemon.events("context opened")[-1]
    assert entry["application"] == "p11-kit client"
    assert entry["program"].endswith("pkcs11-tool")


def test_a_module_that_is_not_there(start, home, release):
    front = Front(start(backend("gone", home / "none.so") + listener(home)), home / "front")
    done = subprocess.run(
        ["pkcs11-tool", "--module", str(release.client), "--list-slots"],
        env={**os.environ, **front.variables},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"No slot" in done.stdout + done.stderr or b"no slot" in done.stdout + done.stderr, done
