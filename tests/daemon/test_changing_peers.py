"""Who a client is was settled when it connected. What it becomes afterwards changes nothing, and a certificate that means two things means nothing."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.authority import Authority, Pair
from tests.daemon.harness import DEADLINE, RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.test_listeners_net import dial, port_of, tls_listener
from tests.daemon.test_strangers import HELLO
from tests.daemon.tokens import make, slots

ROLES = (
    '[role.all]\ntokens = ["pkcs11:"]\nadministration = true\n[identity.machine]\nlistener = [""]\nroles = ["all"]\n'
)
GROUP = 4711


@pytest.fixture
def authority(home):
    return Authority(home)


def identity(name: str, condition: str) -> str:
    return f'[identity.{name}]\n{condition}\nroles = ["all"]\n'


def context_for(authority: Authority, *pairs: Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    for pair in pairs:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def connect(daemon: RunningDaemon, context: ssl.SSLContext) -> RawClient:
    return RawClient.over(context.wrap_socket(dial(port_of(daemon, "tls")), server_hostname="gw.test"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change groups")
@pytest.mark.parametrize(
    ("before", "then", "seen"),
    [
        ("os.setgroups([4711])", "os.setgroups([])", True),
        ("os.setgroups([])", "os.setgroups([4711])", False),
        ("os.setgroups([]); os.setegid(4711)", "os.setegid(0)", True),
        ("os.setgroups([])", "os.setegid(4711)", False),
    ],
)
def test_groups(start, home, before, then, seen):
    daemon = start(
        softhsm(home)
        + f'[listener.door]\naddress = "unix:{home}/door"\n'
        + ROLES
        + identity("in", f"group = [{GROUP}]")
    )
    make(daemon, "demo")
    script = (
        "import os, sys; from pathlib import Path; from tests.daemon.raw import RawClient; from tests.daemon.tokens import slots\n"
        f"{before}\n"
        "with RawClient(Path(sys.argv[1])) as client:\n"
        f"    {then}\n"
        "    client.initialize()\n"
        "    print(len(slots(client)))\n"
    )
    top = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(top)}
    command = [sys.executable, "-c", script, str(home / "door")]
    done = subprocess.run(command, cwd=top, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) > 0) is seen


def test_another_certificate(start, home, authority):
    daemon = start(softhsm(home) + tls_listener(authority) + ROLES + identity("alice", 'dns = ["alice"]'))
    make(daemon, "demo")
    alice, bob = authority.issue("alice"), authority.issue("bob")
    context = context_for(authority, bob)
    context.post_handshake_auth = True
    with connect(daemon, context) as client:
        client.initialize()
        assert not slots(client)
        context.load_cert_chain(alice.certificate, alice.key)
        client.good("C_Finalize")
        client.initialize()
        assert not slots(client)
        (seen,) = daemon.contexts()
        assert seen["certificate"] == "bob"
        # TLS 1.3 has no renegotiation: another greeting is no part of a connection.
        with socket.socket(fileno=os.dup(client.socket.fileno())) as plain:
            plain.settimeout(DEADLINE)
            plain.sendall(HELLO)
            with contextlib.suppress(ConnectionError):
                while plain.recv(65536):
                    pass
    until(lambda: not daemon.contexts(), "the context is closed")


NAMES = {
    "NUL behind a name": (x509.DNSName("alice\0.example.org"),),
    "NUL in a name that matches": (x509.DNSName("a\0b.apps.test"),),
    "wildcard": (x509.DNSName("*.apps.test"),),
    "any name": (x509.DNSName("*"),),
    "NUL in a URI": (x509.UniformResourceIdentifier("spiffe://apps.test/sa/web\0"),),
    "NUL in an address": (x509.RFC822Name("alice@apps.test\0"),),
    "only as a common name": (),
}
CONDITIONS = {
    "dns": '"alice", "*.apps.test"',
    "uri": '"spiffe://apps.test/sa/*"',
    "email": '"alice@apps.test"',
}


def test_names_that_mean_nothing(start, home, authority):
    rules = "".join(identity(kind, f"{kind} = [{values}]") for kind, values in CONDITIONS.items())
    daemon = start(softhsm(home) + tls_listener(authority) + ROLES + rules)
    make(daemon, "demo")
    good = authority.issue_as("good", x509.DNSName("web.apps.test"))
    with connect(daemon, context_for(authority, good)) as client:
        client.initialize()
        assert slots(client)
    for number, (what, names) in enumerate(NAMES.items()):
        odd = authority.issue_as(f"odd-{number}", *names, common_name="" if names else "alice")
        with connect(daemon, context_for(authority, odd)) as client:
            client.initialize()
            assert not slots(client), what


REFUSED: dict[str, dict[str, Any]] = {
    "not valid yet": {"days": (1, 2)},
    "valid no more": {"days": (-2, -1)},
    "for servers": {"usage": ExtendedKeyUsageOID.SERVER_AUTH},
    "for mail": {"usage": ExtendedKeyUsageOID.EMAIL_PROTECTION},
    "signed by itself": {"is_self_signed": True},
}


def more_than(daemon: RunningDaemon, refusals: int) -> bool:
    return len(daemon.events("connection refused")) > refusals


def test_certificates_that_are_refused(start, home, authority):
    daemon = start(softhsm(home) + tls_listener(authority))
    make(daemon, "demo")
    alice = x509.DNSName("alice")
    pairs = {what: authority.issue_as(what.replace(" ", "-"), alice, **how) for what, how in REFUSED.items()}
    pairs["with a long chain"] = long = authority.issue_as("long", alice)
    long.certificate.write_bytes(long.certificate.read_bytes() + 400 * authority.file.read_bytes())
    for what, pair in pairs.items():
        refusals = daemon.events("connection refused")
        with pytest.raises((OSError, EOFError)):  # noqa: PT012
            with connect(daemon, context_for(authority, pair)) as client:
                client.initialize()
            pytest.fail(what)
        until(partial(more_than, daemon, len(refusals)), what)
        assert daemon.events("connection refused")[-1]["reason"]
        with connect(daemon, context_for(authority, authority.issue("alice"))) as client:
            client.initialize()
