"""A transport over plain descriptors, for streams that the loop's own transports do not take: pipes as standard input and output, vsock."""

import asyncio
import contextlib
import os
import socket
from typing import Any, Final

__all__ = ["DescriptorTransport"]

CHUNK: Final = 262_144
HIGH: Final = 65_536
"""Bytes that may wait to be written before the protocol is told to pause, unless it says otherwise."""


class DescriptorTransport(asyncio.Transport):
    """Reads one descriptor and writes another one, or the same. It owns them and closes them at the end."""

    def __init__(
        self, reading: int, writing: int, protocol: asyncio.Protocol, extra: dict[str, Any] | None = None
    ) -> None:
        """Start reading.

        Args:
            reading: Descriptor to read from; a pipe, a socket or a character device.
            writing: Descriptor to write to; may be the same.
            protocol: Gets what is read.
            extra: What `get_extra_info` tells.
        """
        super().__init__(extra)
        self._loop = asyncio.get_running_loop()
        self._reading = reading
        self._writing = writing
        self._protocol: asyncio.BaseProtocol = protocol
        self._waiting = bytearray()
        self._high = HIGH
        self._low = HIGH // 4
        self._is_paused = False
        self._is_closing = False
        self._is_lost = False
        self._has_told_to_pause = False
        for descriptor in {reading, writing}:
            os.set_blocking(descriptor, False)
        protocol.connection_made(self)
        if not self._is_closing:
            self._loop.add_reader(self._reading, self._read)

    @classmethod
    def over_socket(cls, connection: socket.socket, protocol: asyncio.Protocol) -> "DescriptorTransport":
        """Return a transport over a connected socket, which it owns from here on."""
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        descriptor = connection.detach()
        return cls(descriptor, descriptor, protocol, {"socket": copy})

    # What protocols use

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what is read to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether nothing more will be read."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Whether it reads."""
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        """Read nothing until told to resume."""
        if self.is_reading():
            self._is_paused = True
            self._loop.remove_reader(self._reading)

    def resume_reading(self) -> None:
        """Read again."""
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            self._loop.add_reader(self._reading, self._read)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait before the protocol is told to pause, and to resume."""
        self._high = HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be written."""
        return len(self._waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, or keep them until they can be sent."""
        if self._is_lost or (self._is_closing and not self._waiting) or not data:
            return
        if not self._waiting:
            try:
                sent = os.write(self._writing, data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lose(error)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self._loop.add_writer(self._writing, self._flush)
        self._waiting += data
        if len(self._waiting) > self._high and not self._has_told_to_pause:
            self._has_told_to_pause = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Whether one direction can be ended alone; it can't."""
        return False

    def close(self) -> None:
        """Read nothing more, and end when what waits has been written."""
        if self._is_closing:
            return
        self._stop_reading()
        if not self._waiting:
            self._lose(None)

    def abort(self) -> None:
        """End at once."""
        self._lose(None)

    # From the loop

    def _read(self) -> None:
        try:
            data = os.read(self._reading, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            assert isinstance(self._protocol, asyncio.Protocol)
            self._protocol.data_received(data)
        else:
            self._ended()

    def _ended(self) -> None:
        assert isinstance(self._protocol, asyncio.Protocol)
        if not self._protocol.eof_received():
            self.close()
        elif not self._is_closing:
            self.pause_reading()

    def _flush(self) -> None:
        try:
            sent = os.write(self._writing, self._waiting)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        del self._waiting[:sent]
        if not self._waiting:
            self._loop.remove_writer(self._writing)
        if self._has_told_to_pause and len(self._waiting) <= self._low:
            self._has_told_to_pause = False
            self._protocol.resume_writing()
        if self._is_closing and not self._waiting:
            self._lose(None)

    # Inside

    def _stop_reading(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._is_paused:
                self._loop.remove_reader(self._reading)

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._stop_reading()
        self._is_lost = True
        if self._waiting:
            self._loop.remove_writer(self._writing)
            self._waiting.clear()
        self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            for descriptor in {self._reading, self._writing}:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            if (copy := self.get_extra_info("socket")) is not None:
                copy.close()
