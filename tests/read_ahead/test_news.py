"""READ_AHEAD and OBJECTS_CHANGED as bytes: what the daemon and its host answer, and whom they tell what."""

import contextlib
import os
import select
import signal

import pytest
from tests.daemon.harness import RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import login, make, open_session, slots
from tests.front.client import MessageClient
from tests.front.conftest import listener
from tests.read_ahead.conftest import secret_key

from keyway.cryptoki import RV, Attribute, Fill, Null, RoomBytes, RoomNumbers, Unavailable, call_named
from keyway.cryptoki.constants import CKA_CLASS, CKA_ID, CKA_LABEL, CKA_VALUE, CKO_SECRET_KEY
from keyway.wire import decode_reply, encode_request, pack
from keyway.wire.ahead import (
    NEWS,
    OBJECTS_CHANGED,
    READ_AHEAD,
    Finding,
    Query,
    ReadAhead,
    decode_findings,
    encode_read_ahead,
)
from keyway.wire.header import Flags

ASK = call_named("C_GetAttributeValue")


def query(*attributes: Attribute, follow: bool = False) -> Query:
    return Query(follow, encode_request(ASK, (1, attributes)).body)


LABEL = query(Attribute(CKA_LABEL, Null(0)), follow=True)


def read_ahead(client, objects, *queries, session=1, room=100_000) -> tuple[tuple[Finding, ...], ...]:
    """Send READ_AHEAD and return what was found."""
    body = encode_read_ahead(ReadAhead(room, queries, tuple(objects)))
    id_ = client.send(READ_AHEAD, body, target=session)
    frame = client.receive()
    assert (frame.header.call, frame.header.id, frame.header.rv) == (READ_AHEAD, id_, 0)
    return decode_findings(frame.body)


def begin(client):
    client.initialize()
    open_session(client, slots(client)[0])
    login(client, 1)


def create(client, label="key", session=1):
    numbers = {8: lambda value: int.from_bytes(value, "little")}
    template = secret_key(label, label.encode())
    attributes = tuple(Attribute(type_, numbers.get(len(value), bytes)(value)) for type_, value in template)
    (handle,) = client.good("C_CreateObject", attributes, 0, target=session)
    return handle


def rename(client, handle, label=b"renamed", session=1):
    client.good("C_SetAttributeValue", handle, (Attribute(CKA_LABEL, label),), target=session)


def was_told(client) -> bool:
    """Tell whether the news is there, now; take it."""
    if not select.select([client.socket], [], [], 0)[0]:
        return False
    header, body = client.receive()
    assert pack(header, body) == NEWS
    return True


def host_processes(daemon):
    return {process for context in daemon.contexts() for process in context["hosts"].values()}


@pytest.fixture
def two(daemon):
    """Two applications at one token."""
    with RawClient(daemon.socket) as first, RawClient(daemon.socket) as second:
        for client in (first, second):
            begin(client)
        yield first, second


