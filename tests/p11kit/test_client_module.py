"""The server's side against the real p11-kit-client.so, driven by OpenSC's pkcs11-tool."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.p11kit.conftest import PIN
from tests.p11kit.stock import RELEASES, Opened, Release, Server, native_answerer, stock_answerer

from keyway.config.locate import softhsm_module
from keyway.cryptoki import Null, Numbers, Room, call_named
from keyway.cryptoki.constants import CKF_OS_LOCKING_OK
from keyway.p11kit import DIALECTS

Tool = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(params=["keyway", "p11-kit remote"])
def server(request, home, conf):
    """A server that answers from a Keyway daemon, or from `p11-kit remote`."""
    opened: Opened = lambda: stock_answerer(softhsm_module(), conf)  # noqa: E731
    if request.param == "keyway":
        path = request.getfixturevalue("daemon").socket
        opened = lambda: native_answerer(path)  # noqa: E731
    with Server(home / "p.sock", opened) as server:
        yield server


@pytest.fixture(params=RELEASES, ids=lambda release: f"version {release.version}")
def release(request):
    """The client's."""
    return request.param


@pytest.fixture
def tool(server, release) -> Tool:
    def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            ["pkcs11-tool", "--module", str(release.client), *arguments],
            env=server.environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done

    return run


