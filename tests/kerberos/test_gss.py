"""The transport that seals, over a mechanism that is none: any bytes, in any pieces, paused at any time."""

import asyncio
import gc
import hashlib
import itertools
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.transport.ends import Noting

from keyway.transport.errors import GssError
from keyway.transport.gss import GssTransport, Handshake, secure
from keyway.transport.pieces import MAX_PLAIN, MAX_RECORD, MAX_TOKEN, Pieces, piece

SEAL = 8


class Toy:
    """A mechanism for tests: seals with a number and a checksum, and takes as many tokens as it is told."""

    def __init__(self, steps=1, fails=False):
        self.is_complete = False
        self.peer = ""
        self.lifetime = 0.0
        self.tokens = []
        self._steps = steps
        self._fails = fails
        self._sent = self._received = 0

    def step(self, token):
        self.tokens.append(token)
        if self._fails:
            raise GssError("no such ticket", b"error")
        self._steps -= 1
        if self._steps == 0:
            self.is_complete, self.peer = True, "alice@TEST"
        return b"token"

    def wrap(self, data):
        self._sent += 1
        return self._seal(self._sent, data) + data

    def unwrap(self, record):
        self._received += 1
        data = record[SEAL:]
        if record[:SEAL] != self._seal(self._received, data):
            raise GssError("a record is damaged or forged")
        return data

    def _seal(self, number, data):
        return hashlib.sha256(number.to_bytes(8, "big") + data).digest()[:SEAL]


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self):
        super().__init__()
        self.sent = bytearray()
        self.is_aborted = False
        self.is_closed = False
        self.is_paused = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data):
        self.sent += data

    def set_protocol(self, protocol):
        self.protocol = protocol

    def pause_reading(self):
        self.is_paused = True

    def resume_reading(self):
        self.is_paused = False

    def is_closing(self):
        return self.is_aborted or self.is_closed

    def abort(self):
        self.is_aborted = True

    def close(self):
        self.is_closed = True


def sealed(messages):
    """Return what one end sends."""
    wire = Wire()
    transport = GssTransport(wire, Pieces(), Toy(), "", asyncio.Protocol())
    for message in messages:
        transport.write(message)
    return bytes(wire.sent)


def reader(early=b""):
    """Return the other end, with the real transport below it and the protocol above."""
    wire, protocol, pieces = Wire(), Noting(), Pieces()
    pieces.feed(early)
    return wire, protocol, GssTransport(wire, pieces, Toy(), "alice@TEST", protocol)


def cut(data, places):
    places = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


MESSAGES = st.lists(st.binary(max_size=40), max_size=8)
PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@given(messages=MESSAGES, places=PLACES, early=st.integers(0, 100), pauses=st.lists(st.booleans(), max_size=12))
def test_what_is_written_arrives_however_it_is_cut(messages, places, early, pauses):
    async def test():
        stream = sealed(messages)
        wire, protocol, transport = reader(stream[:early])
        for index, part in enumerate(cut(stream[early:], places)):
            if index < len(pauses) and pauses[index]:
                transport.pause_reading()
                before = len(protocol.data)
                transport.data_received(part)
                await asyncio.sleep(0)
                assert len(protocol.data) == before
                transport.resume_reading()
                await asyncio.sleep(0)
            else:
                transport.data_received(part)
        await asyncio.sleep(0)
        assert protocol.data == b"".join(messages)
        assert not wire.is_aborted
        transport.eof_received()
        assert not wire.is_aborted

    asyncio.run(test())


@given(messages=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), data=st.data())
def test_what_is_changed_never_arrives(messages, data):
    async def test():
        stream = bytearray(sealed(messages))
        at = data.draw(st.integers(0, len(stream) - 1))
        stream[at] ^= data.draw(st.integers(1, 255))
        wire, protocol, transport = reader()
        transport.data_received(bytes(stream))
        await asyncio.sleep(0)
        assert b"".join(messages).startswith(protocol.data)
        assert protocol.data != b"".join(messages)
        # Either it shows at once, or more bytes are waited for, which do not come.
        if not wire.is_aborted:
            transport.eof_received()
        assert wire.is_aborted
        transport.connection_lost(None)
        assert isinstance(await protocol.end(), GssError)

    asyncio.run(test())


@given(st.binary(max_size=200))
def test_any_bytes_are_pieces_or_refused(data):
    pieces = Pieces(64)
    pieces.feed(data)
    taken = []
    try:
        while (each := pieces.take()) is not None:
            taken.append(each)
    except GssError:
        pass
    assert data.startswith(b"".join(map(piece, taken)))
    assert all(0 < len(each) <= 64 for each in taken)


