"""Applications with real modules: libkeyway.so, and the client module of p11-kit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.app import WRITE, App
from tests.daemon.pool.tokens import LABEL, PIN
from tests.front.conftest import listener
from tests.p11kit.stock import RELEASES

from keyway.cryptoki import RV, Attribute
from keyway.cryptoki.constants import CKA_CLASS, CKA_LABEL, CKA_PRIVATE, CKA_TOKEN, CKO_DATA

LIBKEYWAY = Path(__file__).parent.parent.parent.parent / "target" / "release" / "libkeyway.so"
MODULES = {"libkeyway": LIBKEYWAY, "p11-kit-client": RELEASES[0].client}

NOTE = (
    Attribute(CKA_CLASS, CKO_DATA),
    Attribute(CKA_TOKEN, b"\1"),
    Attribute(CKA_PRIVATE, b"\0"),
    Attribute(CKA_LABEL, b"another note"),
)

_APPLICATION = """
import sys
import PyKCS11
from PyKCS11 import LowLevel as low

module, label, pin = sys.argv[1:]
library = PyKCS11.PyKCS11Lib()
library.load(module)
slots = library.getSlotList(tokenPresent=True)
slot = next(slot for slot in slots if library.getTokenInfo(slot).label.strip(" \\0") == label)
session = library.openSession(slot, low.CKF_SERIAL_SESSION)
session.login(pin)
find = lambda kind: session.findObjects([(low.CKA_CLASS, kind), (low.CKA_LABEL, "rsa")])[0]
key, public = find(low.CKO_PRIVATE_KEY), find(low.CKO_PUBLIC_KEY)
mechanism = PyKCS11.Mechanism(low.CKM_SHA256_RSA_PKCS, None)
print("ready", flush=True)
for line in sys.stdin:
    command = line.strip()
    if command == "sign":
        print(bytes(session.sign(key, b"data", mechanism)).hex(), flush=True)
    elif command == "verify":
        signature = session.sign(key, b"data", mechanism)
        print(session.verify(public, b"data", signature, mechanism), flush=True)
    elif command == "list":
        print(len(session.findObjects()), flush=True)
    elif command == "open":
        session = library.openSession(slot, low.CKF_SERIAL_SESSION)
        print("open", flush=True)
session.logout()
session.closeSession()
"""


class Application:
    """A process that does what it is told. It must end well with its `with` block."""

    def __init__(self, module: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _APPLICATION, str(module), LABEL, PIN],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def __enter__(self):
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()
        assert kind is not None or self._process.returncode == 0

    def does(self, command: str) -> str:
        """Have it do something, and return what comes of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.endswith("\n"), "it has ended"
        return line.strip()


@pytest.fixture(params=MODULES)
def running(request, pool, home):
    """A pool, and an application that uses it."""
    pools = pool(deadline=20, more=listener(home))
    environment = {
        "KEYWAY_ADDRESS": f"unix:{pools.daemon.socket}",
        "P11_KIT_SERVER_ADDRESS": f"unix:path={home}/front",
    }
    with Application(MODULES[request.param], environment) as application:
        yield pools, application


def test_it_does_not_notice_when_members_fail(running):
    pools, application = running
    one, two = pools.members
    objects = application.does("list")
    signatures = {application.does("sign") for _ in range(3)}
    for killed in [one], [two], [one, two]:
        for each in killed:
            each.kill()
        signatures.add(application.does("sign"))
    assert len(signatures) == 1

    # Signing takes one round trip by now, and goes on in the middle of it.
    for words in "exit", "exit-after", f"rv {RV.CKR_DEVICE_ERROR:#x}", f"rv {RV.CKR_SESSION_HANDLE_INVALID:#x}":
        one.does("C_Sign", words)
        signatures.add(application.does("sign"))
        one.behaves()
    assert len(signatures) == 1
    for each in one, two:
        each.kill()
        assert application.does("verify") == "True"
    for each in one, two:
        each.kill()
        assert application.does("list") == objects
    assert application.does("open") == "open"
    assert {application.does("sign")} == signatures


def test_what_others_change_is_seen(running):
    pools, application = running
    before = int(application.does("list"))
    with App(pools.daemon, 1, flags=WRITE) as plain:
        plain.good("C_CreateObject", NOTE, 0, target=1)
    until(lambda: int(application.does("list")) == before + 1, "the new object is found")
