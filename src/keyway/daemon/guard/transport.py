"""Puts a guard into a stream: what takes and gives native frames stays a transport, so neither side knows of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyway.daemon.guard.guard import Guard

__all__ = ["GuardedTransport"]


class GuardedTransport(asyncio.Transport):
    """The near end of a guarded stream. Where it matters to neither side, it is the far end."""

    def __init__(self, guard: Guard, far: asyncio.Transport) -> None:
        """Stand before a transport.

        Args:
            guard: Gets all that is written.
            far: Where it goes.
        """
        super().__init__()
        self._guard = guard
        self._far = far
        # An attribute, since a call more would be felt on the way of every request.
        self.write = guard.take  # type: ignore[method-assign]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Say who gets the replies."""
        assert isinstance(protocol, asyncio.Protocol)
        self._guard.near = protocol
        self._far.set_protocol(self._guard)

    def is_closing(self) -> bool:
        """Tell whether the stream is over."""
        return self._far.is_closing()

    def close(self) -> None:
        """End the stream."""
        self._far.close()

    def abort(self) -> None:
        """End the stream."""
        self._far.abort()

    def pause_reading(self) -> None:
        """Let no replies come."""
        self._far.pause_reading()

    def resume_reading(self) -> None:
        """Let them come again."""
        self._far.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the far end."""
        return self._far.get_extra_info(name, default)
