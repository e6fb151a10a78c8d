"""Puts a guard into a stream: what takes and gives native frames stays a transport, so neither side knows of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keyway.transport.before import TransportBefore

if TYPE_CHECKING:
    from keyway.daemon.guard.guard import Guard

__all__ = ["GuardedTransport"]


class GuardedTransport(TransportBefore):
    """The near end of a guarded stream. Where it matters to neither side, it is the far end."""

    def __init__(self, guard: Guard, far: asyncio.Transport) -> None:
        """Stand before a transport.

        Args:
            guard: Gets all that is written.
            far: Where it goes.
        """
        super().__init__(far)
        self._guard = guard
        # An attribute, since a call more would be felt on the way of every request.
        self.write = guard.take  # type: ignore[method-assign]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Say who gets the replies."""
        super().set_protocol(protocol)
        self._guard.near = self._protocol
        self._transport.set_protocol(self._guard)
