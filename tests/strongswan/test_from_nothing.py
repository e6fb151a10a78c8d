"""From an empty HSM to a tunnel, as the first users do it: the API makes token, key and request, a CA signs, the API stores, strongSwan is configured."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.openssl import Ca
from tests.api.running import PIN, RunningApi, compatible
from tests.daemon.harness import KEYWAY, RunningDaemon, softhsm, until
from tests.strongswan.charon import PATIENCE, Charon
from tests.strongswan.gateway import P11_KIT_CLIENT
from tests.strongswan.network import Machine, cable

from keyway.config.locate import module_library

pytestmark = pytest.mark.timeout(300)
KINDS = {"moon": "rsa:2048", "sun": "EC:prime256v1"}


class Site:
    """One end: what it asks the API for, and its charon."""

    def __init__(
        self, home: Path, name: str, machine: Machine, api: RunningApi, ca: Ca, module: Path, address: str
    ) -> None:
        self.name, self.machine = name, machine
        self._home = home / name
        self._home.mkdir()
        self._api, self._ca, self._module, self._address = api, ca, module, address
        self.config = self._home / "edge.toml"

    def certify(self) -> None:
        """Have a certificate, and a key if there is none, and a token if there is none."""
        pair = {"pair": {"key_type": KINDS[self.name]}}
        request = self._api.ask("POST", "/pkcs11/csr", compatible(self.name, token=self.name, **pair))
        assert request.status == 200, request.text
        pem = self._ca.sign(request.text)
        stored = self._api.ask("POST", "/pkcs11/cert", compatible(self.name, token=self.name, pem=pem, **pair))
        assert (stored.status, stored.text) == (200, "success")

    def configure(self, other: "Site") -> None:
        """Write what charon shall do, and start it."""
        self.config.write_text(f"""
[module]
path = "{self._module}"
address = "{self._address}"
[token.{self.name}]
label = "{self.name}"
pin = "{PIN}"
[key.node]
id = "0001"
[authority.ca]
certificate = "{self._ca.certificate}"
[connection.edge]
local_addrs = ["{self.machine.address}"]
remote_addrs = ["{other.machine.address}"]
local_id = "CN={self.name}"
remote_id = "CN={other.name}"
[child.edge]
local_ts = ["{self.machine.inner}/32"]
remote_ts = ["{other.machine.inner}/32"]
""")
        self.run("render", "--profile", "swanctl", "-o", self._home)
        variable, _, value = (self._home / "charon.env").read_text().splitlines()[1].partition("=")
        self.charon = Charon(
            self.machine, self._home / "charon", self._home / "strongswan.conf", {variable: value.strip('"')}
        )
        self.charon.swanctl("--load-all", "--noprompt", "--file", str(self._home / "swanctl.conf"))

    def run(self, command: str, *arguments: object) -> str:
        """Run a command of `keyway strongswan`, which must end well."""
        whole = [*self.machine.inside, *KEYWAY, "strongswan", command, str(self.config), *map(str, arguments)]
        done = subprocess.run(whole, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with nothing in it."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture
def api(tunnels: None, home: Path) -> Iterator[RunningApi]:
    """A daemon over an empty HSM, with p11-kit's protocol, too, and the API in front of it."""
    listener = f'[listener.p11kit]\naddress = "unix:{home}/p11kit"\nprotocol = "p11-kit"\n'
    entrance = '[api]\naddress = "tcp://127.0.0.1:0"\nanonymous = "compatible"\n'
    daemon = RunningDaemon(home, f'[log]\nformat = "json"\n{softhsm(home)}{listener}{entrance}')
    made = RunningApi(home, home / "keyway.toml")
    yield made
    made.stop()
    daemon.stop()


@pytest.fixture
def sites(api: RunningApi, home: Path) -> Iterator[tuple[Site, Site]]:
    """Moon with libkeyway.so, sun with p11-kit-client.so."""
    machines = Machine("192.0.2.1", "10.1.0.1"), Machine("192.0.2.2", "10.2.0.1")
    cable(*machines)
    ca = Ca(home)
    moon = Site(home, "moon", machines[0], api, ca, module_library(), f"unix:{home}/k.sock")
    sun = Site(home, "sun", machines[1], api, ca, P11_KIT_CLIENT, f"unix:path={home}/p11kit")
    yield moon, sun
    for site in (moon, sun):
        if hasattr(site, "charon"):
            site.charon.stop()
        site.machine.close()


def test_a_tunnel(sites):
    moon, sun = sites
    for site in sites:
        site.certify()
    for site, other in (sites, sites[::-1]):
        site.configure(other)
        assert ": good:" in site.run("check", "--login", "--pid", site.charon.process.pid)

    list(moon.charon.vici.initiate({"child": "edge", "timeout": str(int(PATIENCE * 1000))}))
    until(lambda: moon.machine.reaches(sun.machine), "packets go through the tunnel", PATIENCE)

    moon.certify()
    assert "of edge: replaced by" in moon.run("apply", "--rotate", "--vici", moon.charon.socket)
    until(lambda: moon.machine.reaches(sun.machine), "packets go through the tunnel", PATIENCE)
