"""Streams that a gateway elsewhere has opened towards us, to offer its tokens."""

import asyncio
from collections import deque
from typing import Final

from keyway.backend.connection import Connection
from keyway.backend.greeting import Greeting
from keyway.backend.remote import agree_natively
from keyway.backend.stream import HungUp, Stream, StreamError

__all__ = ["MAX_IDLE", "WAIT", "OfferedSource"]

ANSWER: Final = 5.0
"""Seconds that the other gateway has to answer on a stream that is taken. It asks nobody for that, so one that does not answer is gone."""
MAX_IDLE: Final = 64
"""Offered streams that are kept; more are turned away."""
WAIT: Final = 2.0
"""Seconds after the last sign of the other gateway in which a context waits for a stream: it opens a new one as soon as one is taken."""


class OfferedSource:
    """Gives out what was offered, the oldest first.

    Attributes:
        kind: What is at the other ends.
        offered: How many streams wait.
    """

    def __init__(self, offerer: str, answer: float = ANSWER) -> None:
        """Start without streams.

        Args:
            offerer: The name in the certificate of the gateway that may offer, or its principal.
            answer: Seconds that it has to answer on a stream that is taken.
        """
        self.kind = Connection.kind
        self._offerer = offerer
        self._answer = answer
        self._idle: deque[tuple[Connection, Greeting]] = deque()
        self._news = asyncio.Event()
        self._now = asyncio.get_running_loop().time
        self._last_sign = self._now()

    @property
    def offered(self) -> int:
        """How many streams wait."""
        there = deque(each for each in self._idle if not each[0].is_gone)
        if len(there) < len(self._idle):
            self._last_sign = self._now()
        self._idle = there
        return len(there)

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
                async with asyncio.timeout(self._answer):
                    await agree_natively(stream, greeting)
            except (HungUp, TimeoutError):
                # It went while it waited, maybe without a word. The next one may be good.
                stream.kill()
            except BaseException:
                stream.kill()
                raise
            else:
                return stream

    async def close(self) -> None:
        """End the streams that wait."""
        for stream, _ in self._idle:
            stream.kill()
        self._idle.clear()

    async def _next(self) -> tuple[Connection, Greeting]:
        try:
            is_there = self.offered > 0
            async with asyncio.timeout_at(self._last_sign + WAIT):
                while not is_there:
                    self._news.clear()
                    await self._news.wait()
                    is_there = self.offered > 0
        except TimeoutError as error:
            raise StreamError(f"{self._offerer}: offers nothing at present") from error
        self._last_sign = self._now()
        return self._idle.popleft()
