"""What has to be looked after now and then: clients that never begin or end unseen, calls that never end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import call_named
from keyway.daemon.link import Frame, Link, call_name
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.daemon.server import Daemon

__all__ = ["Janitor"]

INTERVAL: Final = 1.0
"""Seconds between looks. Time limits are kept to this."""

_MAY_WAIT: Final = call_named("C_WaitForSlotEvent").number


class Janitor:
    """Looks at all clients once in a while, so that no call needs a timer or a clock of its own."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._oldest: dict[Link, tuple[Frame, float]] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.look(self._daemon.now())

    def look(self, now: float) -> None:
        """End what is over its time.

        Args:
            now: Seconds of the loop's clock.
        """
        seen: dict[Link, tuple[Frame, float]] = {}
        for client in list(self._daemon.clients):
            if client.is_abandoned:
                client.abort()
                continue
            binding = client.service.binding
            if binding is None:
                is_late = now - client.since > self._daemon.config.limits.greeting
                if is_late and client not in self._daemon.tracing and client not in self._daemon.asking:
                    client.refuse("no C_Initialize in time")
                continue
            for link in list(binding.links.values()):
                limit = binding.backends[link.name].options.call_timeout
                oldest = next((frame for frame in link.in_flight.values() if frame[1] != _MAY_WAIT), None)
                if not limit or oldest is None:
                    continue
                known, since = self._oldest.get(link, (None, now))
                # The very same object: an id may be used again for another call.
                since = since if known is oldest else now
                seen[link] = (oldest, since)
                if now - since > limit:
                    call = call_name(oldest)
                    event(logging.ERROR, "call timed out", backend=link.name, context=client.service.name, call=call)
                    link.host.kill(f"{call} took too long")
        self._oldest = seen
        self._daemon.homes.release(
            {
                home
                for client in self._daemon.clients
                if client.service.binding is not None
                for home in client.service.binding.backends.values()
            }
        )
