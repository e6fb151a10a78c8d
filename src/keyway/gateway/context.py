"""A context: one application in the sense of the standard, with its sessions."""

from dataclasses import dataclass

from keyway.cryptoki import RV
from keyway.cryptoki.constants import CKF_RW_SESSION
from keyway.gateway.decisions import Answer, Decision, Relay
from keyway.gateway.routes import Route
from keyway.gateway.slots import SlotMap

__all__ = ["Context", "Session"]


@dataclass(frozen=True, slots=True)
class Session:
    """An open session.

    Attributes:
        slot: Its slot, as the client numbers it.
        backend: The backend that it is bound to.
    """

    slot: int
    backend: str


class Context:
    """Decides where each call of one client goes. It never sees a body, only what the frame's header and a few arguments say.

    Attributes:
        slots: What the client's slot numbers mean.
        sessions: The open sessions by handle.
        lost: Sessions whose backend ended under them, until the client closes them: handle to slot.
    """

    def __init__(self, backends: tuple[str, ...], slots: SlotMap, max_sessions: int) -> None:
        """Start a context without sessions.

        Args:
            backends: Names of the backends, at least one.
            slots: What the client's slot numbers mean.
            max_sessions: How many sessions may be open, lost ones included.
        """
        self.slots = slots
        self.sessions: dict[int, Session] = {}
        self.lost: dict[int, int] = {}
        self._opening: set[int] = set()
        self._first = backends[0]
        self._max_sessions = max_sessions

    def decide(self, route: Route, target: int) -> Decision:
        """Return what to do with a call that a backend answers.

        Args:
            route: The call's route; not one of those that concern the context as a whole.
            target: The session handle or the slot number of the client; 0 for a call without one.
        """
        if route in _OF_SESSIONS:
            if target in self.lost:
                return self._to_lost(route, target)
            session = self.sessions.get(target)
            # A handle that names no session goes to a module all the same, which finds the RV that it would have found.
            return Relay(session.backend if session else self._first, target)
        if route in _OF_SLOTS:
            slot = self.slots.resolve(target)
            if route is Route.CLOSE_ALL_SESSIONS:
                self._forget_lost(target)
                if slot is RV.CKR_TOKEN_NOT_PRESENT:
                    return Answer(RV.CKR_OK)
            if isinstance(slot, RV):
                return Answer(slot)
            return Relay(slot.backend, slot.slot)
        return Relay(self._first, target)

    def writing(self, route: Route, slot: int, flags: int) -> Answer | None:
        """Return why a client can't do what would change a token, or None if it is not the gateway that says no.

        Without a read/write session nothing on a token can be changed but by C_InitToken (PKCS #11 3.2, section 5.6.1).

        Args:
            route: OPEN_SESSION or INIT_TOKEN.
            slot: The slot as the client numbers it.
            flags: What C_OpenSession is given.
        """
        is_writing = route is Route.INIT_TOKEN or flags & CKF_RW_SESSION
        return Answer(RV.CKR_TOKEN_WRITE_PROTECTED) if is_writing and self.slots.is_protected(slot) else None

    def opening(self, handle: int) -> Answer | None:
        """Note that a client wants a session; return why it can't have it, or None if a backend may be asked.

        Args:
            handle: The handle that the client chose.
        """
        if handle == 0 or handle in self.sessions or handle in self.lost or handle in self._opening:
            return Answer(RV.CKR_ARGUMENTS_BAD)
        if len(self.sessions) + len(self.lost) + len(self._opening) >= self._max_sessions:
            return Answer(RV.CKR_HOST_MEMORY)
        self._opening.add(handle)
        return None

    def not_opened(self, handle: int) -> None:
        """Note that a backend refused, or ended before it answered."""
        self._opening.discard(handle)

    def opened(self, handle: int, slot: int, backend: str) -> None:
        """Note a session that a backend has opened."""
        self._opening.discard(handle)
        self.sessions[handle] = Session(slot, backend)

    def closed(self, handle: int) -> None:
        """Note that a session is closed."""
        self.sessions.pop(handle, None)

    def closed_all(self, slot: int) -> list[int]:
        """Note that all sessions of a slot are closed, and return their handles."""
        closed = [handle for handle, session in self.sessions.items() if session.slot == slot]
        for handle in closed:
            del self.sessions[handle]
        return closed

    def lose(self, backend: str) -> int:
        """Note that a backend ended, and with it its sessions. Return how many were open."""
        lost = {handle: session.slot for handle, session in self.sessions.items() if session.backend == backend}
        self.lost |= lost
        for handle in lost:
            del self.sessions[handle]
        return len(lost)

    def _to_lost(self, route: Route, handle: int) -> Answer:
        if route is Route.CLOSE_SESSION:
            del self.lost[handle]
            return Answer(RV.CKR_OK)
        return Answer(RV.CKR_DEVICE_REMOVED)

    def _forget_lost(self, slot: int) -> None:
        self.lost = {handle: of for handle, of in self.lost.items() if of != slot}


_OF_SESSIONS = frozenset({Route.SESSION, Route.SESSION_INFO, Route.CLOSE_SESSION})
_OF_SLOTS = frozenset(
    {
        Route.SLOT,
        Route.SLOT_INFO,
        Route.TOKEN_INFO,
        Route.INIT_TOKEN,
        Route.OPEN_SESSION,
        Route.CLOSE_ALL_SESSIONS,
    }
)
