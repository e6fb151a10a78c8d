"""A Keyway daemon on each side of the tunnel: a pool of two tokens with the same keys, for charon's module."""

import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.authority import Authority
from tests.daemon.harness import KEYWAY, RunningDaemon, until
from tests.daemon.pool.members import signal_to
from tests.daemon.pool.tokens import PIN, member, original
from tests.strongswan.network import Here, Machine

from keyway.config.locate import module_library

P11_KIT_CLIENT = next(Path("/usr/lib").glob("*/pkcs11/p11-kit-client.so"), Path("p11-kit-client.so"))
PORT = 5658
SLOT = 17
PATIENCE = 60.0
MEMBERS = {"one": 1, "two": 2}
"""Slots in which its owner sees the members of the pool."""
KEYS = {"rsa": "0001", "ec": "0002"}
"""CKA_ID of each key pair by its label."""

MAKE = """
import sys, pkcs11
from pkcs11 import Attribute, KeyType
from pkcs11.util.ec import encode_named_curve_parameters
module, pin = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label="vault")
with token.open(user_pin=pin, rw=True) as session:
    session.generate_keypair(KeyType.RSA, 2048, id=bytes.fromhex("0001"), label="rsa", store=True)
    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True)
    parameters.generate_keypair(id=bytes.fromhex("0002"), label="ec", store=True, mechanism_param=None)
"""


def make_keys(home: Path) -> Path:
    """Make a token with an RSA and a P-256 key pair; return where it is."""
    home.mkdir(parents=True)
    original(home, MAKE)
    return home


class Gateway:
    """A daemon in a machine.

    Attributes:
        machine: Where it runs.
        home: Where its files are.
        daemon: The running daemon.
    """

    def __init__(self, machine: Machine | Here, home: Path, keys: Path, name: str, *, tls: bool = True) -> None:
        """Write its configuration.

        Args:
            machine: Where it runs.
            home: Directory for its files; the path must be short.
            keys: What `make_keys` returned.
            name: Label of the token that clients see.
            tls: Whether it listens at a port of the machine, too.
        """
        self.machine = machine
        self.home = home
        self.name = name
        home.mkdir(exist_ok=True)
        self.socket = home / "k.sock"
        self.p11_kit = home / "p11kit"
        authority = Authority(home)
        server, client = authority.issue("127.0.0.1", "localhost"), authority.issue("charon")
        self.tls = {
            "KEYWAY_ADDRESS": f"tls://127.0.0.1:{PORT}",
            "KEYWAY_CA": str(authority.file),
            "KEYWAY_CERTIFICATE": str(client.certificate),
            "KEYWAY_KEY": str(client.key),
            "KEYWAY_RENEWAL": "60",
        }
        members = "".join(member(home, keys, each, spares=0) for each in ("one", "two"))
        self._config = f"""
[log]
format = "json"
{members}
[token.{name}]
members = ["pkcs11:token=vault?backend=one", "pkcs11:token=vault?backend=two"]
slot = {SLOT}
deadline = 20
[token.one]
backend = "one"
label = "vault"
slot = {MEMBERS["one"]}
[token.two]
backend = "two"
label = "vault"
slot = {MEMBERS["two"]}
[listener.p11kit]
address = "unix:{self.p11_kit}"
protocol = "p11-kit"
tokens = ["pkcs11:token={name}"]
first_slot = {SLOT}
"""
        if tls:
            self._config += f"""
[listener.tls]
address = "tls://127.0.0.1:{PORT}"
{server.options}ca = "{authority.file}"
tokens = ["pkcs11:token={name}"]
first_slot = {SLOT}
"""
        self.daemon: RunningDaemon | None = None

    def start(self) -> None:
        """Start it; it serves when this returns."""
        for path in (self.socket, self.p11_kit):
            path.unlink(missing_ok=True)
        self.daemon = RunningDaemon(self.home, self._config, program=(*self.machine.inside, *KEYWAY))

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        assert self.daemon
        hosts = self.daemon.hosts()
        self.daemon.process.kill()
        self.daemon.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in hosts), "its module hosts are gone")

    def lose(self, name: str) -> None:
        """Let a member of the pool be gone: its token's files are taken away and its processes killed."""
        (self.home / f"tokens-{name}").rename(self.home / f"lost-{name}")
        assert self.daemon
        own = f"SOFTHSM2_CONF={self.home / name}.conf".encode()
        for pid in self.daemon.hosts():
            with suppress(OSError):
                if own in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    signal_to(pid, 9)

    def settle(self) -> None:
        """Let it run, with all members, and wait until they serve."""
        for name in MEMBERS:
            if (lost := self.home / f"lost-{name}").exists():
                lost.rename(self.home / f"tokens-{name}")
        if self.daemon is None or self.daemon.process.poll() is not None:
            self.start()
        until(lambda: all(self.member(name)["state"] == "up" for name in MEMBERS), "all members serve", PATIENCE)

    def member(self, name: str) -> dict:
        """A member, as `keyway status` shows it."""
        assert self.daemon
        members = self.daemon.status()["pools"][self.name]["members"]
        return next(each for each in members if each["member"] == name)

    def tool(self, *arguments: str, slot: int = SLOT) -> str:
        """Run pkcs11-tool through the gateway, logged in; return what it prints."""
        command = [
            "pkcs11-tool",
            "--module",
            str(module_library()),
            "--slot",
            str(slot),
            "--login",
            "--pin",
            PIN,
            *arguments,
        ]
        environment = {**os.environ, "KEYWAY_ADDRESS": f"unix:{self.socket}"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def public(self, key: str) -> bytes:
        """The public key of a pair, as DER."""
        path = self.home / f"{key}.pub"
        self.tool("--read-object", "--type", "pubkey", "--id", KEYS[key], "--output-file", str(path))
        return path.read_bytes()

    def store(self, key: str, certificate: bytes) -> None:
        """Put a certificate beside a key, in the place of one that is there, in all members of the pool."""
        path = self.home / f"{key}.der"
        path.write_bytes(certificate)
        named = ("--type", "cert", "--id", KEYS[key])
        for slot in MEMBERS.values():
            if re.search(rf"ID: +{KEYS[key]}\b", self.tool("--list-objects", "--type", "cert", slot=slot)):
                self.tool("--delete-object", *named, slot=slot)
            self.tool("--write-object", str(path), *named, "--label", key, slot=slot)

    def stop(self) -> None:
        """End it, if it runs."""
        if self.daemon is not None:
            self.daemon.stop()
