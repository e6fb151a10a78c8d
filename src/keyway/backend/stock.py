"""The streams of one backend: a few wait, and few are opened at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from keyway.backend.stream import Stream, StreamError

__all__ = ["Stock"]

PAUSES: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next attempt after so many that failed: each costs a process or a connection. One failure is taken for bad luck."""
PATIENCE: Final = 1.0
"""Seconds that a call waits for an attempt after one that has failed after more than these: whoever calls has other backends,
too. The attempt goes on all the same, or one that takes longer would never succeed again."""


class Stock:
    """Opens streams and keeps spares.

    Attributes:
        started: Streams opened so far.
        failures: Attempts that failed in a row.
        error: Why the last attempt failed; empty when it did not.
    """

    def __init__(
        self, bring: Callable[[], Awaitable[Stream]], spares: int, failed: Callable[[str], None], at_once: int = 1
    ) -> None:
        """Describe the backend; nothing is opened yet.

        Args:
            bring: Opens a stream.
            spares: How many to have waiting.
            failed: Called with the reason each time that it fails.
            at_once: How many are opened at a time.
        """
        self._bring = bring
        self._wanted = spares
        self._failed = failed
        self._spares: list[Stream] = []
        self._alive: set[Stream] = set()
        self._opening = asyncio.Semaphore(at_once)
        self._attempts: set[asyncio.Task[Stream]] = set()
        self._low = asyncio.Event()
        self._failed_at = self._retry_at = 0.0
        self._is_slow = False
        self.started = 0
        self.failures = 0
        self.error = ""

    @property
    def alive(self) -> int:
        """How many streams there are, spares and those in use."""
        return len(self._alive)

    @property
    def spares(self) -> int:
        """How many streams are waiting."""
        return len(self._spares)

    async def take(self) -> Stream:
        """Return a stream that is ready for C_Initialize; it belongs to the caller, who ends it.

        Raises:
            StreamError: None can be had. While attempts fail, most calls answer so at once.
        """
        self._low.set()
        if (spare := self._pop()) is not None:
            return spare
        if not self._is_slow:
            return await self._next()
        attempt = asyncio.get_running_loop().create_task(self._next())
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        is_taken = False
        try:
            async with asyncio.timeout(PATIENCE):
                stream = await asyncio.shield(attempt)
                is_taken = True
                return stream
        except TimeoutError:
            raise StreamError(self.error) from None
        except asyncio.CancelledError:
            attempt.cancel()
            raise
        finally:
            if not is_taken:
                attempt.add_done_callback(self._keep)

    async def keep_filled(self) -> None:
        """Open spares whenever some are missing; runs until cancelled."""
        while True:
            try:
                while self._count() < self._wanted:
                    async with self._opening:
                        if self._count() < self._wanted:
                            self._add(await self._open())
            except StreamError:
                pass  # Reported already. The next client who wants one tries again.
            self._low.clear()
            await self._low.wait()

    def close(self) -> None:
        """End the spares, and the attempts that nobody waits for."""
        for attempt in self._attempts:
            attempt.cancel()
        while (spare := self._pop()) is not None:
            spare.end(0.0)

    async def wait_ended(self) -> None:
        """Wait until all streams that were ever opened have ended."""
        await asyncio.gather(*self._attempts, return_exceptions=True)
        self.close()  # Some were too far to be cancelled.
        await asyncio.gather(*(stream.ended for stream in self._alive))

    async def _open(self) -> Stream:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._retry_at:
            raise StreamError(self.error)
        try:
            stream = await self._bring()
        except (StreamError, OSError) as error:  # OSError: no descriptors left, say. That passes, too.
            # What has begun before the last failure says nothing new.
            if now >= self._failed_at:
                self._is_slow = loop.time() - now > PATIENCE
                self.note_failure(str(error))
                self._failed(self.error)
            raise StreamError(str(error)) from error
        self._is_slow = False
        self._alive.add(stream)
        stream.ended.add_done_callback(lambda _: self._alive.discard(stream))
        self.started += 1
        return stream

    def note_success(self) -> None:
        """Note that a stream has come so far that the module there is initialised."""
        self.failures = 0
        self.error = ""

    def note_failure(self, reason: str) -> None:
        """Note that a stream did not come so far, so that the next attempts have pauses between them."""
        self._failed_at = asyncio.get_running_loop().time()
        self._retry_at = self._failed_at + PAUSES[min(self.failures, len(PAUSES) - 1)]
        self.failures += 1
        self.error = reason

    def end_pause(self) -> None:
        """Let the next call try at once: the other end has been heard of."""
        self._retry_at = 0.0

    async def _next(self) -> Stream:
        async with self._opening:
            if (spare := self._pop()) is not None:
                self._low.set()  # It was put there after this was last set.
                return spare
            return await self._open()

    def _keep(self, attempt: asyncio.Task[Stream]) -> None:
        """Keep the stream of an attempt that nobody has waited for, for the next call."""
        if attempt.cancelled() or attempt.exception() is not None:
            return  # Reported already.
        if self._count() < max(self._wanted, 1):
            self._spares.append(attempt.result())
        else:
            attempt.result().end(0.0)

    def _add(self, stream: Stream) -> None:
        stream.has_waited = True
        self._spares.append(stream)

    def _pop(self) -> Stream | None:
        self._count()
        return self._spares.pop(0) if self._spares else None

    def _count(self) -> int:
        self._spares = [stream for stream in self._spares if not stream.is_gone]
        return len(self._spares)
