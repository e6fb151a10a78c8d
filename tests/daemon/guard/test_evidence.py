"""Who somebody is: what the kernel and certificates say, and nothing else."""

import os
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from tests.authority import Authority
from tests.daemon.conftest import starting
from tests.daemon.harness import softhsm
from tests.daemon.raw import RawClient
from tests.daemon.tokens import make, slots

CONFIG = """
[listener.net]
address = "tls://127.0.0.1:0"
{server}ca = "{ca}"
[listener.open]
address = "unix:{home}/open"
mode = "0666"
[identity.root]
listener = [""]
roles = ["all"]
[identity.plant]
uri = ["spiffe://example.org/plant/*"]
listener = ["net"]
roles = ["all"]
[identity.host]
dns = ["*.plants.example"]
roles = ["all"]
[identity.mail]
email = ["ops@example.org"]
roles = ["all"]
[identity.subject]
subject = ["CN=known,O=Tests"]
roles = ["all"]
[identity.group]
group = [4711]
listener = ["open"]
roles = ["all"]
[role.all]
tokens = ["pkcs11:"]
administration = true
"""
CLIENT = """
import os, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from tests.daemon.raw import RawClient
from tests.daemon.tokens import slots
os.setgroups([int(group) for group in sys.argv[2].split()])
os.setgid(65534)
os.setuid(65534)
with RawClient(Path(sys.argv[1])) as client:
    client.initialize()
    print(bool(slots(client)))
"""


class Place:
    """A daemon, and who may come in."""

    def __init__(self, home, start):
        self.home = home
        self.authority = Authority(home)
        server = self.authority.issue("gw.test", stem="server")
        config = CONFIG.format(home=home, server=server.options, ca=self.authority.file)
        self.daemon = start(softhsm(home) + config)
        make(self.daemon, "demo")
        home.chmod(0o755)

    def seen_with(self, pair):
        """Whether a client with a certificate sees the token."""
        context = ssl.create_default_context(cafile=self.authority.file)
        context.load_cert_chain(pair.certificate, pair.key)
        address = next(each["address"] for each in self.daemon.events("listening") if each["address"].startswith("tls"))
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 20) as plain:
            client = RawClient.over(context.wrap_socket(plain, server_hostname="gw.test"))
        with client:
            client.initialize()
            return bool(slots(client))

    def identity(self):
        """Whom the last context was opened for."""
        return self.daemon.events("context opened")[-1]["identity"]


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        yield Place(Path(name), start)


@pytest.mark.parametrize(
    ("stem", "name", "identity"),
    [
        ("a", x509.UniformResourceIdentifier("spiffe://example.org/plant/7"), "plant"),
        ("b", x509.UniformResourceIdentifier("spiffe://example.org/plant/7/8"), ""),
        ("c", x509.UniformResourceIdentifier("spiffe://example.net/plant/7"), ""),
        ("d", x509.DNSName("mill.plants.example"), "host"),
        ("e", x509.DNSName("mill.plants.example.net"), ""),
        ("f", x509.DNSName("*.plants.example"), ""),
        ("g", x509.RFC822Name("ops@example.org"), "mail"),
        ("h", x509.DNSName("ops@example.org"), ""),
        ("known", x509.DNSName("nowhere.example"), "subject"),
        # A common name is no DNS name.
        ("mill.plants.example", x509.DNSName("nowhere.example"), ""),
    ],
)
def test_certificates(place, stem, name, identity):
    pair = place.authority.issue_for(stem, name)
    assert place.seen_with(pair) == bool(identity)
    assert place.identity() == identity


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("groups", "seen"),
    [([4711], True), ([4710, 4711], True), ([*range(5000, 5600), 4711], True), ([4710], False), ([], False)],
)
def test_all_groups_of_a_user(place, groups, seen):
    told = " ".join(map(str, groups))
    command = [sys.executable, "-c", CLIENT, str(place.home / "open"), told, *filter(None, sys.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"{seen}\n", done.stderr
    assert place.identity() == ("group" if seen else "")
