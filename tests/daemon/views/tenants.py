"""Two SoftHSM tokens with a tenant's keys each, and a token whose PIN tells which of the two is meant."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.daemon.harness import RunningDaemon
from tests.daemon.pool.app import App
from tests.daemon.pool.tokens import SO_PIN, configuration

from keyway.config.locate import softhsm_module
from keyway.cryptoki.constants import CKA_LABEL

SLOT = 5
PINS = {"alice": "pin-of-alice-4711", "bob": "pin-of-bob-0815", "clerk": "pin-of-clerk-2342"}
"""What clients give."""
TENANTS = {"tenant-a": "a-own-pin-5150", "tenant-b": "b-own-pin-6061"}
"""The PINs of the tokens themselves."""
OF_A = ["a-aes", "a-rsa", "a-rsa"]
OF_B = ["b-aes", "b-rsa", "b-rsa"]
OF_CLERK = ["a-rsa", "a-rsa"]

_MAKE = """
import sys, pkcs11
from pkcs11 import KeyType
module, label, pin = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label=label)
with token.open(user_pin=pin, rw=True) as session:
    name = label[-1]
    session.generate_keypair(KeyType.RSA, 2048, id=b"\\x01", label=f"{name}-rsa", store=True)
    session.generate_key(KeyType.AES, 256, id=b"\\x03", label=f"{name}-aes", store=True)
"""

NAMES = ("guest", "guesser", "second")
"""Identities; each comes in by a listener of its own."""

CONFIG = (
    "".join(f'[listener.{name}]\naddress = "unix:{{home}}/{name}"\n' for name in NAMES)
    + "".join(f'[identity.{name}]\nlistener = ["{name}"]\nroles = ["guest"]\n' for name in NAMES)
    + """
[listener.narrow]
address = "unix:{home}/narrow"
[identity.narrow]
listener = ["narrow"]
roles = ["keys"]
[role.guest]
tokens = ["vault"]
administration = true
export = true
[role.keys]
tokens = ["vault"]
objects = [{{class = "private"}}, {{class = "secret-key"}}]
[listener.elsewhere]
address = "unix:{home}/elsewhere"
[identity.elsewhere]
listener = ["elsewhere"]
roles = ["plain"]
[role.plain]
tokens = ["plain-a"]
[identity.root]
listener = [""]
roles = ["all"]
[role.all]
tokens = ["pkcs11:"]
administration = true
export = true
[role.signer]
tokens = ["vault"]
objects = [{{label = "a-rsa"}}]
mechanisms = ["RSA"]
functions = ["find", "sign"]
read_only = true
[token.vault]
slot = 5
views = ["alice", "bob", "clerk"]
[token.plain-a]
backend = "look"
label = "tenant-a"
slot = 6
[view.alice]
token = "pkcs11:token=tenant-a?backend=hsm"
select = "{home}/alice.pin"
pin_file = "{home}/tenant-a.pin"
[view.bob]
token = "pkcs11:token=tenant-b?backend=hsm"
select = "{home}/bob.pin"
pin_file = "{home}/tenant-b.pin"
[view.clerk]
token = "pkcs11:token=tenant-a?backend=hsm"
select = "{home}/clerk.pin"
pin_file = "{home}/tenant-a.pin"
roles = ["signer"]
"""
)


def made(folder: Path) -> Path:
    """Make the tokens in a folder, and return that where they are."""
    environment = {**os.environ, "SOFTHSM2_CONF": str(configuration(folder, "tenants"))}
    module = str(softhsm_module())
    for label, pin in TENANTS.items():
        make = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", pin]
        subprocess.run([*make, "--module", module], env=environment, check=True, capture_output=True)
        subprocess.run([sys.executable, "-c", _MAKE, module, label, pin], env=environment, check=True)
    return folder / "tokens-tenants"


def backends(home: Path, tenants: Path, **options: object) -> str:
    """Return the [backend] section of a module that has copies of the tokens, and that of another one which looks at the same."""
    conf = configuration(home, "hsm")
    shutil.copytree(tenants, home / "tokens-hsm", dirs_exist_ok=True)
    lines = [f"{key} = {value}" for key, value in options.items()]
    module = f'module = "{softhsm_module()}"\nenvironment = {{ SOFTHSM2_CONF = "{conf}" }}'
    return "\n".join(["[backend.hsm]", module, *lines, "[backend.look]", module, "spares = 0", ""])


def write_pin(path: Path, pin: str) -> None:
    """Write a file with a PIN, in one go."""
    half = path.with_name(f"{path.name}-half")
    half.write_text(f"{pin}\n")
    half.chmod(0o600)
    half.replace(path)


class Tenants:
    """The daemon, and its clients.

    Attributes:
        daemon: The daemon.
        home: Where its files are.
    """

    def __init__(self, daemon: RunningDaemon, home: Path) -> None:
        self.daemon = daemon
        self.home = home

    def app(self, view: str = "", name: str = "guest", *, slot: int = SLOT, **options: Any) -> App:
        """A client, logged in with the PIN of a view if one is named."""
        place: Any = SimpleNamespace(socket=self.home / name)
        app = App(place, slot, login=False, **options)
        if view:
            log_in(app, view)
        return app


def log_in(app: App, view: str, session: int = 1) -> None:
    """Log in with the PIN of a view."""
    app.login(PINS[view], session=session)


def labels(app: App, session: int = 1) -> list[str]:
    """The labels of all objects that a client finds."""
    return sorted(app.attribute(each, CKA_LABEL, session=session).decode() for each in app.find(session=session))
