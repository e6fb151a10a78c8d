"""A stream to a pool: what the daemon's side sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyway.backend.stream import Stream
from keyway.daemon.pool.context import PoolContext
from keyway.daemon.within import WithinTransport
from keyway.wire.ahead import NEWS

if TYPE_CHECKING:
    from keyway.daemon.pool.pool import Pool

__all__ = ["PoolStream", "PoolTransport"]


class PoolTransport(WithinTransport[PoolContext]):
    """Hands frames to a pool's context and back, within the process."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.context = PoolContext(pool, self)

    def pause_reading(self) -> None:
        """Let no replies come."""
        self.is_paused = True
        for lane in self.context.lanes.values():
            lane.host.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let them come again."""
        self.is_paused = False
        for lane in self.context.lanes.values():
            lane.host.transport.resume_reading()

    # For the context

    def set_busy(self, busy: bool) -> None:
        """Say that no more requests can be taken for now, or that they can again."""
        if self._protocol is not None and not self._is_closing:
            if busy:
                self._protocol.pause_writing()
            else:
                self._protocol.resume_writing()

    def news(self) -> None:
        """Tell that objects have changed."""
        self.deliver(NEWS)


class PoolStream(Stream):
    """A stream to a pool.

    Attributes:
        context: What is at the other end.
    """

    kind = "pool"

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.name)
        self._pool = pool
        transport = PoolTransport(pool)
        self.transport = transport
        self.context = transport.context

    @property
    def place(self) -> str:
        """The pool."""
        return self._pool.token_name

    def note_lost(self, error: Exception | None) -> None:
        """Do nothing: what counts is the end of the lanes."""

    def end(self, grace: float) -> None:
        """Close the stream. The lanes have their own times."""
        self.transport.close()
        self._pool.tasks.start(self._end(), "end of a pool's context")

    async def _end(self) -> None:
        await self.context.wait_ended()
        self._pool.left(self.context)
        if not self.ended.done():
            self._note_end("closed")

    def _cut_off(self) -> None:
        """Close the stream."""
        self.transport.close()
