"""Tickets inside TLS, bound to the certificate of the gateway."""

import asyncio
import hashlib
import ssl

import pytest
from tests.authority import Authority
from tests.daemon.harness import softhsm, until
from tests.daemon.tokens import make
from tests.kerberos.client import HOST, port_of
from tests.transport.ends import Noting

from keyway.address import Tls
from keyway.transport.binding import end_point
from keyway.transport.connect import connect
from keyway.transport.errors import ConnectError
from keyway.transport.kerberos import Initiator
from keyway.transport.tls import Credentials

NAME = "gw.test"


@pytest.fixture
def authority(home):
    return Authority(home)


@pytest.fixture
def daemon(start, home, realm, authority):
    daemon = start(
        softhsm(home)
        + '[listener.net]\naddress = "tls://127.0.0.1:0"\nclient_certificates = "none"\n'
        + authority.issue(NAME, stem="server").options
        + f'kerberos = true\nkeytab = "{realm.keytab}"\n'
    )
    make(daemon, "demo")
    return daemon


class Files:
    """TLS that trusts a CA."""

    certificate = key = crl = None

    def __init__(self, ca):
        self.ca = ca


def greeted(daemon, authority, kerberos):
    """Connect, say hello, and return what answers."""

    async def test():
        transport, end = await connect(
            Tls("127.0.0.1", port_of(daemon, "tls")),
            Noting,
            credentials=Credentials(Files(authority.file), is_server=False),
            server_name=NAME,
            kerberos=kerberos,
            seconds=20,
        )
        try:
            transport.write(b"\x81")
            await end.until(lambda: end.data or end.lost.done())
            return bytes(end.data)
        finally:
            transport.abort()
            await end.end()

    return asyncio.run(test())


class Unbound:
    """Shows a ticket that is bound to something else."""

    def __init__(self, binding):
        self._binding = binding

    def begin(self, _):
        return Initiator("", HOST, None).begin(self._binding)


def reason(daemon):
    until(lambda: daemon.events("connection refused"), "the refusal is in the log")
    return daemon.events("connection refused")[-1]["reason"]


def test_who_has_a_ticket_is_let_in(daemon, authority, alice):
    assert greeted(daemon, authority, Initiator("", HOST, None)) == b"\x81"


def test_who_has_none_is_not(daemon, authority):
    with pytest.raises(ConnectError, match="there is no ticket"):
        greeted(daemon, authority, Initiator("", HOST, None))


def test_who_does_not_know_that_one_is_wanted_is_not(daemon, authority, alice):
    assert greeted(daemon, authority, None) == b""
    assert "does not speak GSS-API" in reason(daemon)


@pytest.mark.parametrize("binding", [b"", b"tls-server-end-point:of another server"])
def test_a_ticket_that_somebody_passes_on_is_refused(daemon, authority, alice, binding):
    with pytest.raises(ConnectError):
        greeted(daemon, authority, Unbound(binding))
    assert "bind" in reason(daemon)


def test_the_binding_is_by_the_hash_of_the_certificate(authority):
    pair = authority.issue(NAME)
    text = pair.certificate.read_text()
    der = ssl.PEM_cert_to_DER_cert(text[: text.index("-----END") + len("-----END CERTIFICATE-----")])
    assert end_point(der) == b"tls-server-end-point:" + hashlib.sha256(der).digest()
