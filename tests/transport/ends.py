"""Protocols that take note of what happens to them."""

import asyncio


class Noting(asyncio.Protocol):
    """Keeps what it gets, and lets tests wait for it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.data = bytearray()
        self.is_told_to_pause = False
        self.pauses = 0
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        self._news.set()

    def pause_writing(self):
        assert not self.is_told_to_pause
        self.is_told_to_pause = True
        self.pauses += 1

    def resume_writing(self):
        assert self.is_told_to_pause
        self.is_told_to_pause = False
        self._news.set()

    def connection_lost(self, exc):
        assert not self.lost.done()
        self.lost.set_result(exc)
        self._news.set()

    async def until(self, condition):
        """Wait until a condition holds that what happens here can make true."""
        async with asyncio.timeout(20):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def end(self):
        """Wait until the connection is lost, and return why."""
        async with asyncio.timeout(20):
            return await self.lost


class Echo(Noting):
    """Sends back what it gets."""

    def data_received(self, data):
        super().data_received(data)
        assert self.transport is not None
        self.transport.write(data)
