"""Clients with an identity each: they come in by a listener of their own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.daemon.harness import RunningDaemon
from tests.daemon.pool.app import App
from tests.daemon.raw import RawClient

NAMES = (
    "owner",
    "signer",
    "reader",
    "stranger",
    "left",
    "right",
    "few",
    "slow",
    "guesser",
    "blind",
    "crawler",
    "single",
)

CONFIG = (
    "".join(f'[listener.{name}]\naddress = "unix:{{home}}/{name}"\n' for name in NAMES)
    + """
[token.vault]
backend = "hsm"
label = "vault"
slot = 3
[token.other]
backend = "hsm"
label = "other"
slot = 4
[identity.root]
listener = [""]
roles = ["all"]
[identity.owner]
listener = ["owner"]
roles = ["all"]
[identity.signer]
listener = ["signer"]
roles = ["rsa-only"]
[identity.reader]
listener = ["reader"]
roles = ["reader"]
[identity.left]
listener = ["left"]
roles = ["left"]
[identity.right]
listener = ["right"]
roles = ["right"]
[identity.few]
listener = ["few"]
roles = ["few"]
[identity.slow]
listener = ["slow"]
roles = ["slow"]
[identity.guesser]
listener = ["guesser"]
roles = ["reader"]
[identity.blind]
listener = ["blind"]
roles = ["blind"]
[role.blind]
tokens = ["vault"]
functions = ["random"]
[identity.single]
listener = ["single"]
roles = ["reader"]
contexts = 1
[identity.crawler]
listener = ["crawler"]
roles = ["crawler"]
[role.crawler]
tokens = ["vault"]
operations_per_second = 1
[role.few]
tokens = ["vault"]
sessions = 2
[role.slow]
tokens = ["vault"]
operations_per_second = 20
[role.all]
tokens = ["pkcs11:"]
administration = true
export = true
[role.rsa-only]
tokens = ["vault"]
objects = [{{label = "rsa"}}]
mechanisms = ["CKM_RSA_PKCS", "CKM_SHA256_RSA_PKCS"]
functions = ["find", "sign"]
[role.reader]
tokens = ["vault"]
read_only = true
[role.left]
tokens = ["vault"]
objects = [{{label = "left-*"}}]
[role.right]
tokens = ["vault"]
objects = [{{label = "right-*"}}]
"""
)
SLOT, OTHER = 3, 4


class Guests:
    """The daemon, and its clients.

    Attributes:
        daemon: The daemon.
    """

    def __init__(self, daemon: RunningDaemon, home: Path) -> None:
        self.daemon = daemon
        self._home = home

    def connect(self, name: str) -> RawClient:
        """A client that comes in as somebody and has no context yet."""
        return RawClient(self._home / name)

    def app(self, name: str, slot: int = SLOT, **options: Any) -> App:
        """A client that comes in as somebody."""
        place: Any = SimpleNamespace(socket=self._home / name)
        return App(place, slot, **options)
