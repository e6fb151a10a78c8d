"""What the pool keeps of a client's session, and of its call that is under way."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV, Call, Step
from keyway.gateway.pool.binding import SessionFacts
from keyway.wire.ahead import READ_AHEAD
from keyway.wire.header import HEADER_SIZE

if TYPE_CHECKING:
    from keyway.daemon.link import Frame
    from keyway.daemon.pool.lane import Lane
    from keyway.daemon.pool.member import Member

__all__ = ["Journal", "PoolCall", "PoolSession", "call_name"]

_HAS_OUTPUT: Final = frozenset(
    call.number for call in CALLS if any(argument.kind == "buffer" for argument in call.args)
)
"""Calls whose reply tells a length, and data if there was room for it."""
_KEEP: Final = frozenset({RV.CKR_BUFFER_TOO_SMALL, RV.CKR_ARGUMENTS_BAD})
"""RVs after which an operation is still active: the first by the standard, the other with some tokens. One that is taken for active and is not
only keeps the session where it is until the next."""
_MESSAGES: Final = frozenset(call.operation for call in CALLS if call.operation.startswith("message-"))
"""Operations that their last call ends, and no message that is refused (PKCS #11 3.2, sections 5.9, 5.11, 5.14 and 5.16)."""
_WHOLE_MESSAGES: Final = frozenset({"C_EncryptMessage", "C_DecryptMessage", "C_SignMessage", "C_VerifyMessage"})
"""Calls of a message operation that leave no trace in it."""
_ENDS: Final = frozenset({Step.WHOLE, Step.END})


class PoolCall:
    """A client's call.

    Attributes:
        frame: The request's header.
        data: The whole request.
        session: Its session.
        lane: Where it was sent; None while it was not.
        member: The member that it was sent to last.
        since: When it came, by the monotonic clock.
        asked: When the other end was last asked for a sign of life; 0 for never.
        is_over: Whether nobody waits for its reply any more.
    """

    __slots__ = ("asked", "data", "frame", "is_over", "lane", "member", "sent", "session", "since")

    def __init__(self, frame: Frame, data: bytes, session: PoolSession) -> None:
        self.frame = frame
        self.data = data
        self.session = session
        self.since = self.sent = monotonic()
        self.asked = 0.0
        self.lane: Lane | None = None
        self.member: Member | None = None
        self.is_over = False


class Journal:
    """The requests of the operations that are active, so that they can be made again elsewhere.

    Attributes:
        requests: Header and whole frame of each, in order.
        is_complete: Whether everything that the operations have been told is in it, and may be told again.
    """

    __slots__ = ("_limit", "_size", "is_complete", "requests")

    def __init__(self, limit: int) -> None:
        """Start an empty one.

        Args:
            limit: Bytes of requests that are kept.
        """
        self.requests: list[tuple[Frame, bytes]] = []
        self.is_complete = True
        self._size = 0
        self._limit = limit

    def add(self, frame: Frame, data: bytes) -> None:
        """Note a request that was executed. Above the limit nothing is kept, and what was is dropped."""
        self._size += len(data)
        if self._size > self._limit:
            self.spoil()
        elif self.is_complete:
            self.requests.append((frame, data))

    def forget_message(self, operation: str) -> None:
        """Forget the message that was under way in an operation of messages: it is over, and has left no trace there."""
        self.requests = [each for each in self.requests if not _is_of_message(each[0], operation)]
        self._size = sum(len(data) for _, data in self.requests)

    def spoil(self) -> None:
        """Note that the operations can't be made again."""
        self.is_complete = False
        self.requests.clear()

    def clear(self) -> None:
        """Forget all: no operation is active."""
        self.requests.clear()
        self.is_complete = True
        self._size = 0


class PoolSession:
    """A session of the client's.

    Attributes:
        handle: Its handle, the same on every lane.
        flags: What C_OpenSession was given.
        home: The member that it was opened at.
        current: The call under way; None if there is none.
        queue: Requests that wait for it.
        operations: Names of the operations that are active.
        bound: The lane on which they are; None if there are none.
        journal: Their requests.
        search: Handles that C_FindObjects has not given yet; None if no search is active.
        objects: The session objects that were made in it.
        state_was_set: Whether C_SetOperationState was called.
        specific_login: Whether a context-specific login was made.
        cold: How many calls found it not ready at some member since one came back.
        is_stateful: Whether the active operation changes its key by being used.
        is_adrift: Whether the operations are not where they were any more, though the lane is.
    """

    __slots__ = (
        "bound", "cold", "current", "flags", "handle", "home", "is_adrift", "is_stateful", "journal", "objects", "operations", "queue", "search",
        "specific_login", "state_was_set",
    )  # fmt: skip

    def __init__(self, handle: int, flags: int, home: Member, journal: int) -> None:
        self.handle = handle
        self.flags = flags
        self.home = home
        self.current: PoolCall | None = None
        self.queue: deque[tuple[Frame, bytes]] = deque()
        self.operations: set[str] = set()
        self.bound: Lane | None = None
        self.journal = Journal(journal)
        self.search: deque[int] | None = None
        self.objects: set[int] = set()
        self.state_was_set = False
        self.specific_login = False
        self.is_adrift = False
        self.is_stateful = False
        self.cold = 0

    def facts(self, *, is_so: bool) -> SessionFacts:
        """Return what decides whether the session stays where it is.

        Args:
            is_so: Whether the security officer is logged in.
        """
        return SessionFacts(
            operations=frozenset(self.operations),
            searching=self.search is not None,
            session_objects=len(self.objects),
            state_was_set=self.state_was_set,
            specific_login=self.specific_login,
            is_so=is_so,
            has_stateful_key=self.is_stateful,
        )

    def note(self, lane: Lane, frame: Frame, data: bytes, rv: int, reply: bytes) -> None:
        """Note what a call did to the operations.

        Args:
            lane: Where it was made.
            frame: The request's header.
            data: The whole request.
            rv: The RV.
            reply: The whole reply.
        """
        number = frame[1]
        if number == READ_AHEAD:
            return
        row = CALLS[number - 1]
        name = row.operation
        if not name or name == "find":
            return
        is_fused = frame[2] & 0x0002
        if row.step is Step.START:
            if rv == RV.CKR_OK and data[HEADER_SIZE] == 0:
                self._ended(name)  # NULL in place of a mechanism ends the operation (PKCS #11 3.2, section 5.2).
            elif rv == RV.CKR_OK:
                self._began(name, lane)
                self.journal.add(frame, data)
            return
        if not is_fused and name not in self.operations and name != "dual" and not self.state_was_set:
            return
        if name in _MESSAGES and row.step is Step.CONTINUE and rv != RV.CKR_OPERATION_NOT_INITIALIZED:
            self._note_message(row, frame, data, rv)
            return
        goes_on = rv in _KEEP or (
            rv == RV.CKR_OK
            and (
                row.step not in _ENDS or (number in _HAS_OUTPUT and not reply[HEADER_SIZE : HEADER_SIZE + 1] > b"\x01")
            )
        )
        if is_fused and reply[6:8] == b"\x00\x05":
            return  # The init call failed: nothing began.
        if not goes_on:
            if self.bound is None:
                return  # None was active.
            if name != "dual":  # Two operations are active, and the next call of either will tell.
                self._ended(name)
            return
        if is_fused:
            self._began(name, lane)
            self.journal.add(frame, data)
        elif row.step not in _ENDS and rv == RV.CKR_OK:
            self.journal.add(frame, data)

    def _note_message(self, row: Call, frame: Frame, data: bytes, rv: int) -> None:
        is_under_way = rv in _KEEP or (rv == RV.CKR_OK and row.name not in _WHOLE_MESSAGES)
        if not is_under_way or row.name.endswith("Begin"):
            self.journal.forget_message(row.operation)
        if is_under_way and rv == RV.CKR_OK:
            self.journal.add(frame, data)

    def end_operations(self) -> None:
        """Forget all operations."""
        self.operations.clear()
        self.bound = None
        self.journal.clear()
        self.specific_login = False
        self.state_was_set = False
        self.is_adrift = False
        self.is_stateful = False

    def _began(self, name: str, lane: Lane) -> None:
        self.operations.add(name)
        self.bound = lane
        if name == "message-encrypt":
            self.journal.spoil()  # The token may make the IVs, and none of them twice.

    def _ended(self, name: str) -> None:
        self.operations.discard(name)
        if not self.operations or self.state_was_set:
            self.end_operations()


def _is_of_message(frame: Frame, operation: str) -> bool:
    row = CALLS[frame[1] - 1]
    return row.operation == operation and row.step is Step.CONTINUE


def call_name(frame: Frame) -> str:
    """Return the name of the call that a request makes."""
    return "READ_AHEAD" if frame[1] == READ_AHEAD else CALLS[frame[1] - 1].name
