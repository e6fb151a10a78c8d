"""The sessions of a p11-kit server under the handles that the native side chose for them."""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Session", "Sessions"]

_Waiting = TypeVar("_Waiting")


@dataclass(slots=True, eq=False)
class Session(Generic[_Waiting]):
    """An open session.

    Attributes:
        name: The native side's handle.
        handle: The server's.
        slot: Where it was opened.
        since: When it was asked for, on the clock of `Sessions`.
        holds: How many things must end before the next call may be sent: an init whose operation is to follow, or a call that
            may close it. A server gives the handle of a closed session to the next one, so nothing may be sent that would
            arrive behind it.
        waiting: What is to be sent then, in order.
    """

    name: int
    handle: int
    slot: int
    since: int
    holds: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque)


@dataclass(slots=True)
class _Opening:
    slot: int
    since: int
    is_closed: bool = False


class Sessions(Generic[_Waiting]):
    """All open sessions, and those that are being opened."""

    def __init__(self) -> None:
        self._open: dict[int, Session[_Waiting]] = {}
        self._by_handle: dict[int, Session[_Waiting]] = {}
        self._opening: dict[int, _Opening] = {}
        self._now = 0

    def get(self, name: int) -> Session[_Waiting] | None:
        """Return an open session."""
        return self._open.get(name)

    def is_open(self, session: Session[_Waiting]) -> bool:
        """Whether a session was not closed meanwhile."""
        return self._open.get(session.name) is session

    def opening(self, name: int, slot: int) -> bool:
        """Note that a session is asked for, and return whether its handle may be used."""
        if name == 0 or name in self._open or name in self._opening:
            return False
        self._opening[name] = _Opening(slot, self.tick())
        return True

    def not_opened(self, name: int) -> None:
        """Note that the server refused."""
        del self._opening[name]

    def opened(self, name: int, handle: int) -> tuple[Session[_Waiting], Session[_Waiting] | None]:
        """Note that the server has opened a session.

        Returns:
            The session, and one that is found to be closed. A server that gives a handle again has closed the session that was
            asked for earlier; its answers may come in another order, so that may be either of the two.
        """
        opening = self._opening.pop(name)
        session = Session[_Waiting](name, handle, opening.slot, opening.since)
        before = self._by_handle.get(handle)
        if opening.is_closed or (before is not None and before.since > session.since):
            return session, session
        if before is not None:
            self.closed(before)
        self._open[name] = self._by_handle[handle] = session
        return session, before

    def closed(self, session: Session[_Waiting]) -> None:
        """Forget a session."""
        if self.is_open(session):
            del self._open[session.name]
            del self._by_handle[session.handle]

    def closed_all(self, slot: int | None, at: int) -> None:
        """Forget the sessions that were asked for before a moment.

        Args:
            slot: Those of one slot alone; None for all.
            at: The moment.
        """
        for opening in self._opening.values():
            if opening.since < at and slot in (None, opening.slot):
                opening.is_closed = True
        closed = [session for session in self._open.values() if session.since < at and slot in (None, session.slot)]
        for session in closed:
            self.closed(session)

    def of_slot(self, slot: int) -> list[Session[_Waiting]]:
        """Return the open sessions of a slot."""
        return [session for session in self._open.values() if session.slot == slot]

    def tick(self) -> int:
        """Return a moment that is later than all before."""
        self._now += 1
        return self._now
