"""Servers of all releases, and answers in the order in which they come."""

import threading

import pytest
from tests.back.relay import Relay
from tests.back.remotes import Remote, section
from tests.daemon.raw import RawClient
from tests.daemon.tokens import generate_rsa, login, open_session, slot_of
from tests.p11kit.stock import RELEASES

from keyway.cryptoki import RV, Attribute, Mechanism, Null, Room, call_named
from keyway.cryptoki import constants as c
from keyway.p11kit import Frame, pack
from keyway.wire import decode_reply, encode_request
from keyway.wire.ahead import READ_AHEAD, Query, ReadAhead, decode_findings, encode_read_ahead


@pytest.fixture
def relay(home, far):
    """Makes a relay in front of `p11-kit remote`, and returns it with the section of a backend."""
    relays = []

    def begin(**options):
        relay = Relay(home / "relay.sock", far.remote_command(), far.environment, **options)
        relays.append(relay)
        return relay, section("far", address=relay.address, protocol="p11-kit")

    yield begin
    for relay in relays:
        with relay:
            pass


def sign(client, private, session=1):
    client.good("C_SignInit", Mechanism(c.CKM_SHA256_RSA_PKCS), private, target=session)
    (signed,) = client.good("C_Sign", b"hello", Room(300, True), target=session)
    return signed.data


def rsa_key(client):
    id_ = generate_rsa(client, 1)
    reply = client.receive()
    assert reply.header.id == id_
    return int.from_bytes(reply.body[-8:])


def test_a_server_that_closes_on_all_but_0(start, relay):
    """p11-kit up to 0.24.0."""
    old, section = relay(greet=lambda offer: offer if offer == b"\0" else None)
    daemon = start(section)
    for connections in (2, 4):
        with RawClient(daemon.socket) as client:
            client.initialize()
            open_session(client, slot_of(client, "demo"))
            login(client, 1)
            assert len(sign(client, rsa_key(client))) == 256
        # The far end may be newer next time, so it is asked anew.
        assert old.offers == [b"\2", b"\0"] * (connections // 2)


def test_a_server_that_answers_too_much(start, relay):
    _, section = relay(greet=lambda offer: offer, answer=lambda answer: b"\3")
    daemon = start(section)
    with RawClient(daemon.socket) as client:
        client.initialize()
    (error, *_) = daemon.events("connection can't be made")
    assert "began with b'\\x03'" in error["reason"]


@pytest.mark.parametrize("kind", ["command", "server"])
@pytest.mark.parametrize("release", RELEASES, ids=lambda release: f"version {release.version}")
def test_every_release(start, home, conf, release, kind):
    with Remote(home, conf, release) as remote:
        daemon = start(remote.section(kind))
        with RawClient(daemon.socket) as client:
            client.initialize()
            open_session(client, slot_of(client, "demo"))
            login(client, 1)
            assert len(sign(client, rsa_key(client))) == 256


def test_calls_of_several_sessions_are_in_flight_and_answered_in_any_order(start, relay):
    held: list[Frame] = []
    both = threading.Event()

    def reversed_(frame):
        # The first two answers, once it begins, change places.
        if not both.is_set():
            return pack(frame)
        held.append(frame)
        if len(held) < 2:
            return b""
        both.clear()
        return pack(held[1]) + pack(held[0])

    _, section = relay(altered=reversed_)
    daemon = start(section)
    with RawClient(daemon.socket) as client:
        client.initialize()
        slot = slot_of(client, "demo")
        open_session(client, slot, 1)
        open_session(client, slot, 2)
        both.set()
        first = client.send_call("C_GetSessionInfo", True, target=1)
        second = client.send_call("C_GetSessionInfo", True, target=2)
        assert [(reply.header.id, reply.header.rv) for reply in (client.receive(), client.receive())] == [
            (second, RV.CKR_OK),
            (first, RV.CKR_OK),
        ]


@pytest.mark.parametrize("kind", ["command", "gateway by tls", "p11-kit by tls"])
def test_what_is_read_ahead(start, far, kind):
    """p11-kit has no call for that: the queries are made one behind the other. Other extension calls are refused."""
    daemon = start(far.section(kind))
    with RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slot_of(client, "demo"))
        login(client, session)
        call = call_named("C_GetAttributeValue")
        template = (Attribute(c.CKA_LABEL, Null(0)), Attribute(c.CKA_CLASS, Null(0)))
        objects = [
            client.good(
                "C_CreateObject", (Attribute(c.CKA_CLASS, c.CKO_DATA), Attribute(c.CKA_LABEL, label)), 0, target=session
            )
            for label in (b"one", b"another")
        ]
        handles = tuple(handle for (handle,) in objects if isinstance(handle, int))
        query = Query(True, encode_request(call, (0, template)).body)
        client.send(READ_AHEAD, encode_read_ahead(ReadAhead(10_000, (query,), handles)), target=session)
        found = decode_findings(client.receive().body)
        values = [decode_reply(call, finding.followed.body) for (finding,) in found if finding.followed]
        assert values == [
            ((Attribute(c.CKA_LABEL, label), Attribute(c.CKA_CLASS, c.CKO_DATA)),) for label in (b"one", b"another")
        ]
        client.send(READ_AHEAD + 2, b"", target=session)
        assert client.receive().header.rv == RV.CKR_FUNCTION_NOT_SUPPORTED


def test_a_wait_that_would_block_the_server_is_refused(start, far):
    daemon = start(far.section("command"))
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert client.call("C_WaitForSlotEvent", 0, 0, False)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
        assert client.good("C_GetInfo", True)


def test_tokens_here_and_there_beside_one_another(start, good, home, far):
    """Virtual slots, with calls of one session each at the same time."""
    rules = '[token.good]\nbackend = "good"\nlabel = "good"\n[token.demo]\nbackend = "far"\nlabel = "demo"\n'
    daemon = start(good + far.section("ssh") + rules)
    with RawClient(daemon.socket) as client:
        client.initialize()
        for session, label in ((1, "good"), (2, "demo")):
            open_session(client, slot_of(client, label), session)
            login(client, session)
        wanted = [generate_rsa(client, session) for session in (1, 2)]
        replies = [client.receive() for _ in wanted]
        assert sorted(reply.header.id for reply in replies) == wanted
        assert all(reply.header.rv == RV.CKR_OK for reply in replies)


def test_large_data_passes_and_waits_for_slow_ends(start, far):
    """More than any buffer on the way holds, in requests and in replies."""
    daemon = start(far.section("command"))
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        client.good("C_DigestInit", Mechanism(c.CKM_SHA256), target=1)
        count, size = 24, 1 << 20
        sender = threading.Thread(
            target=lambda: [client.send_call("C_DigestUpdate", bytes(size), target=1) for _ in range(count)]
        )
        sender.start()
        assert [client.receive().header.rv for _ in range(count)] == [RV.CKR_OK] * count
        sender.join()
