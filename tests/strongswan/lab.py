"""Two IPsec gateways from nothing: machines, daemons, certificates, rendered files, charons."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.daemon.harness import KEYWAY, until
from tests.daemon.pool.tokens import PIN
from tests.strongswan.authority import IkeAuthority
from tests.strongswan.charon import PATIENCE, Charon
from tests.strongswan.gateway import KEYS, P11_KIT_CLIENT, SLOT, Gateway, make_keys
from tests.strongswan.network import Machine, cable
from vici.exception import CommandException

from keyway.config.locate import module_library

MOON, SUN = "moon", "sun"
PROPOSAL = "aes128-sha256-ecp256"


class Peer:
    """One of the two: its machine, its daemon, its charon.

    Attributes:
        name: What it is called; its certificates are for `KEY-NAME`.
        gateway: Its daemon.
        charon: Its charon.
    """

    def __init__(self, name: str, machine: Machine, home: Path, module: Path) -> None:
        self.name = name
        self.home = home
        self.machine = machine
        self.gateway = Gateway(machine, home, make_keys(home / "keys"), name)
        self.config = home / "strongswan.toml"
        self.rendered = home / "rendered" / "swanctl.conf"
        self._module = module
        self._charon: Charon | None = None
        self.certificates: dict[str, bytes] = {}

    @property
    def charon(self) -> Charon:
        assert self._charon is not None
        return self._charon

    @property
    def environment(self) -> dict[str, str]:
        """What charon needs to find the daemon."""
        if self._module == P11_KIT_CLIENT:
            return {"P11_KIT_SERVER_ADDRESS": f"unix:path={self.gateway.p11_kit}"}
        return self.gateway.tls

    def certify(self, authority: IkeAuthority) -> None:
        """Give both keys certificates, in the tokens."""
        for key in KEYS:
            self.renew(key, authority)

    def renew(self, key: str, authority: IkeAuthority) -> None:
        """Give a key another certificate, in the token."""
        self.certificates[key] = authority.issue(f"{key}-{self.name}", self.gateway.public(key))
        self.gateway.store(key, self.certificates[key])

    def describe(self, other: "Peer", authority: IkeAuthority) -> None:
        """Write the file that `keyway strongswan` reads: a connection for each kind of key."""
        text = f"""
[module]
path = "{self._module}"
[token.{self.name}]
slot = {SLOT}
pin = "{PIN}"
[authority.lab]
certificate = "{authority.file}"
"""
        for key, identifier in KEYS.items():
            text += f"""
