"""Applications with real modules: libkeyway.so, and the client module of p11-kit."""

import os
import subprocess
import sys

import pytest
from tests.daemon.pool.test_applications import MODULES
from tests.daemon.views.conftest import running
from tests.daemon.views.tenants import PINS
from tests.front.conftest import listener

_APPLICATION = """
import sys, threading
import PyKCS11
from PyKCS11 import LowLevel as low

module, *pins = sys.argv[1:]
library = PyKCS11.PyKCS11Lib()
library.load(module)
(slot,) = [each for each in library.getSlotList(tokenPresent=True) if library.getTokenInfo(each).label.strip(" \\0") == "vault"]
mechanism = PyKCS11.Mechanism(low.CKM_SHA256_RSA_PKCS, None)
one, two = [library.openSession(slot, low.CKF_SERIAL_SESSION) for _ in range(2)]
assert one.findObjects() == []
for pin in pins:
    one.login(pin)
    failed = []
    def log_in():
        try:
            two.login(pins[0])
        except PyKCS11.PyKCS11Error as error:
            failed.append(error.value)
    thread = threading.Thread(target=log_in)
    thread.start()
    thread.join()
    assert failed == [low.CKR_USER_ALREADY_LOGGED_IN], failed
    for session in one, two:
        found = session.findObjects([(low.CKA_CLASS, low.CKO_PRIVATE_KEY)])
        labels = [session.getAttributeValue(key, [low.CKA_LABEL])[0] for key in found]
        signatures = {bytes(session.sign(found[0], b"data", mechanism)) for _ in range(5)}
        assert len(signatures) == 1
        print(*labels, flush=True)
    one.logout()
    assert two.findObjects() == []
    try:
        two.sign(found[0], b"data", mechanism)
    except PyKCS11.PyKCS11Error as error:
        assert error.value in (low.CKR_USER_NOT_LOGGED_IN, low.CKR_KEY_HANDLE_INVALID), error
    else:
        raise AssertionError("a key can be used without a login")
"""


@pytest.fixture(scope="module")
def gateway(made):
    """A daemon with a listener for p11-kit's clients, too."""

    def more(text):
        home = text.split('select = "')[1].split("/alice.pin")[0]
        front = '[identity.front]\nlistener = ["front"]\nroles = ["guest"]\n'
        return (
            text.replace("[identity.root]", f"{front}[identity.root]", 1)
            + listener(home)
            + "[limits]\npin_attempts = 50\n"
        )

    with running(made) as begin:
        yield begin(more)


@pytest.fixture(params=MODULES)
def module(request, gateway):
    """Path of a module, and the environment that it needs."""
    home = gateway.home
    environment = {"KEYWAY_ADDRESS": f"unix:{home}/guest", "P11_KIT_SERVER_ADDRESS": f"unix:path={home}/front"}
    return str(MODULES[request.param]), {**os.environ, **environment}


def tool(module, *arguments):
    path, environment = module
    command = ["pkcs11-tool", "--module", path, "--token-label", "vault", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_pkcs11_tool(module, tmp_path):
    data, signature = tmp_path / "data", tmp_path / "signature"
    data.write_bytes(b"data")
    for view, name in (("alice", "a"), ("bob", "b")):
        login = ("--login", "--pin", PINS[view])
        listed = tool(module, *login, "--list-objects")
        assert listed.returncode == 0, listed.stderr
        assert {line.split()[-1] for line in listed.stdout.splitlines() if line.startswith("  label:")} == {
            f"{name}-rsa",
            f"{name}-aes",
        }
        sign = ("--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "01")
        signed = tool(module, *login, *sign, "--input-file", str(data), "--output-file", str(signature))
        assert signed.returncode == 0, signed.stderr
        assert len(signature.read_bytes()) == 256
    listed = tool(module, "--list-objects")
    assert (listed.returncode, listed.stdout.strip()) == (0, "")
    wrong = tool(module, "--login", "--pin", "no such pin", "--list-objects")
    assert "CKR_PIN_INCORRECT" in wrong.stderr


def test_several_sessions_threads_and_pins(module):
    path, environment = module
    pins = [PINS["alice"], PINS["bob"], PINS["alice"]]
    done = subprocess.run(
        [sys.executable, "-c", _APPLICATION, path, *pins], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["a-rsa"] * 2 + ["b-rsa"] * 2 + ["a-rsa"] * 2
