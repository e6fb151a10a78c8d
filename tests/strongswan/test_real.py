"""What is rendered, with everything that can be in it, is loaded by the real swanctl and the real starter."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.tokens import PIN
from tests.strongswan.authority import IkeAuthority
from tests.strongswan.charon import BASE, PATIENCE, PLUGINS, Charon
from tests.strongswan.gateway import MEMBERS, Gateway, make_keys
from tests.strongswan.network import Machine
from tests.strongswan.test_render import PIN as ODD_PIN
from tests.strongswan.test_render import edge

from keyway.config.locate import module_library
from keyway.strongswan.options import Setup
from keyway.strongswan.render import Profile, files
from keyway.strongswan.write import write

pytestmark = pytest.mark.timeout(240)
STARTER, STROKE = "/usr/lib/ipsec/starter", "/usr/lib/ipsec/stroke"
KEYS = {"vault": ("one", "0001"), "old": ("two", "0002")}
"""For each token of the file: the member of the pool that is used for it, and the key."""


@pytest.fixture(scope="module")
def gateway(tunnels: None, home: Path) -> Iterator[Gateway]:
    """A gateway with two tokens that have the same keys, and different PINs."""
    machine = Machine("192.0.2.1", "10.1.0.1")
    made = Gateway(machine, home / "moon", make_keys(home / "keys"), "moon", tls=False)
    made.start()
    authority = IkeAuthority(home)
    made.store("rsa", authority.issue("edge", made.public("rsa")))
    made.store("ec", authority.issue("edge.example.org", made.public("ec")))
    made.tool("--change-pin", "--new-pin", ODD_PIN, slot=MEMBERS["two"])
    authority.file.rename(home / "company ca.pem")
    yield made
    made.stop()
    machine.close()


@pytest.fixture(scope="module")
def setup(gateway: Gateway, home: Path) -> Setup:
    """What is kept as golden files, with tokens that are there. An identity that is a DN must be a certificate's subject."""
    text = (Path(__file__).with_name("golden") / "edge.toml").read_text()
    for old, new in (
        ("/usr/lib/keyway/libkeyway.so", str(module_library())),
        ("/etc/keyway/company ca.pem", str(home / "company ca.pem")),
        ("C=DE, O=Example, CN=edge", "CN=edge"),
        ('slot = 17\npin = "pin 7391#for=tests"', f'slot = {MEMBERS["one"]}\npin = "{PIN}"'),
        ("slot = 18", f'slot = {MEMBERS["two"]}\npin = "{ODD_PIN}"'),
        ('id = "0A01"', 'id = "0001"'),
        ('id = "02"', 'id = "0002"'),
    ):
        assert old in text
        text = text.replace(old, new)
    return edge(text)


def test_swanctl(gateway, setup, home):
    write(files(setup, Profile.SWANCTL), home / "swanctl")
    environment = {"KEYWAY_ADDRESS": f"unix:{gateway.socket}"}
    charon = Charon(gateway.machine, home / "charon", home / "swanctl" / "strongswan.conf", environment)
    try:
        told = charon.swanctl("--load-all", "--noprompt", "--file", str(home / "swanctl" / "swanctl.conf"))
        for line in (
            "loaded key token-site from token",
            "loaded key token-road from token",
            "loaded authority 'company'",
            "loaded pool 'road'",
            "loaded connection 'site'",
            "loaded connection 'road'",
        ):
            assert line in told
        connections = charon.swanctl("--list-conns")
        for line in (
            "id: CN=edge",
            "id: C=DE, O=Example, CN=branch",
            "198.51.100.7",
            "2001:db8::7",
            "reauthentication every 86400s",
        ):
            assert line in connections
        assert charon.swanctl("--list-certs", "--type", "x509").count("has private key") == len(KEYS)
        assert "10.3.0.0" in charon.swanctl("--list-pools")
    finally:
        charon.stop()


def test_starter(gateway, setup, home):
    write(files(setup, Profile.IPSEC_CONF), home / "ipsec")
    with starter(gateway, home) as (inside, log):
        until(lambda: log().count("added configuration") == 2, "both connections are loaded", PATIENCE)
        assert log().count("loaded private key from %smartcard") == len(KEYS)
        assert "added child to existing configuration" in log()
        listed = subprocess.run([*inside, STROKE, "listcerts"], capture_output=True, text=True, check=True).stdout
        assert listed.count("has private key") == len(KEYS)
        status = subprocess.run([*inside, STROKE, "statusall"], capture_output=True, text=True, check=True).stdout
        for name in setup.children:
            assert f"{name}:" in status
        assert "10.3.0.0/24" in status


@contextmanager
def starter(gateway: Gateway, home: Path) -> Iterator[tuple[tuple[str, ...], Callable[[], str]]]:
    """A starter with a charon and a /run of its own; yields what is put before a command to run there, and its log."""
    conf = home / "starter.conf"
    stroke = (
        f"charon {{\n  plugins {{\n    stroke {{\n      secrets_file = {home}/ipsec/ipsec.secrets\n    }}\n  }}\n}}\n"
    )
    base = BASE.format(plugins=f"{PLUGINS} stroke", home=home / "started", module=home / "ipsec" / "strongswan.conf")
    (home / "started").mkdir(exist_ok=True)
    (home / "started" / "log").unlink(missing_ok=True)
    conf.write_text(base + stroke)
    script = f"mount -t tmpfs none /run && exec {STARTER} --nofork --conf {home}/ipsec/ipsec.conf"
    process = subprocess.Popen(
        [*gateway.machine.inside, "unshare", "--mount", "--", "sh", "-c", script],
        env={
            "PATH": os.environ["PATH"],
            "STRONGSWAN_CONF": str(conf),
            "OPENSSL_ENGINES": str(home),
            "KEYWAY_ADDRESS": f"unix:{gateway.socket}",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def log() -> str:
        assert process.poll() is None, process.stderr
        with suppress(FileNotFoundError):
            return (home / "started" / "log").read_text()
        return ""

    try:
        yield ("nsenter", "--target", str(process.pid), "--mount", "--net", "--"), log
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
