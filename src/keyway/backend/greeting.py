"""The byte from each side that opens a stream, in the native wire as in p11-kit's protocol."""

import asyncio
from typing import cast

from keyway.backend.stream import HungUp, Stream, StreamError

__all__ = ["Greeting", "describe_error"]


class Greeting(asyncio.Protocol):
    """The protocol of a stream until its user sets another.

    Once the other end has answered it must wait to be asked, or the stream is broken off.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._stream: Stream | None = None
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._is_lost = False
        self._error: Exception | None = None

    def serve(self, stream: Stream) -> None:
        """Tell a stream when it is lost.

        Args:
            stream: The stream, which has a transport.
        """
        self._stream = stream
        if self._is_lost:
            stream.note_lost(self._error)

    async def answer(self) -> bytes:
        """Return what the other end sends first: a byte, or more of them if it speaks something else.

        Raises:
            HungUp: It closed the stream instead.
            StreamError: The stream broke.
        """
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where the bytes come from."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take the answer."""
        if not self._answer.done():
            self._answer.set_result(data)
        elif self._stream is not None:
            self._stream.kill("it answered what was not asked")
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self._is_lost = True
        self._error = exc
        if not self._answer.done():
            # Who does not know the byte has read it, and closes; what resets the stream has not read it.
            self._answer.set_exception(StreamError(f"it broke: {describe_error(exc)}") if exc else HungUp("it ended"))
            self._answer.exception()  # Nobody may be waiting any more.
        if self._stream is not None:
            self._stream.note_lost(exc)


def describe_error(error: Exception) -> str:
    """Return what an error says, without its number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
