"""Streams that were offered: given out once, the oldest first, and only those that answer."""

import asyncio
import socket

import pytest

from keyway.backend.connection import Connection
from keyway.backend.greeting import Greeting
from keyway.backend.offered import MAX_IDLE, WAIT, OfferedSource
from keyway.backend.stream import StreamError
from keyway.wire.header import VERSION_BYTE

GREETING = bytes([VERSION_BYTE])


class Offerer:
    """The gateway that offers: the other ends of its streams."""

    def __init__(self, answer: float) -> None:
        self.source = OfferedSource("site", answer)
        self.streams: list[Connection] = []
        self.ends: list[asyncio.Future[None]] = []
        self.taken: list[str] = []

    async def offer(self, name: str, reply: bytes | None = GREETING) -> bool:
        """Offer a stream that answers with some bytes, or not at all; return whether it is wanted."""
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        self.ends.append(loop.create_future())
        await loop.create_unix_connection(lambda: _End(self, name, reply, self.ends[-1]), sock=theirs)
        greeting = Greeting()
        transport, _ = await loop.create_unix_connection(lambda: greeting, sock=ours)
        self.streams.append(Connection("b", name, transport))
        greeting.serve(self.streams[-1])
        return self.source.add(self.streams[-1], greeting)

    async def bring(self) -> str:
        """Take a stream and return its name."""
        return str((await self.source.bring()).place)


class _End(asyncio.Protocol):
    def __init__(self, offerer: Offerer, name: str, reply: bytes | None, end: asyncio.Future[None]) -> None:
        self._offerer, self._name, self._reply, self._end = offerer, name, reply, end

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        assert data == GREETING
        self._offerer.taken.append(self._name)
        if self._reply == b"":
            self._transport.close()
        elif self._reply is not None:
            self._transport.write(self._reply)

    def connection_lost(self, exc):
        self._end.set_result(None)


def run(test, answer=5.0):
    """Run a test with an offerer, and close what is left."""

    async def body():
        offerer = Offerer(answer)
        try:
            async with asyncio.timeout(20):
                await test(offerer)
        finally:
            for stream in offerer.streams:
                stream.kill()
            await asyncio.gather(*offerer.ends, *(stream.ended for stream in offerer.streams))

    asyncio.run(body())


def test_the_oldest_is_given_first_and_each_once():
    async def test(offerer):
        for name in ("a", "b", "c"):
            assert await offerer.offer(name)
        assert offerer.source.offered == 3
        assert [await offerer.bring() for _ in range(3)] == ["a", "b", "c"]
        assert offerer.source.offered == 0
        assert offerer.taken == ["a", "b", "c"]

    run(test)


def test_who_waits_gets_the_next_that_comes():
    async def test(offerer):
        waiting = asyncio.gather(offerer.bring(), offerer.bring())
        await asyncio.sleep(0)
        await offerer.offer("a")
        await offerer.offer("b")
        assert sorted(await waiting) == ["a", "b"]

    run(test)


@pytest.mark.parametrize("reply", [None, b""], ids=["silent", "closes"])
def test_one_that_does_not_answer_is_passed_over(reply):
    async def test(offerer):
        await offerer.offer("bad", reply)
        await offerer.offer("good")
        assert await offerer.bring() == "good"
        assert offerer.taken == ["bad", "good"]
        assert offerer.streams[0].is_gone

    run(test, answer=0.05 if reply is None else 5.0)


def test_one_that_has_gone_is_not_counted():
    async def test(offerer):
        await offerer.offer("gone")
        offerer.streams[0].transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await asyncio.shield(offerer.streams[0].ended)
        assert offerer.source.offered == 0
        await offerer.offer("good")
        assert await offerer.bring() == "good"

    run(test)


@pytest.mark.parametrize(
    ("reply", "problem"), [(b"\x85", "speaks version 5"), (b"HTTP/1.0", "does not speak the protocol")]
)
def test_one_that_speaks_something_else_is_an_error(reply, problem):
    async def test(offerer):
        await offerer.offer("strange", reply)
        with pytest.raises(StreamError, match=problem):
            await offerer.bring()
        assert offerer.streams[0].is_gone

    run(test)


def test_there_is_room_for_some():
    async def test(offerer):
        assert [await offerer.offer(str(index)) for index in range(MAX_IDLE + 1)] == [True] * MAX_IDLE + [False]
        await offerer.source.close()
        assert offerer.source.offered == 0

    run(test)


def test_nobody_waits_for_one_that_has_long_been_away():
    async def test(offerer):
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(StreamError, match="offers nothing at present"):
            await offerer.bring()
        # The time is over for who comes now, and the loop need not wait for anything.
        assert loop.time() >= started + WAIT
        waiting = loop.create_task(offerer.bring())
        for _ in range(3):
            await asyncio.sleep(0)
        assert waiting.done()
        with pytest.raises(StreamError, match="offers nothing at present"):
            await waiting

    run(test)
