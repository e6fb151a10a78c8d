"""The server's side against the real p11-kit-client.so, driven by OpenSC's pkcs11-tool."""

import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.p11kit.conftest import PIN
from tests.p11kit.stock import CLIENT_MODULE, Opened, Server, native_answerer, stock_answerer

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


@pytest.fixture
def tool(server) -> Tool:
    def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            ["pkcs11-tool", "--module", str(CLIENT_MODULE), *arguments],
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


def test_slots_and_mechanisms(tool: Tool, conf: Path) -> None:
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
    assert len(listed) == sum(map(DIALECTS[0].serialises, everything)) == 36


def test_tools_own_tests(tool: Tool, conf: Path) -> None:
    """SoftHSM fails at the same place when nothing is in between."""
    tool(*LOGIN, "--keypairgen", "--key-type", "rsa:2048", "--id", "01")

    def outcomes(output: bytes) -> list[bytes]:
        lines = output[output.index(b"Digests:") :].splitlines()
        return [line for line in lines if b"skipping" not in line]

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
            ["pkcs11-tool", "--module", str(CLIENT_MODULE), "--list-slots"],
            env=server.environment(),
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
    assert [(values[0], repr(values[1])) for values in received] == [(CKF_OS_LOCKING_OK, "Null(length=0)")]
