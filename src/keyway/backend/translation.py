"""The native side of a stream to a p11-kit server."""

import asyncio
from collections.abc import Callable
from typing import Final

from keyway.bridge import Back
from keyway.p11kit import DecodeError, Dialect, FrameBuffer
from keyway.transport.before import TransportBefore
from keyway.wire.header import HEADER, HEADER_SIZE

__all__ = ["Translation"]

MAX_WAITING: Final = 1_048_576
"""Bytes of requests that may wait for others of their sessions before no more are taken."""


class Translation(TransportBefore, asyncio.Protocol):
    """A transport to whoever speaks native frames, and the protocol of the real transport behind it.

    Whole native frames are written to it, and whole ones come out. What needs no answer of the server comes later all the same:
    who writes does not expect to be called meanwhile.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        dialect: Dialect,
        protocol: asyncio.Protocol,
        broken: Callable[[str], None],
    ) -> None:
        """Put itself in front of a transport.

        Args:
            transport: The real one, whose server has chosen the dialect.
            dialect: The dialect.
            protocol: Who gets the native frames.
            broken: Called with the reason when the server does not keep to its protocol; must end the stream.
        """
        super().__init__(transport, protocol)
        self._broken = broken
        self._back = Back(dialect)
        self._frames = FrameBuffer()
        self._ready: list[bytes] = []
        self._is_behind = False
        self._is_stopped = False
        transport.set_protocol(self)

    # For the native side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Translate whole native frames and send them."""
        if self._transport.is_closing():
            return
        data = bytes(data)
        messages = []
        at = 0
        while at < len(data):
            header = HEADER.unpack_from(data, at)
            body = at + HEADER_SIZE
            at = body + header[0]
            step = self._back.request(header, data[body:at])
            messages.append(step.send)
            if step.deliver:
                self._deliver_later(step.deliver)
        self._send(messages)

    def resume_reading(self) -> None:
        """Deliver again."""
        if self._ready:
            asyncio.get_running_loop().call_soon(self._deliver)
        super().resume_reading()

    # For the real transport

    def data_received(self, data: bytes) -> None:
        """Translate what completes a message, and deliver it."""
        messages = []
        try:
            for code, body, _ in self._frames.feed(data):
                step = self._back.reply(code, body)
                messages.append(step.send)
                self._ready.append(step.deliver)
        except DecodeError as error:
            self._broken(str(error))
            return
        self._send(messages)
        self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the native side."""
        self._deliver()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Note that the server reads slowly."""
        self._is_behind = True
        self._stop_or_go_on()

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self._is_behind = False
        self._stop_or_go_on()

    # Inside

    def _send(self, messages: list[bytes]) -> None:
        if (data := b"".join(messages)) and not self._transport.is_closing():
            self._transport.write(data)
        self._stop_or_go_on()

    def _deliver_later(self, frames: bytes) -> None:
        if not self._ready and self._is_reading:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._ready.append(frames)

    def _deliver(self) -> None:
        if self._ready and self._is_reading:
            frames = b"".join(self._ready)
            self._ready.clear()
            if frames:
                self._protocol.data_received(frames)

    def _stop_or_go_on(self) -> None:
        stop = self._is_behind or self._back.waiting > MAX_WAITING
        if stop is not self._is_stopped:
            self._is_stopped = stop
            if stop:
                self._protocol.pause_writing()
            else:
                self._protocol.resume_writing()
