"""What comes to listeners that want tickets before anybody has shown one: any bytes, and crowds that never go on."""

import ssl
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.authority import Authority
from tests.daemon.conftest import starting
from tests.daemon.harness import softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.test_listeners_net import dial
from tests.daemon.test_strangers import CONTEXTS, MIB, NATIVE, bring_crowd, exchanged, ports_of, use
from tests.kerberos.client import HOST, GssSocket, mechanism, receive_piece
from tests.kerberos.realm import section

from keyway.transport.binding import end_point
from keyway.transport.kerberos import Initiator
from keyway.transport.pieces import MAX_TOKEN, piece

IN_TLS = 1000
"""Strangers that come with a whole TLS handshake, which takes its time."""
SIZES = st.one_of(st.integers(0, 2000), st.sampled_from((MAX_TOKEN, MAX_TOKEN + 1, 0x00FF_FFFF, 0xFFFF_FFFF)))


def pieces_like(token: bytes) -> st.SearchStrategy[bytes]:
    """What a stranger may send who knows how a good client begins."""
    tokens = st.one_of(
        st.builds(
            lambda at, byte: token[:at] + bytes([byte]) + token[at + 1 :],
            st.integers(0, len(token) - 1),
            st.integers(0, 255),
        ),
        st.builds(lambda at: token[:at], st.integers(1, len(token))),
        st.builds(lambda more: token + more, st.binary(min_size=1, max_size=40)),
        st.binary(min_size=1, max_size=80),
        st.just(token),
    )
    told = st.one_of(
        tokens.map(piece),
        st.builds(lambda size, body: size.to_bytes(4, "big") + body, SIZES, tokens),
        NATIVE,
        st.binary(max_size=80),
    )
    return st.lists(told, max_size=4).map(b"".join)


@pytest.fixture(scope="module")
def in_realm(shared_realm):
    """The whole file is in the realm, with the ticket of alice."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**shared_realm.environment, **shared_realm.ticket("alice")}.items():
            patch.setenv(name, value)
        yield shared_realm


@pytest.fixture(scope="module")
def place(in_realm):
    """A daemon with a listener for tickets, one for tickets inside TLS, and one for gateways that offer, and how to connect there."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        home = Path(name)
        authority = Authority(home)
        offers = section(in_realm).replace("[listener.net]", "[listener.offers]") + 'protocol = "offer"\n'
        daemon = start(softhsm(home) + section(in_realm) + in_tls(in_realm, authority) + offers)
        gss, offered = ports_of(daemon, "gss")
        (tls,) = ports_of(daemon, "tls")

        context = trusting(authority)

        def good():
            inside = with_ticket(dialled("tls", tls, context))
            for client in (RawClient.over(GssSocket(dial(gss))), RawClient.over(inside), RawClient(daemon.socket)):
                with client:
                    use(client)

        yield daemon, {"gss": gss, "offer": offered, "tls": tls}, context, good


def in_tls(realm, authority):
    return (
        '[listener.tls]\naddress = "tls://127.0.0.1:0"\nclient_certificates = "none"\nkerberos = true\n'
        f'keytab = "{realm.keytab}"\n{authority.issue(HOST, stem="server").options}'
    )


def trusting(authority):
    return ssl.create_default_context(cafile=authority.file)


def with_ticket(connection):
    """Show a ticket inside TLS."""
    end = Initiator("", HOST, None).begin(end_point(connection.getpeercert(binary_form=True)))
    connection.sendall(piece(end.step(b"")))
    while not end.is_complete:
        end.step(receive_piece(connection))
    return connection


def dialled(kind, port, context):
    """A connection on which the next thing is a token."""
    connection = dial(port)
    return context.wrap_socket(connection, server_hostname=HOST) if kind == "tls" else connection


@pytest.mark.parametrize("kind", ["gss", "offer", "tls"])
def test_any_bytes(place, kind):
    daemon, ports, context, good = place
    good()
    before = daemon.memory()

    @given(pieces_like(mechanism().step(b"")) | st.binary(max_size=300), st.integers(1, 400))
    def come(data: bytes, size: int) -> None:
        parts = [data[at : at + size] for at in range(0, len(data), size)][:40]
        assert exchanged(dialled(kind, ports[kind], context), parts) < 64 * 1024

    come()
    good()
    assert daemon.memory() - before < 32 * MIB
    until(lambda: daemon.status()["connections"] == 1, "no connection stays but the one that asks")


def test_a_token_of_the_greatest_length_takes_no_memory_for_long(place):
    daemon, ports, _, good = place
    good()
    before = daemon.memory()
    for _ in range(200):
        exchanged(dial(ports["gss"]), [piece(bytes(MAX_TOKEN))])
    good()
    assert daemon.memory() - before < 32 * MIB


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["gss", "tls"])
def test_crowds_that_say_half_a_thing(in_realm, kind):
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        home = Path(name)
        authority = Authority(home)
        config = section(in_realm) if kind == "gss" else in_tls(in_realm, authority)
        daemon = start(softhsm(home, spares=0) + config + f"[limits]\ncontexts = {CONTEXTS}\ngreeting = 3600\n")
        (port,) = ports_of(daemon, kind)
        context = trusting(authority)
        token = piece(mechanism().step(b""))

        def good():
            connection = dialled(kind, port, context)
            return RawClient.over(GssSocket(connection) if kind == "gss" else with_ticket(connection))

        bring_crowd(
            daemon,
            lambda: dialled(kind, port, context),
            lambda: token[: len(token) // 2],
            good,
            **({} if kind == "gss" else {"many": IN_TLS}),
        )