[key.{key}]
id = "{identifier}"
[connection.{key}]
key = "{key}"
local_addrs = ["{self.machine.address}"]
remote_addrs = ["{other.machine.address}"]
local_id = "CN={key}-{self.name}"
remote_id = "CN={key}-{other.name}"
remote_ca = "lab"
proposals = ["{PROPOSAL}"]
[child.{key}]
connection = "{key}"
local_ts = ["{self.machine.inner}/32"]
remote_ts = ["{other.machine.inner}/32"]
esp_proposals = ["{PROPOSAL}"]
"""
        self.config.write_text(text)
        self.keyway("render", "--profile", "swanctl", "-o", str(self.rendered.parent), str(self.config))

    def keyway(self, *arguments: str) -> str:
        """Run a command of `keyway strongswan`, which must end well, and return what it printed."""
        process = self.begin(*arguments)
        output, errors = process.communicate()
        assert process.returncode == 0, f"keyway strongswan {arguments}: {output}{errors}{self._log()}"
        return output

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin to run a command of `keyway strongswan`."""
        return subprocess.Popen(
            [*self.machine.inside, *KEYWAY, "strongswan", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
        )

    def start_charon(self) -> None:
        """Start charon with the rendered files."""
        module = self.rendered.with_name("strongswan.conf")
        self._charon = Charon(self.machine, self.home / "charon", module, self.environment)

    def load(self) -> None:
        """Let the real swanctl load the rendered files."""
        self.charon.swanctl("--load-all", "--noprompt", "--file", str(self.rendered))

    def _log(self) -> str:
        return self._charon.log() if self._charon is not None else ""

    def close(self) -> None:
        """End charon and daemon."""
        if self._charon is not None:
            self._charon.stop()
        self.gateway.stop()
        self.machine.close()


class Lab:
    """Moon and sun. Moon's charon has libkeyway.so and TLS, sun's p11-kit-client.so and p11-kit's protocol."""

    def __init__(self, home: Path) -> None:
        self.authority = IkeAuthority(home)
        machines = Machine("192.0.2.1", "10.1.0.1"), Machine("192.0.2.2", "10.2.0.1")
        cable(*machines)
        self.moon = Peer(MOON, machines[0], home / MOON, module_library())
        self.sun = Peer(SUN, machines[1], home / SUN, P11_KIT_CLIENT)
        self.peers = self.moon, self.sun
        for peer in self.peers:
            peer.gateway.start()
            peer.certify(self.authority)
        for peer, other in (self.peers, self.peers[::-1]):
            peer.describe(other, self.authority)

    def start_charons(self) -> None:
        """Start both charons and let them load what was rendered."""
        for peer in self.peers:
            peer.start_charon()
            peer.load()

    def initiate(self, key: str) -> None:
        """Let moon set up the tunnel."""
        list(self.moon.charon.vici.initiate({"child": key, "timeout": str(int(PATIENCE * 1000))}))

    def terminate(self, key: str) -> None:
        """Let moon take the tunnel down, and wait until it is down on both sides."""
        for peer in self.peers:
            if peer.charon.sas(key):
                with suppress(CommandException):  # The other side has ended it meanwhile.
                    list(peer.charon.vici.terminate({"ike": key, "timeout": str(int(PATIENCE * 1000))}))
        until(lambda: not any(peer.charon.sas(key) for peer in self.peers), "the tunnel is down", PATIENCE)

    def is_up(self, key: str) -> bool:
        """Whether the tunnel is up on both sides, once."""
        return all(_is_up(peer.charon.sas(key)) for peer in self.peers)

    def settle(self) -> None:
        """Let all be as at the beginning, whatever a test has left."""
        for peer in self.peers:
            peer.gateway.settle()
        for key in KEYS:
            if self.moon.charon.sas(key) or self.sun.charon.sas(key):
                self.terminate(key)

    @contextmanager
    def tunnel(self, key: str) -> Iterator[None]:
        """A tunnel through which packets go."""
        self.initiate(key)
        self.until_up(key)
        self.passes()
        yield
        self.terminate(key)

    def until_up(self, key: str) -> None:
        """Wait until the tunnel is up on both sides, once."""
        until(lambda: self.is_up(key), "the tunnel is up", PATIENCE)

    def reauthenticate(self, key: str) -> None:
        """Let both sides prove anew who they are, and wait until the tunnel is up again."""
        self.until_reauthenticated(key, self.begin_reauthentication(key))

    def begin_reauthentication(self, key: str) -> bytes:
        """Let both sides begin to prove anew who they are; return the number of the SA that ends."""
        (before,) = self.moon.charon.sas(key)
        self.moon.charon.vici.rekey({"ike": key, "reauth": "yes"})
        number: bytes = before["uniqueid"]
        return number

    def until_reauthenticated(self, key: str, before: bytes) -> None:
        """Wait until the tunnel is up again with another SA."""

        def is_done() -> bool:
            sas = self.moon.charon.sas(key)
            return _is_up(sas) and sas[0]["uniqueid"] != before and self.is_up(key)

        until(is_done, "both sides have proved anew who they are", PATIENCE)

    def passes(self) -> None:
        """Wait until packets go through the tunnel."""
        until(lambda: self.moon.machine.reaches(self.sun.machine), "packets go through the tunnel", PATIENCE)

    def close(self) -> None:
        """End everything."""
        for peer in self.peers:
            peer.close()


def _is_up(sas: list[dict[str, Any]]) -> bool:
    if len(sas) != 1 or sas[0]["state"] != b"ESTABLISHED":
        return False
    children = sas[0]["child-sas"].values()
    return len(children) == 1 and all(each["state"] == b"INSTALLED" for each in children)