def direct(conf: Path, *arguments: str, status: int = 0) -> bytes:
    done = subprocess.run(
        ["pkcs11-tool", "--module", str(softhsm_module()), *arguments],
        env={"SOFTHSM2_CONF": str(conf), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


LOGIN = ("--login", "--pin", PIN)


def test_a_pair_is_made_listed_used_and_deleted(tool: Tool, server: Server, conf: Path, home: Path) -> None:
    tool(*LOGIN, "--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--label", "pair")
    listed = tool(*LOGIN, "--list-objects").stdout
    assert listed.replace(b"p11-kit-client", b"") == direct(conf, *LOGIN, "--list-objects")
    assert b"pair" in listed
    data = home / "data"
    data.write_bytes(b"to be signed")
    sign = (
        *LOGIN,
        "--sign",
        "--id",
        "01",
        "--mechanism",
        "SHA256-RSA-PKCS",
        "--input-file",
        str(data),
        "--output-file",
    )
    tool(*sign, str(home / "there"))
    direct(conf, *sign, str(home / "here"))
    assert (home / "there").read_bytes() == (home / "here").read_bytes()
    pss = ("--mechanism", "RSA-PKCS-PSS", "--hash-algorithm", "SHA256", "--id", "01")
    (home / "digest").write_bytes(bytes(32))
    tool(*LOGIN, "--sign", *pss, "--input-file", str(home / "digest"), "--output-file", str(home / "pss"))
    verify = ("--verify", *pss, "--input-file", str(home / "digest"), "--signature-file", str(home / "pss"))
    assert b"valid" in tool(*LOGIN, *verify).stdout
    tool(*LOGIN, "--delete-object", "--type", "privkey", "--id", "01")
    assert b"Private Key" not in tool(*LOGIN, "--list-objects").stdout
    assert {"C_GenerateKeyPair", "C_SignInit", "C_Sign", "C_Verify", "C_DestroyObject"} <= set(server.seen)
    assert not [entry for entry in server.seen if entry.startswith("refused")]


def test_slots_and_mechanisms(tool: Tool, conf: Path, release: Release) -> None:
    assert tool("--list-slots").stdout == direct(conf, "--list-slots")
    # The client keeps from its application what it can't send.
    listed = tool("--list-mechanisms").stdout.splitlines()[1:]
    with stock_answerer(softhsm_module(), conf) as answer:
        assert answer(call_named("C_Initialize"), 0, (0, Null(), b"")).rv == 0
        (slots,) = answer(call_named("C_GetSlotList"), 0, (1, Room(9, True))).values
        assert isinstance(slots, Numbers)
        assert slots.data
        (mechanisms,) = answer(call_named("C_GetMechanismList"), slots.data[0], (Room(99, True),)).values
        assert isinstance(mechanisms, Numbers)
        everything = mechanisms.data or ()
    assert len(everything) == 70
    assert len(listed) == sum(map(DIALECTS[release.version].serialises, everything)) == (36, 56, 56)[release.version]


def test_tools_own_tests(tool: Tool, conf: Path) -> None:
    """SoftHSM fails at the same place when nothing is in between."""
    tool(*LOGIN, "--keypairgen", "--key-type", "rsa:2048", "--id", "01")

    def outcomes(output: bytes) -> list[bytes]:
        lines = output[output.index(b"Digests:") :].splitlines()
        # Clients from 0.25 on have an empty label for none.
        return [line.removesuffix(b" ()") for line in lines if b"skipping" not in line]

    here = outcomes(direct(conf, *LOGIN, "--test", status=1))
    assert outcomes(tool(*LOGIN, "--test", status=1).stdout) == here
    assert b"  SHA256: OK" in here


def test_init_token_and_pin(tool: Tool) -> None:
    empty = tool("--list-slots").stdout.count(b"Slot ") - 1
    tool("--slot-index", str(empty), "--init-token", "--label", "second", "--so-pin", "1234567890")
    tool("--token-label", "second", "--init-pin", "--so-pin", "1234567890", "--pin", "abcdefgh")
    tool("--token-label", "second", "--login", "--pin", "abcdefgh", "--change-pin", "--new-pin", "hgfedcba")
    tool("--token-label", "second", "--login", "--pin", "hgfedcba", "--list-objects")
    done = tool("--token-label", "second", "--login", "--pin", "wrongwrong", "--list-objects", status=1)
    assert b"CKR_PIN_INCORRECT" in done.stderr


def test_what_the_client_says_of_itself(conf: Path, home: Path) -> None:
    """What the codec takes for granted of a first call."""
    received = []

    @contextmanager
    def answerer():
        with stock_answerer(softhsm_module(), conf) as answer:

            def recorded(call, target, values):
                if call.name == "C_Initialize":
                    received.append(values)
                return answer(call, target, values)

            yield recorded

    with Server(home / "p.sock", answerer) as server:
        subprocess.run(
            ["pkcs11-tool", "--module", str(RELEASES[0].client), "--list-slots"],
            env=server.environment(),
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
    assert [(values[0], repr(values[1])) for values in received] == [(CKF_OS_LOCKING_OK, "Null(length=0)")]


APPLICATION = """
import sys
from PyKCS11 import *
module, pin, structured = sys.argv[1], sys.argv[2], sys.argv[3] == "structured"
library = PyKCS11Lib()
library.load(module)
slot = next(slot for slot in library.getSlotList(True) if library.getTokenInfo(slot).label.strip() == "demo")
session = library.openSession(slot, CKF_RW_SESSION | CKF_SERIAL_SESSION)
session.login(pin)
flags = [(CKA_TOKEN, False), (CKA_SENSITIVE, False), (CKA_EXTRACTABLE, True), (CKA_ENCRYPT, True), (CKA_DECRYPT, True)]
secret = [(CKA_CLASS, CKO_SECRET_KEY), *flags]
key = session.generateKey([*secret, (CKA_KEY_TYPE, CKK_AES), (CKA_VALUE_LEN, 32)], MechanismAESGENERATEKEY)
assert len(session.getAttributeValue(key, [CKA_VALUE])[0]) == 32
assert session.getAttributeValue(key, [CKA_CLASS, CKA_SENSITIVE]) == [CKO_SECRET_KEY, False]
assert len(session.generateRandom(16)) == 16
assert session.findObjects([(CKA_CLASS, CKO_SECRET_KEY)]) != []
digest = bytes(session.digest(b"abc", Mechanism(CKM_SHA256, None)))
assert digest.hex().startswith("ba7816bf")
if structured:
    gcm = AES_GCM_Mechanism(bytes(12), b"more", 128)
    encrypted = session.encrypt(key, b"plain", gcm)
    assert len(encrypted) == 5 + 16
    assert bytes(session.decrypt(key, encrypted, gcm)) == b"plain"
    curve = bytes.fromhex("06082a8648ce3d030107")
    public, private = session.generateKeyPair(
        [(CKA_EC_PARAMS, curve), (CKA_TOKEN, False)],
        [(CKA_DERIVE, True), (CKA_TOKEN, False)],
        mecha=Mechanism(CKM_EC_KEY_PAIR_GEN, None),
    )
    point = bytes(session.getAttributeValue(public, [CKA_EC_POINT])[0])[2:]
    generic = [*secret[:4], (CKA_KEY_TYPE, CKK_GENERIC_SECRET), (CKA_VALUE_LEN, 32)]
    derived = session.deriveKey(private, generic, ECDH1_DERIVE_Mechanism(point))
    assert len(session.getAttributeValue(derived, [CKA_VALUE])[0]) == 32
session.logout()
session.closeSession()
print("done")
"""


def test_an_application(server: Server, release: Release, request: pytest.FixtureRequest) -> None:
    # 0.24.1 knows no structures but those of RSA, on either side.
    is_old = not release.version or request.node.callspec.params["server"] != "keyway"
    kind = "plain" if is_old else "structured"
    done = subprocess.run(
        [sys.executable, "-c", APPLICATION, str(release.client), PIN, kind],
        env=server.environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == b"done\n", done.stderr.decode()