@pytest.mark.parametrize("size", [MAX_PLAIN - 1, MAX_PLAIN, MAX_PLAIN + 1, 3 * MAX_PLAIN + 7])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_is_long_goes_in_several_records(size, kind):
    async def test():
        message = bytes(range(256)) * (size // 256 + 1)
        message = message[:size]
        stream = sealed([kind(message)])
        lengths = Pieces(MAX_RECORD)
        lengths.feed(stream)
        count = 0
        while lengths.take() is not None:
            count += 1
        assert count == -(-size // MAX_PLAIN)
        _, protocol, transport = reader()
        transport.data_received(stream)
        assert protocol.data == message

    asyncio.run(test())


def test_a_record_above_the_limit_is_refused_by_its_first_bytes():
    async def test():
        wire, protocol, transport = reader()
        transport.data_received((MAX_RECORD + 1).to_bytes(4, "big"))
        assert wire.is_aborted
        transport.connection_lost(None)
        assert "the limit is 66560" in str(await protocol.end())

    asyncio.run(test())


def test_nothing_is_read_for_a_protocol_that_has_hung_up_at_once():
    class Refusing(Noting):
        def connection_made(self, transport):
            transport.abort()

    async def test():
        wire, pieces, protocol = Wire(), Pieces(), Refusing()
        pieces.feed(sealed([b"hello"]))
        GssTransport(wire, pieces, Toy(), "", protocol)
        await asyncio.sleep(0)
        assert protocol.data == b""

    asyncio.run(test())


@pytest.mark.parametrize("seals", [True, False])
@pytest.mark.parametrize("outlives", [True, False])
def test_it_ends_with_the_ticket_if_it_shall(outlives, seals):
    async def test():
        wire, handshake = Wire(), Handshake()
        handshake.connection_made(wire)
        handshake.data_received(piece(b"ticket"))
        transport, protocol = await secure(handshake, Toy(), Noting, begins=False, seals=seals, outlives=outlives)
        # Timers that are due come in the order of their times.
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.001, later.set_result, None)
        await later
        assert wire.is_aborted is not outlives
        transport.connection_lost(None)
        error = await protocol.end()
        assert str(error) == ("None" if outlives else "the ticket has expired")

    asyncio.run(test())


def test_a_connection_that_has_ended_is_not_remembered_until_the_ticket_expires():
    async def test():
        wire = Wire()
        transport = GssTransport(wire, Pieces(), None, "", Noting(), 36_000)
        gone = weakref.ref(transport)
        transport.connection_lost(None)
        del transport
        wire.protocol = None
        # A timer that is cancelled lets go of what it would have called.
        gc.collect()
        assert gone() is None

    asyncio.run(test())


def test_what_is_known_of_the_connection():
    async def test():
        _, _, transport = reader()
        assert transport.get_extra_info("principal") == "alice@TEST"
        assert transport.get_extra_info("socket") is None

    asyncio.run(test())


class TestHandshake:
    def shake(self, mechanism, *received, begins=False, ends=True):
        """Return the wire after a handshake in which the other end has sent some tokens, and then ended."""

        async def test():
            wire, handshake = Wire(), Handshake()
            handshake.connection_made(wire)
            for data in received:
                handshake.data_received(data)
            if ends:
                asyncio.get_running_loop().call_soon(handshake.eof_received)
            async with asyncio.timeout(20):
                transport, protocol = await secure(handshake, mechanism, Noting, begins=begins)
            await asyncio.sleep(0)
            assert transport.get_extra_info("principal") == "alice@TEST"
            return wire, protocol

        return asyncio.run(test())

    def test_one_token_from_each(self):
        toy = Toy()
        wire, _ = self.shake(toy, piece(b"ticket"), ends=False)
        assert toy.tokens == [b"ticket"]
        assert wire.sent == piece(b"token")

    def test_one_end_begins(self):
        toy = Toy(2)
        wire, _ = self.shake(toy, piece(b"answer"), begins=True, ends=False)
        assert toy.tokens == [b"", b"answer"]
        assert wire.sent == piece(b"token") * 2

    def test_what_comes_right_behind_it_is_not_lost(self):
        _, protocol = self.shake(Toy(), piece(b"ticket") + sealed([b"hello"]), ends=False)
        assert protocol.data == b"hello"

    def test_any_cuts(self):
        stream = piece(b"one") + piece(b"two")
        toy = Toy(2)
        self.shake(toy, *(stream[at : at + 1] for at in range(len(stream))), ends=False)
        assert toy.tokens == [b"one", b"two"]

    @pytest.mark.parametrize(
        ("received", "problem"),
        [
            ([], "ended the connection"),
            ([b"\0\0"], "ended the connection"),
            ([piece(b"ticket")[:-1]], "ended the connection"),
            ([b"\0\0\0\0"], "a piece of 0 bytes"),
            ([(MAX_TOKEN + 1).to_bytes(4, "big")], "the limit is 65536"),
            ([b"\x81"], "does not speak GSS-API"),
            ([b"GET / HTTP/1.0\r\n\r\n"], "does not speak GSS-API"),
        ],
    )
    def test_what_is_no_handshake(self, received, problem):
        with pytest.raises(GssError, match=problem):
            self.shake(Toy(99), *received)

    def test_it_does_not_go_on_for_ever(self):
        toy = Toy(99)
        with pytest.raises(GssError, match="too many steps"):
            self.shake(toy, piece(b"x") * 100, ends=False)
        assert len(toy.tokens) == 4

    def test_the_other_end_is_told_why(self):
        async def test():
            wire, handshake = Wire(), Handshake()
            handshake.connection_made(wire)
            handshake.data_received(piece(b"ticket"))
            with pytest.raises(GssError, match="no such ticket"):
                await secure(handshake, Toy(fails=True), Noting, begins=False)
            return wire

        wire = asyncio.run(test())
        assert wire.sent == piece(b"error")
        assert wire.is_closed

    def test_nothing_is_read_behind_a_token_that_is_looked_at(self):
        async def test():
            wire, handshake = Wire(), Handshake()
            handshake.connection_made(wire)
            handshake.data_received(piece(b"ticket"))
            assert wire.is_paused

        asyncio.run(test())
