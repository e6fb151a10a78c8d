"""A transport that stands before another one, and does something with what goes through."""

import asyncio
from typing import Any

__all__ = ["TransportBefore"]


class TransportBefore(asyncio.Transport):
    """Is to a protocol what the transport behind it is, but for what a kind of it does otherwise: how it writes, and what it delivers."""

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol | None = None) -> None:
        """Stand before a transport. What comes from it is a matter of the kind.

        Args:
            transport: The one behind.
            protocol: Who gets what this one delivers; None if it is said later.
        """
        super().__init__()
        self._transport = transport
        self._is_reading = True
        self._protocol: asyncio.Protocol
        if protocol is not None:
            self._protocol = protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set who gets what is delivered."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who gets it."""
        return self._protocol

    def pause_reading(self) -> None:
        """Deliver nothing more for now."""
        self._is_reading = False
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again."""
        self._is_reading = True
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        """Whether what comes is delivered."""
        return self._is_reading

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection when what was written has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait for a slow reader, as the transport behind has them."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait, as the transport behind has them."""
        return self._transport.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Whether one direction can be ended alone; it can't."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the transport behind."""
        return self._transport.get_extra_info(name, default)
