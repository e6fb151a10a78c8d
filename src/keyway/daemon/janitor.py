"""What has to be looked after now and then: clients that never begin, do nothing or end unseen, calls that never end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import call_named
from keyway.daemon.link import Frame, Link, call_name
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.daemon.binding import Binding
    from keyway.daemon.connection import Connection
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
        self._idle: dict[Connection, tuple[int, float]] = {}

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
        limits = self._daemon.config.limits
        calls: dict[Link, tuple[Frame, float]] = {}
        idle: dict[Connection, tuple[int, float]] = {}
        for client in list(self._daemon.clients):
            binding = client.service.binding
            if client.is_abandoned:
                client.abort()
            elif binding is None:
                is_late = now - client.since > limits.greeting
                if is_late and client not in self._daemon.tracing and client not in self._daemon.asking:
                    client.refuse("no C_Initialize in time")
            else:
                self._look_at_calls(binding, client.service.name, now, calls)
                if limits.idle and not client.held and client.service.is_idle:
                    self._look_at_idle(client, now, limits.idle, idle)
        self._oldest = calls
        self._idle = idle
        self._daemon.homes.release(
            {
                home
                for client in self._daemon.clients
                if client.service.binding is not None
                for home in client.service.binding.backends.values()
            }
        )

    def _look_at_calls(self, binding: Binding, context: str, now: float, seen: dict[Link, tuple[Frame, float]]) -> None:
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
                event(logging.ERROR, "call timed out", backend=link.name, context=context, call=call)
                link.host.kill(f"{call} took too long")

    def _look_at_idle(
        self, client: Connection, now: float, limit: float, seen: dict[Connection, tuple[int, float]]
    ) -> None:
        known, since = self._idle.get(client, (-1, now))
        since = since if known == client.looked else now
        seen[client] = (client.looked, since)
        if now - since > limit:
            event(logging.INFO, "idle client closed", context=client.service.name, **client.facts())
            client.abort()