class TestReading:
    def test_each_query_of_each_object_is_answered_as_a_call_of_its_own(self, two):
        client, _ = two
        keys = [create(client, "one"), create(client, "other key")]
        queries = (
            LABEL,
            query(Attribute(CKA_CLASS, RoomNumbers(1))),
            query(Attribute(CKA_VALUE, Null(0)), Attribute(CKA_LABEL, RoomBytes(2))),
            query(Attribute(0x80001234, Null(7)), Attribute(CKA_ID, RoomBytes(40)), follow=True),
        )
        found = read_ahead(client, [*keys, 0xDEAD], *queries)
        assert len(found) == 3
        for handle, findings in zip([*keys, 0xDEAD], found, strict=True):
            for asked, finding in zip(queries, findings, strict=True):
                frame = self._asked(client, handle, asked.body)
                assert finding.answer == (frame.header.rv, frame.body)
        for name, (label, kind, both, vendor) in zip([b"one", b"other key"], found, strict=False):
            assert label.followed is not None
            assert decode_reply(ASK, label.followed.body) == ((Attribute(CKA_LABEL, name),),)
            assert decode_reply(ASK, kind.answer.body) == ((Attribute(CKA_CLASS, CKO_SECRET_KEY),),)
            assert both.answer.rv in (RV.CKR_ATTRIBUTE_SENSITIVE, RV.CKR_BUFFER_TOO_SMALL)
            told = (Attribute(0x80001234, Unavailable()), Attribute(CKA_ID, name))
            assert (decode_reply(ASK, vendor.answer.body), vendor.followed) == ((told,), None)
        assert {finding.answer.rv for finding in found[2]} == {RV.CKR_OBJECT_HANDLE_INVALID}

    @staticmethod
    def _asked(client, handle, body):
        client.send(ASK.number, body, target=1, object_=handle)
        return client.receive()

    def test_what_does_not_fit_is_left_out(self, two):
        client, _ = two
        keys = [create(client, f"key {number}") for number in range(9)]
        whole = read_ahead(client, keys, LABEL)
        assert len(whole) == 9
        assert read_ahead(client, keys, LABEL, room=300) == whole[:4]
        assert read_ahead(client, keys, LABEL, room=10) == ()
        assert read_ahead(client, keys) == ()
        assert read_ahead(client, [], LABEL) == ()

    def test_a_session_that_is_none(self, two):
        client, _ = two
        ((finding,),) = read_ahead(client, [1], LABEL, session=77)
        assert finding.answer.rv == RV.CKR_SESSION_HANDLE_INVALID

    def test_its_place_among_the_calls_of_the_session(self, two):
        client, _ = two
        key = create(client, "before")
        body = encode_read_ahead(ReadAhead(1000, (LABEL,), (key,)))
        client.send_call("C_SetAttributeValue", key, (Attribute(CKA_LABEL, b"after"),), target=1)
        client.send(READ_AHEAD, body, target=1)
        client.send_call("C_SetAttributeValue", key, (Attribute(CKA_LABEL, b"later"),), target=1)
        replies = {frame.header.call: frame for frame in (client.receive() for _ in range(3))}
        ((finding,),) = decode_findings(replies[READ_AHEAD].body)
        assert finding.followed is not None
        assert decode_reply(ASK, finding.followed.body) == ((Attribute(CKA_LABEL, b"after"),),)

    @pytest.mark.parametrize(
        ("number", "body", "flags", "rv"),
        [
            (READ_AHEAD, b"", 0, RV.CKR_ARGUMENTS_BAD),
            (READ_AHEAD, bytes(11), 0, RV.CKR_ARGUMENTS_BAD),
            (READ_AHEAD, encode_read_ahead(ReadAhead(100, (Query(False, b""),), (1,))), 0, RV.CKR_ARGUMENTS_BAD),
            (READ_AHEAD, encode_read_ahead(ReadAhead(100, (Query(False, LABEL.body + b"\0"),), ())), 0, 7),
            (READ_AHEAD, encode_read_ahead(ReadAhead(100, (LABEL,), (1,))), Flags.FUSED, RV.CKR_ARGUMENTS_BAD),
            (READ_AHEAD, bytes(12), Flags.REPLY, RV.CKR_ARGUMENTS_BAD),
            (OBJECTS_CHANGED, b"", 0, RV.CKR_FUNCTION_NOT_SUPPORTED),
            (READ_AHEAD - 1, b"", 0, RV.CKR_FUNCTION_NOT_SUPPORTED),
            (0x3FFF, b"", 0, RV.CKR_FUNCTION_NOT_SUPPORTED),
        ],
    )
    def test_what_is_refused(self, two, number, body, flags, rv):
        client, _ = two
        client.send(number, body, target=1, flags=flags)
        frame = client.receive()
        assert (frame.header.rv, frame.body) == (rv, b"")
        assert read_ahead(client, [create(client)], LABEL), "and the connection goes on"

    def test_posted_and_without_a_context(self, two, daemon):
        client, _ = two
        client.send(READ_AHEAD, bytes(12), target=1, flags=Flags.POSTED)
        assert len(read_ahead(client, [create(client)], LABEL)) == 1
        with RawClient(daemon.socket) as other:
            other.send(READ_AHEAD, bytes(12), target=1)
            assert other.receive().header.rv == RV.CKR_CRYPTOKI_NOT_INITIALIZED


def test_a_backend_that_is_not_read_ahead(start, home):
    daemon = start(softhsm(home, read_ahead="false"))
    make(daemon, "demo")
    with RawClient(daemon.socket) as reader, RawClient(daemon.socket) as changer:
        begin(reader)
        begin(changer)
        reader.send(READ_AHEAD, encode_read_ahead(ReadAhead(100, (LABEL,), (create(reader),))), target=1)
        frame = reader.receive()
        assert (frame.header.rv, frame.body) == (RV.CKR_FUNCTION_NOT_SUPPORTED, b"")
        rename(changer, create(changer))
        assert not was_told(reader)


