"""The byte from each side that opens a stream, in the native wire as in p11-kit's protocol."""

import asyncio
from typing import cast

from keyway.backend.stream import HungUp, Stream, StreamError

__all__ = ["Greeting"]


class Greeting(asyncio.Protocol):
    """The protocol of a stream until its user sets another.

    Once the other end has answered it must wait to be asked, or the stream is broken off.
    """

    def __init__(self, stream: Stream) -> None:
        """Needs a running loop.

        Args:
            stream: What is told when the stream is lost.
        """
        self._stream = stream
        self._transport: asyncio.BaseTransport
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(self) -> bytes:
        """Return what the other end sends first: a byte, or more of them if it speaks something else.

        Raises:
            HungUp: It closed the stream instead.
            StreamError: The stream broke.
        """
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note which stream it is."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take the answer."""
        if self._answer.done():
            cast(asyncio.Transport, self._transport).abort()
        else:
            self._answer.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        if not self._answer.done():
            # An old p11-kit server closes when it has read a byte that it does not know. What resets has not read it.
            self._answer.set_exception(StreamError(f"it broke: {exc}") if exc else HungUp("it was closed"))
            self._answer.exception()  # Nobody may be waiting any more.
        self._stream.note_lost(exc)
