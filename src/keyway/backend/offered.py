"""Streams that a gateway elsewhere has opened towards us, to offer its tokens."""

import asyncio
from collections import deque
from typing import Final

from keyway.backend.connection import Connection
from keyway.backend.greeting import Greeting
from keyway.backend.remote import agree_natively
from keyway.backend.stream import HungUp, Stream, StreamError

__all__ = ["MAX_IDLE", "OfferedSource"]

MAX_IDLE: Final = 64
"""Offered streams that are kept; more are turned away."""
WAIT: Final = 2.0
"""Seconds that a context waits for a stream when all are in use. The other gateway opens a new one as soon as one is taken."""


class OfferedSource:
    """Gives out what was offered, the oldest first.

    Attributes:
        kind: What is at the other ends.
        offered: How many streams wait.
    """

    def __init__(self, offerer: str, timeout: float) -> None:
        """Start without streams.

        Args:
            offerer: The name in the certificate of the gateway that may offer.
            timeout: Seconds that it has to answer on a stream that is taken.
        """
        self.kind = Connection.kind
        self._offerer = offerer
        self._timeout = timeout
        self._idle: deque[tuple[Connection, Greeting]] = deque()
        self._news = asyncio.Event()

    @property
    def offered(self) -> int:
        """How many streams wait."""
        self._idle = deque(each for each in self._idle if not each[0].is_gone)
        return len(self._idle)

    def add(self, stream: Connection, greeting: Greeting) -> bool:
        """Take an offered stream; return whether there is room for it.

        Args:
            stream: The stream, on which nothing was sent yet.
            greeting: Its protocol.
        """
        if self.offered >= MAX_IDLE:
            return False
        self._idle.append((stream, greeting))
        self._news.set()
        return True

    async def bring(self) -> Stream:
        """Return a stream that is ready for C_Initialize; it belongs to the caller.

        Raises:
            StreamError: None is offered, or the other end does not answer.
        """
        while True:
            stream, greeting = await self._next()
            try:
                async with asyncio.timeout(self._timeout):
                    await agree_natively(stream, greeting)
            except HungUp:
                continue  # It went while it waited; the next may be good.
            except TimeoutError as error:
                stream.kill("it did not answer")
                raise StreamError(f"{self._offerer}: no answer in {self._timeout:g} s") from error
            except BaseException:
                stream.kill()
                raise
            return stream

    async def close(self) -> None:
        """End the streams that wait."""
        for stream, _ in self._idle:
            stream.kill()
        self._idle.clear()

    async def _next(self) -> tuple[Connection, Greeting]:
        try:
            async with asyncio.timeout(WAIT):
                while not self.offered:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise StreamError(f"{self._offerer}: offers nothing at present") from error
        return self._idle.popleft()
