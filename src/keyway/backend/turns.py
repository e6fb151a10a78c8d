"""Taking turns at what several processes with the same module can't do at the same time.

Modules that keep their tokens in files write there when somebody logs in, and some of them fail when another process
reads just then (SoftHSM does, with CKR_GENERAL_ERROR). So these calls take turns over all hosts of a backend: any number
of *shared* ones at a time, or one *exclusive* one. The rest of the module's work knows no turns.
"""

import asyncio
from collections import deque
from typing import Final

__all__ = ["Turn", "Turns"]

LONGEST: Final = 1.0
"""Seconds after which a turn is over although its call is not: a PIN pad may wait for its user, a module may hang, and
neither must keep the other clients waiting."""


class Turn:
    """A turn that was given.

    Attributes:
        is_exclusive: Whether there is no other at the same time.
        since: When it was given, by the loop's clock.
    """

    __slots__ = ("_turns", "is_exclusive", "since")

    def __init__(self, turns: "Turns", is_exclusive: bool, since: float) -> None:
        self.is_exclusive = is_exclusive
        self.since = since
        self._turns = turns

    def end(self) -> None:
        """Give the turn back. More than once does no harm."""
        self._turns.ended(self)


class Turns:
    """Gives turns in the order in which they were asked for."""

    def __init__(self, *, needed: bool = True) -> None:
        """Needs a running loop.

        Args:
            needed: False if whoever asks gets a turn at once: what is elsewhere sees to that itself.
        """
        self._needed = needed
        self._loop = asyncio.get_running_loop()
        self._given: set[Turn] = set()
        self._waiting: deque[tuple[bool, asyncio.Future[Turn]]] = deque()
        self._check: asyncio.TimerHandle | None = None

    def take_nowait(self, exclusive: bool) -> Turn | None:
        """Return a turn if there is one at once."""
        if self._waiting or not self._is_free(exclusive):
            return None
        return self._give(exclusive)

    async def take(self, exclusive: bool) -> Turn:
        """Wait for a turn."""
        if (turn := self.take_nowait(exclusive)) is not None:
            return turn
        place: asyncio.Future[Turn] = self._loop.create_future()
        self._waiting.append((exclusive, place))
        if self._check is None:
            self._check = self._loop.call_later(LONGEST, self._expire)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                place.result().end()
            self._next()
            raise

    def ended(self, turn: Turn) -> None:
        """Note that a turn is over."""
        if turn in self._given:
            self._given.remove(turn)
            self._next()

    def _is_free(self, exclusive: bool) -> bool:
        if not self._needed:
            return True
        return not self._given if exclusive else not any(turn.is_exclusive for turn in self._given)

    def _give(self, exclusive: bool) -> Turn:
        turn = Turn(self, exclusive, self._loop.time())
        self._given.add(turn)
        return turn

    def _next(self) -> None:
        while self._waiting:
            exclusive, place = self._waiting[0]
            if not place.done():
                if not self._is_free(exclusive):
                    return
                place.set_result(self._give(exclusive))
            self._waiting.popleft()

    def _expire(self) -> None:
        self._check = None
        now = self._loop.time()
        self._given = {turn for turn in self._given if now - turn.since < LONGEST}
        self._next()
        if self._waiting:
            oldest = min((turn.since for turn in self._given), default=now)
            self._check = self._loop.call_at(oldest + LONGEST, self._expire)
