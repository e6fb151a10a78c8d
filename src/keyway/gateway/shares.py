"""Who may pass how many requests in one turn of the loop: turns are shared by identities, however many connections each has."""

from collections import deque
from collections.abc import Callable, Generator
from typing import Final, Generic, TypeVar

__all__ = ["ALONE", "MEMORY", "TURN", "Share", "Shares"]

TURN: Final = 32
"""Requests of one identity that pass in a turn while others are busy. No connection passes more in a row at any time."""
ALONE: Final = 8 * TURN
"""Requests of one identity that pass in a turn while no other one is busy: so many may be before the first request of another one."""
MEMORY: Final = 64
"""Turns without a request after which an identity is not busy any more."""

_T = TypeVar("_T")


class Share(Generic[_T]):
    """What one identity has of the turns.

    Whoever passes requests on passes no more than `left` in all and than TURN in a row, lowers `left` by what they count, be it below 0, and
    calls `Shares.spent` when `left` is less than `low`. Whoever has more to pass on, and may not, waits (`Shares.wait`).

    Attributes:
        name: The identity's name.
        left: How many requests may still pass in this turn.
        low: With less than this left, another turn is needed: a half of what one brings, so that who passes less than that finds enough in each. While the
            identity is not busy, that is so after its first request.
        waiting: Who waits for the next turn, in order.
        connections: How many have a part in it.
    """

    __slots__ = ("connections", "is_busy", "is_spent", "left", "look_at", "low", "name", "waiting", "was_spent")

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.left = self.low = TURN
        self.waiting: deque[_T] = deque()
        self.connections = 0
        self.is_busy = False
        self.is_spent = False
        self.was_spent = False
        self.look_at = 0

    def fill(self, *, alone: bool) -> None:
        """Give what a turn brings. What was taken too much is paid for."""
        self.left = ALONE if alone else min(TURN, self.left + TURN)
        self.low = (ALONE if alone else TURN) // 2
        self.is_spent = False

    def trim(self) -> None:
        """Take away what there is no more of when another identity is busy as well."""
        self.left = min(self.left, TURN)
        self.low = TURN // 2


class Shares(Generic[_T]):
    """The shares of all identities. Turns are counted as they are needed: while all pass few requests there are few."""

    def __init__(self, soon: Callable[[], object]) -> None:
        """Begin with nobody.

        Args:
            soon: Called when the next turn is needed. Then `turn` must be called in the next turn of the loop, before anything is read there.
        """
        self._soon = soon
        self._is_due = False
        self._number = 0
        self._shares: dict[str, Share[_T]] = {}
        self._busy: deque[Share[_T]] = deque()  # In the order in which they are looked at again.
        self._spent: list[Share[_T]] = []
        self._awaited: dict[Share[_T], None] = {}

    def __len__(self) -> int:
        """How many identities are known."""
        return len(self._shares)

    def enter(self, name: str) -> Share[_T]:
        """Return the share that a new connection has a part in.

        Args:
            name: The identity's name.
        """
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = Share(name)
        share.connections += 1
        return share

    def leave(self, share: Share[_T]) -> None:
        """Forget a connection, and an identity that has none. One that was busy is remembered for a while, or it could have another turn by coming again."""
        share.connections -= 1
        self._forget(share)

    def spent(self, share: Share[_T]) -> None:
        """Take note that little of a share is left."""
        if not share.is_busy:
            self._begins(share)
        if share.left < share.low and not share.is_spent:
            share.is_spent = share.was_spent = True
            self._spent.append(share)
            self._ask()

    def wait(self, share: Share[_T], who: _T) -> None:
        """Let somebody pass requests in one of the next turns.

        Args:
            share: Its identity's share.
            who: Who; must not wait already.
        """
        share.waiting.append(who)
        self._awaited[share] = None
        self._ask()

    def turn(self) -> Generator[_T]:
        """Begin a turn, and return who may pass requests now, one after the other. Those of one identity come in the order in which they began to wait, as long as something is left to it.

        To be closed by whoever does not go on to its end.
        """
        self._is_due = False
        self._number += 1
        self._look_who_is_busy()
        alone = len(self._busy) == 1
        for share in self._spent:
            share.fill(alone=alone)
        self._spent.clear()
        awaited, self._awaited = self._awaited, {}
        try:
            for share in awaited:
                for _ in range(len(share.waiting)):
                    if share.left <= 0:
                        break
                    yield share.waiting.popleft()
        finally:
            for share in awaited:
                if share.waiting:
                    self._awaited[share] = None
                    self._ask()

    def _begins(self, share: Share[_T]) -> None:
        """Take note that an identity is busy now. If no other one is, it has at once what it may have alone."""
        share.is_busy = share.was_spent = True
        share.look_at = self._number + MEMORY
        if not self._busy:
            share.left += ALONE - TURN
            share.low = ALONE // 2
        elif len(self._busy) == 1:
            self._busy[0].trim()
        self._busy.append(share)

    def _look_who_is_busy(self) -> None:
        while self._busy and self._busy[0].look_at <= self._number:
            share = self._busy.popleft()
            if share.was_spent or share.left < TURN:
                share.was_spent = share.is_spent
                share.left = share.left if share.is_spent else TURN
                share.look_at = self._number + MEMORY
                self._busy.append(share)
            else:
                share.is_busy = False
                share.left = share.low = TURN
                self._forget(share)

    def _forget(self, share: Share[_T]) -> None:
        if not share.connections and not share.is_busy:
            self._shares.pop(share.name, None)

    def _ask(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._soon()
