"""Slot events of one context: pools whose token has come or gone, as far as the client was not told (PKCS #11 3.2, section 5.5.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from keyway.gateway.slots import SeenSlot

if TYPE_CHECKING:
    from keyway.daemon.pool.pool import Pool
    from keyway.gateway.slots import VirtualSlots

__all__ = ["SlotEvents"]


class SlotEvents:
    """Knows of which events a client was told. To be closed."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        """Watch some pools from now on.

        Args:
            pools: The pools by what they are called among the backends.
        """
        self._pools = pools
        self._told = {name: pool.changes for name, pool in pools.items()}
        self._news = asyncio.Event()
        for pool in pools.values():
            pool.watchers.add(self._news)

    def __bool__(self) -> bool:
        """Whether there can be events at all."""
        return bool(self._pools)

    def next(self, slots: VirtualSlots) -> int | None:
        """Return the slot of an event that the client was not told of, and take it for told; None if there is none.

        Args:
            slots: The client's slots.
        """
        for number, slot in sorted(slots.slots.items()):
            content = slot.content
            name = content.place.backend if isinstance(content, SeenSlot) else content.backend
            if name in self._pools and self._told[name] != self._pools[name].changes:
                self._told[name] = self._pools[name].changes
                return number
        return None

    async def wait(self) -> None:
        """Wait until there may be another one."""
        self._news.clear()
        await self._news.wait()

    def close(self) -> None:
        """Watch no more."""
        for pool in self._pools.values():
            pool.watchers.discard(self._news)
