"""What stands for a transport where the other end is in this process: a token that the gateway makes up."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["WithinTransport"]


class _Context(Protocol):
    def receive(self, data: bytes) -> None: ...

    def close(self) -> None: ...


_ContextT = TypeVar("_ContextT", bound=_Context)


class WithinTransport(asyncio.Transport, Generic[_ContextT]):
    """Hands frames to a context and back.

    Attributes:
        context: The other end. Whoever is made from this makes it.
        is_paused: Whether no replies shall come.
    """

    context: _ContextT

    def __init__(self) -> None:
        """Begin without a protocol. Needs a running loop."""
        super().__init__()
        self.is_paused = False
        self._protocol: asyncio.Protocol | None = None
        self._loop = asyncio.get_running_loop()
        self._is_closing = False

    # For the daemon's side

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Hand requests to the context."""
        if not self._is_closing:
            self.context.receive(bytes(data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Say who gets the replies."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Tell whether the stream is over."""
        return self._is_closing

    def close(self) -> None:
        """End the stream."""
        if not self._is_closing:
            self._is_closing = True
            self.context.close()
            self._loop.call_soon(self._tell_lost)

    def abort(self) -> None:
        """End the stream."""
        self.close()

    @abstractmethod
    def pause_reading(self) -> None:
        """Let no replies come."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Let them come again."""

    def _tell_lost(self) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(None)

    # For the context

    def deliver(self, data: bytes) -> None:
        """Hand replies to the daemon's side."""
        if self._protocol is not None and not self._is_closing:
            self._protocol.data_received(data)