class TestNews:
    def test_it_is_there_before_the_change_is_answered(self, two):
        reader, changer = two
        key = create(reader)
        theirs = create(changer)
        read_ahead(reader, [key], LABEL)
        assert not was_told(reader)
        for _ in range(50):
            rename(changer, theirs)
            assert was_told(reader)
            assert not was_told(reader)
        assert changer.call("C_DestroyObject", 0xDEAD, target=1)[0] == RV.CKR_OBJECT_HANDLE_INVALID
        assert was_told(reader), "a failed call may have changed something"

    def test_it_is_there_for_all_before_the_change_is_answered(self, daemon):
        with contextlib.ExitStack() as stack:
            changer, *readers = [stack.enter_context(RawClient(daemon.socket)) for _ in range(9)]
            for client in (changer, *readers):
                begin(client)
            key = create(changer)
            for reader in readers:
                read_ahead(reader, [1], LABEL)
            for _ in range(30):
                rename(changer, key)
                assert [was_told(reader) for reader in readers] == [True] * len(readers)

    def test_nobody_is_told_who_does_not_read_ahead(self, two):
        first, second = two
        key = create(first)
        rename(second, create(second))
        assert not was_told(first)
        read_ahead(first, [key], LABEL)
        rename(first, key)
        assert not was_told(first), "what it changes itself it knows"
        assert not was_told(second)
        first.good("C_Finalize")
        first.initialize()
        rename(second, create(second))
        assert not was_told(first)

    def test_two_who_read_ahead_tell_one_another(self, two):
        keys = [create(client) for client in two]
        for client, key in zip(two, keys, strict=True):
            read_ahead(client, [key], LABEL)
        for changer, key, reader in zip(two, keys, reversed(two), strict=True):
            rename(changer, key)
            assert was_told(reader)
            assert not was_told(changer)

    def test_a_change_that_was_under_way(self, two, token):
        reader, changer = two
        key = create(reader)
        token.does_once("C_DestroyObject", "hang")
        changer.send_call("C_DestroyObject", create(changer), target=1)
        until(lambda: token.was_told("C_DestroyObject"), "the change is under way")
        read_ahead(reader, [key], LABEL)
        assert not was_told(reader)
        token.behaves("C_DestroyObject")
        assert changer.receive().header.rv == 0
        assert was_told(reader)

    def test_a_change_whose_host_ends(self, two, daemon, token):
        reader, _ = two
        read_ahead(reader, [create(reader)], LABEL)
        before = host_processes(daemon)
        with RawClient(daemon.socket) as changer:
            begin(changer)
            theirs = create(changer)
            assert was_told(reader)
            token.does_once("C_DestroyObject", "hang")
            changer.send_call("C_DestroyObject", theirs, target=1)
            until(lambda: token.was_told("C_DestroyObject"), "the change is under way")
            assert not was_told(reader)
            (host,) = host_processes(daemon) - before
            os.kill(host, signal.SIGKILL)
            assert changer.receive().header.rv == RV.CKR_DEVICE_ERROR
        until(lambda: was_told(reader), "the news")

    def test_another_backend_is_another_matter(self, start, home):
        sections = [softhsm(home, "one"), softhsm(home, "two")]
        for section in sections:
            alone = RunningDaemon(home, '[log]\nformat = "json"\n' + section)
            make(alone, "demo")
            alone.stop()
        rules = [f'[token.{name}]\nbackend = "{name}"\nlabel = "demo"\n' for name in ("one", "two")]
        daemon = start("".join((*sections, *rules)))
        with RawClient(daemon.socket) as reader, RawClient(daemon.socket) as changer:
            for client, slot in ((reader, 0), (changer, 1)):
                client.initialize()
                open_session(client, slot)
                login(client, 1)
            read_ahead(reader, [create(reader)], LABEL)
            rename(changer, create(changer))
            assert not was_told(reader)
            open_session(changer, 0, 2)
            login(changer, 2)
            rename(changer, create(changer, session=2), session=2)
            assert was_told(reader)

    def test_who_does_not_listen_keeps_nobody_waiting(self, two):
        reader, changer = two
        read_ahead(reader, [create(reader)], LABEL)
        theirs = create(changer)
        assert was_told(reader)
        # More than its socket and the daemon hold for it, so that news waits behind it.
        for _ in range(40):
            reader.send_call("C_GenerateRandom", Fill(True, 1 << 20), target=1)
        for _ in range(5):
            rename(changer, theirs)
        calls = [reader.receive().header.call for _ in range(45)]
        assert calls.count(OBJECTS_CHANGED) == 5

    def test_a_change_by_a_client_of_p11_kit(self, start, home):
        daemon = start(softhsm(home) + listener(home))
        make(daemon, "demo")
        until(lambda: daemon.events("ready"), "all listeners are there")
        with RawClient(daemon.socket) as reader, MessageClient(home / "front") as changer:
            begin(reader)
            read_ahead(reader, [create(reader)], LABEL)
            session = changer.start()
            assert not was_told(reader)
            assert changer.call("C_DestroyObject", 0xDEAD, target=session).rv == RV.CKR_OBJECT_HANDLE_INVALID
            assert was_told(reader)

    def test_through_another_gateway(self, home, start, tmp_path_factory):
        far_home = tmp_path_factory.mktemp("far")
        far = RunningDaemon(far_home, '[log]\nformat = "json"\n' + softhsm(far_home))
        try:
            make(far, "demo")
            daemon = start(f'[backend.far]\naddress = "unix:{far.socket}"\n')
            with RawClient(daemon.socket) as reader, RawClient(far.socket) as changer:
                begin(reader)
                begin(changer)
                key = create(reader)
                assert read_ahead(reader, [key], LABEL)[0][0].followed is not None
                rename(changer, create(changer))
                until(lambda: was_told(reader), "the news")
        finally:
            far.stop()
