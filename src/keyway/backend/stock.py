"""The hosts of one backend: a few wait with the module loaded, and all are started one after another."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from keyway.backend.host import Host, HostError

__all__ = ["Stock"]

PAUSES: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next attempt after so many that failed: each costs a process. One failure is taken for bad luck."""


class Stock:
    """Starts hosts and keeps spares.

    Attributes:
        started: Hosts started so far.
        failures: Starts that failed in a row.
        error: Why the last start failed; empty when it did not.
    """

    def __init__(self, bring: Callable[[], Awaitable[Host]], spares: int, failed: Callable[[str], None]) -> None:
        """Describe the backend; nothing is started yet.

        Args:
            bring: Makes a host; called once at a time.
            spares: How many to have waiting.
            failed: Called with the reason each time that a host can't be started.
        """
        self._bring = bring
        self._wanted = spares
        self._failed = failed
        self._spares: list[Host] = []
        self._alive: set[Host] = set()
        self._starting = asyncio.Lock()
        self._low = asyncio.Event()
        self._retry_at = 0.0
        self.started = 0
        self.failures = 0
        self.error = ""

    @property
    def alive(self) -> int:
        """How many hosts run, spares and those in use."""
        return len(self._alive)

    @property
    def spares(self) -> int:
        """How many hosts are waiting."""
        return len(self._spares)

    async def take(self) -> Host:
        """Return a host with the module loaded; it belongs to the caller, who ends it.

        Raises:
            HostError: None can be started. While starts fail, most calls answer so at once.
        """
        self._low.set()
        if (spare := self._pop()) is not None:
            return spare
        async with self._starting:
            return self._pop() or await self._start()

    async def keep_filled(self) -> None:
        """Start spares whenever some are missing; runs until cancelled."""
        while True:
            try:
                while self._count() < self._wanted:
                    async with self._starting:
                        if self._count() < self._wanted:
                            self._add(await self._start())
            except HostError:
                pass  # Reported already. The next client who wants a host tries again.
            self._low.clear()
            await self._low.wait()

    def close(self) -> None:
        """End the spares."""
        while (spare := self._pop()) is not None:
            spare.end(0.0)

    async def wait_ended(self) -> None:
        """Wait until all hosts that were ever started have ended and been reaped."""
        await asyncio.gather(*(host.exited for host in self._alive))

    async def _start(self) -> Host:
        now = asyncio.get_running_loop().time()
        if now < self._retry_at:
            raise HostError(self.error)
        try:
            host = await self._bring()
        except (HostError, OSError) as error:  # OSError: no descriptors left, say. That passes, too.
            self.note_failure(str(error))
            self._failed(self.error)
            raise HostError(self.error) from error
        self._alive.add(host)
        host.exited.add_done_callback(lambda _: self._alive.discard(host))
        self.started += 1
        return host

    def note_success(self) -> None:
        """Note that a host has come so far that its module is initialised."""
        self.failures = 0
        self.error = ""

    def note_failure(self, reason: str) -> None:
        """Note that a host did not come so far, so that the next attempts have pauses between them."""
        self._retry_at = asyncio.get_running_loop().time() + PAUSES[min(self.failures, len(PAUSES) - 1)]
        self.failures += 1
        self.error = reason

    def _add(self, host: Host) -> None:
        host.has_waited = True
        self._spares.append(host)

    def _pop(self) -> Host | None:
        self._count()
        return self._spares.pop(0) if self._spares else None

    def _count(self) -> int:
        self._spares = [host for host in self._spares if not host.is_gone]
        return len(self._spares)
