"""One round trip for a signature of a client that makes two calls for it, as libkeyway.so has it by itself.

Once an init call and the call that it is for have both succeeded on a token, the same init call in a session without an operation is
answered at once and *deferred*: it travels with the call that follows (docs/wire.md, section 5). Whatever else happens in the session
sends it first, and so does whatever may change the token, in any session. docs/architecture.md tells why this is exact.

No I/O: the native frames of one client come in and go out.
"""

from collections import deque
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from keyway.bridge.activity import IDLE, after
from keyway.bridge.lessons import Init, Lessons, is_repeatable
from keyway.cryptoki import CALLS, RV, Call, Effect, Kind, Step, Target, call_named
from keyway.wire.header import HEADER, HEADER_SIZE, MAX_BODY, Flags

__all__ = ["Frame", "Fusion", "Passed"]

Header: TypeAlias = tuple[int, int, int, int, int, int]
"""A native header as the struct gives it: length, call, flags, id, target, object."""
Frame: TypeAlias = tuple[Header, bytes]
"""A header, and the whole frame."""

_UNPACK: Final = HEADER.unpack_from
_OPEN_SESSION: Final = call_named("C_OpenSession").number
_CLOSE_SESSION: Final = call_named("C_CloseSession").number
_CLOSE_ALL_SESSIONS: Final = call_named("C_CloseAllSessions").number
_SINGLE_OBJECT: Final = frozenset({call_named("C_DestroyObject").number, call_named("C_SetAttributeValue").number})

_ROWS: Final = {call.number: call for call in CALLS}
_DEFERRABLE: Final = frozenset(call.init for call in CALLS if call.init and call.step is Step.WHOLE)
"""Init calls of operations that one call does. Searches are left alone."""
_WITH_ROOM: Final = frozenset(call.number for call in CALLS if call.args and call.args[-1].kind is Kind.BUFFER)
_WITH_BUFFER: Final = 3
_ROOM_SIZE: Final = 9
_UNCHANGED: Final = b"\3"
"""What an init call replies of a mechanism into whose parameter nothing was written."""

_OF_SESSIONS: Final = frozenset(call.number for call in CALLS if call.target is Target.SESSION)
_NEUTRAL: Final = frozenset(
    number for number in _OF_SESSIONS if not _ROWS[number].operation and _ROWS[number].effect is Effect.NONE
)
"""Calls that change nothing that is kept here."""

_GONE: Final = frozenset({RV.CKR_SESSION_HANDLE_INVALID, RV.CKR_SESSION_CLOSED, RV.CKR_DEVICE_REMOVED})
"""RVs that say that a session is over, though the application has not closed it; so may the login be."""
_UPHEAVALS: Final = _GONE | {RV.CKR_DEVICE_ERROR, RV.CKR_DEVICE_MEMORY, RV.CKR_TOKEN_NOT_PRESENT}
"""RVs that say that the token may not be the one any more that we know."""


class _Disturbance(Enum):
    """What a call may do to what is known, and to what is deferred in other sessions."""

    OBJECTS = "there may be more objects: deferred calls go first, nothing is forgotten"
    OBJECT = "an object may be another one, or gone"
    TOKEN = "everything about the token may change"  # noqa: S105 (no password)


class _Session:
    """What is known of one session.

    Attributes:
        slot: Its slot.
        activity: The operations that may be active in it.
        in_flight: How many of its calls are not answered.
        deferred: The init call that was answered and not sent, and its frame.
        current: The init call of the active operation, if that can be learned, and the age of the knowledge when it was made.
        failed: The operation of a deferred init call that failed when it was sent, and the RV; for the next call of that operation.
        has_made: Whether objects were made in it; some may end with it.
        is_open: Whether it is open, and not being closed.
    """

    __slots__ = ("activity", "current", "deferred", "failed", "has_made", "in_flight", "is_open", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.activity = IDLE
        self.in_flight = 0
        self.deferred: tuple[Init, Frame] | None = None
        self.current: tuple[Init, int] | None = None
        self.failed: tuple[str, int] | None = None
        self.has_made = False
        self.is_open = False


class _Asked(NamedTuple):
    """A call that is not answered.

    Attributes:
        call: Its row.
        session: Its session, if that is known.
        init: The init call that it is, or that went with it, if it can be learned; and the age of the knowledge.
        is_ours: Whether it is an init call that was answered before.
        is_fused: Whether the init call went with it.
        wanted: Whether its result was asked for, and not the length alone.
        disturbance: What it disturbs.
        slot: Its slot, or that of its session.
        object: The object that it concerns.
    """

    call: Call
    session: _Session | None
    init: tuple[Init, int] | None = None
    is_ours: bool = False
    is_fused: bool = False
    wanted: bool = True
    disturbance: _Disturbance | None = None
    slot: int = 0
    object: int = 0


class Passed(NamedTuple):
    """What follows from what came.

    Attributes:
        send: Frames for the native side, in this order.
        answer: Whole reply frames for the client.
    """

    send: list[Frame]
    answer: bytes = b""


class Fusion:
    """Stands between a client's native frames and the native side."""

    def __init__(self) -> None:
        self._lessons = Lessons()
        self._sessions: dict[int, _Session] = {}
        self._asked: dict[int, _Asked] = {}
        self._disturbing = 0
        self._first: set[int] = set()
        self._waiting: deque[Frame] = deque()

    @property
    def is_waiting(self) -> bool:
        """Whether requests wait for init calls that must be over first. Whoever brings more should stop."""
        return bool(self._waiting)

    def request(self, header: Header, data: bytes) -> Passed:
        """Take a request.

        Args:
            header: Its header.
            data: The whole frame.
        """
        if self._waiting:
            self._waiting.append((header, data))
            return Passed([])
        return self._request(header, data)

    def lose(self) -> None:
        """Note that a backend has ended, and with it sessions and logins, whether or not a reply tells the client."""
        self._lessons.forget_all()
        for session in self._sessions.values():
            # Those of other backends are still open. To take one for the last that is not costs a round trip.
            session.is_open = False

    def replies(self, data: bytes) -> Passed:
        """Take whole reply frames. Those to init calls that were answered before end here."""
        send: list[Frame] = []
        answer = b""
        at = start = 0
        end = len(data)
        while at < end:
            header = _UNPACK(data, at)
            stop = at + HEADER_SIZE + header[0]
            if header[5] in _UPHEAVALS:
                self._lessons.forget_all()
                if header[5] in _GONE and header[1] in _OF_SESSIONS and header[4] in self._sessions:
                    self._sessions[header[4]].is_open = False
            asked = self._asked.pop(header[3], None)
            if asked is not None:
                instead = self._note(asked, header)
                if instead is not None:
                    answer += data[start:at] + instead
                    start = stop
                self._first.discard(header[3])
            at = stop
        answer += data[start:] if start else data
        while self._waiting and not self._first:
            more = self._request(*self._waiting.popleft())
            send += more.send
            answer += more.answer
        return Passed(send, answer)

    # Requests

    def _request(self, header: Header, data: bytes) -> Passed:
        number = header[1]
        session = self._sessions.get(header[4]) if number in _OF_SESSIONS else None
        if session is None:
            return self._other(header, data, None)
        if number in _DEFERRABLE:
            return self._start(header, data, session)
        if session.deferred is None:
            return Passed([(header, data)]) if number in _NEUTRAL else self._other(header, data, session)
        init = session.deferred[0]
        if _ROWS[number].init == init.call and len(data) - HEADER_SIZE + len(init.body) <= MAX_BODY:
            return Passed([self._fused(header, data, session, init)])
        return self._other(header, data, session)

    def _other(self, header: Header, data: bytes, session: _Session | None) -> Passed:
        """Take a request before which deferred init calls may have to be sent."""
        call = _ROWS[header[1]]
        disturbance = self._disturbance(call, session)
        if disturbance is not None and (first := self._send_deferred(session)):
            self._waiting.appendleft((header, data))
            return Passed(first)
        send: list[Frame] = []
        if session is not None and session.deferred is not None:
            if call.number == _CLOSE_SESSION:
                session.deferred = None
            else:
                send.append(self._late(session))
        send.append(self._sent(header, data, call, session, disturbance))
        return Passed(send)

    def _start(self, header: Header, data: bytes, session: _Session) -> Passed:
        send = [] if session.deferred is None else [self._late(session)]
        session.failed = None
        init = Init(session.slot, header[1], header[5], data[HEADER_SIZE:])
        can_be_deferred = not (session.activity or session.in_flight or self._disturbing)
        if can_be_deferred and self._lessons.knows(init):
            session.deferred = init, (header, data)
            _, number, _, id_, target, _ = header
            return Passed(send, HEADER.pack(1, number, Flags.REPLY, id_, target, RV.CKR_OK) + _UNCHANGED)
        lesson = (init, self._lessons.age) if is_repeatable(init.body) else None
        session.in_flight += 1
        self._asked[header[3]] = _Asked(_ROWS[header[1]], session, lesson)
        return Passed([*send, (header, data)])

    def _fused(self, header: Header, data: bytes, session: _Session, init: Init) -> Frame:
        session.deferred = None
        session.in_flight += 1
        call = _ROWS[header[1]]
        lesson = init, self._lessons.age
        self._asked[header[3]] = _Asked(call, session, lesson, is_fused=True, wanted=_is_wanted(call, data))
        fused = (header[0] + len(init.body), header[1], header[2] | Flags.FUSED, header[3], header[4], init.object)
        return fused, HEADER.pack(*fused) + init.body + data[HEADER_SIZE:]

    def _late(self, session: _Session) -> Frame:
        """Return the frame of a deferred init call, which is sent by itself."""
        assert session.deferred is not None
        init, frame = session.deferred
        session.deferred = None
        session.in_flight += 1
        self._asked[frame[0][3]] = _Asked(_ROWS[init.call], session, (init, self._lessons.age), is_ours=True)
        return frame

    def _send_deferred(self, own: _Session | None) -> list[Frame]:
        """Return the deferred init calls of all sessions but one, which sees to its own."""
        sessions = [each for each in self._sessions.values() if each.deferred is not None and each is not own]
        frames = [self._late(session) for session in sessions]
        self._first.update(header[3] for header, _ in frames)
        return frames

    def _sent(
        self, header: Header, data: bytes, call: Call, session: _Session | None, disturbance: _Disturbance | None
    ) -> Frame:
        if call.number == _OPEN_SESSION:
            # Here from now on, so that calls are seen which do not wait for the reply. The handle that was chosen is the last argument.
            session = self._sessions[int.from_bytes(data[-8:], "big")] = _Session(header[4])
        slot = header[4] if session is None else session.slot
        asked = _Asked(
            call, session, wanted=_is_wanted(call, data), disturbance=disturbance, object=header[5], slot=slot
        )
        if disturbance is not None:
            self._disturbing += 1
            self._disturb(asked)
        if session is not None:
            session.in_flight += 1
            session.is_open = session.is_open and call.number != _CLOSE_SESSION
        self._asked[header[3]] = asked
        return header, data

    def _disturbance(self, call: Call, session: _Session | None) -> _Disturbance | None:
        if call.number in _SINGLE_OBJECT:
            return _Disturbance.OBJECT
        if call.number == _CLOSE_SESSION:
            # One that is not known was opened while all were being closed; what is made in it is not seen.
            return _Disturbance.TOKEN if session is None or self._is_last(session) else None
        if call.number == _CLOSE_ALL_SESSIONS or call.effect in (Effect.LOGIN, Effect.TOKEN):
            return _Disturbance.TOKEN
        return _Disturbance.OBJECTS if call.effect is Effect.OBJECTS else None

    def _is_last(self, session: _Session) -> bool:
        """Tell whether more ends with a session: objects, or the login."""
        others = (each for each in self._sessions.values() if each is not session and each.is_open)
        return session.has_made or all(each.slot != session.slot for each in others)

    def _disturb(self, asked: _Asked) -> None:
        if asked.disturbance is _Disturbance.OBJECT:
            self._lessons.forget_object(asked.object)
        elif asked.disturbance is _Disturbance.TOKEN:
            self._lessons.forget_all()

    # Replies

    def _note(self, asked: _Asked, header: Header) -> bytes | None:
        """Note what a reply tells, and return what the client gets instead; None if it gets the reply."""
        rv = header[5]
        if asked.disturbance is not None:
            self._disturbing -= 1
            # What was learned during the call may not hold any more.
            self._disturb(asked)
        session = asked.session
        if session is None:
            self._note_sessions(asked, rv)
            return None
        session.in_flight -= 1
        call = asked.call
        if asked.is_fused and rv == RV.CKR_OK and asked.wanted and not session.activity and not session.failed:
            # The end that was expected: as before, no operation is active, and nothing new is to be learned.
            session.current = None
            return None
        if asked.is_ours or header[2] & Flags.INIT:
            return self._note_late(asked, session, header)
        if call.number in (_OPEN_SESSION, _CLOSE_SESSION):
            if session.has_made:
                # Maybe since it was asked to close. Its objects are gone.
                self._lessons.forget_all()
            session.is_open = (call.number == _OPEN_SESSION) is (rv == RV.CKR_OK) and rv not in _GONE
            if not session.is_open:
                self._sessions = {handle: each for handle, each in self._sessions.items() if each is not session}
            return None
        if rv == RV.CKR_OK and call.effect is Effect.OBJECTS and call.number not in _SINGLE_OBJECT:
            session.has_made = True
        self._note_operation(asked, session, rv)
        failed = session.failed
        if failed is not None and call.operation == failed[0]:
            session.failed = None
            if rv == RV.CKR_OPERATION_NOT_INITIALIZED:
                # Its init call has failed, which was answered too early.
                return _bare(header, failed[1])
        return None

    def _note_late(self, asked: _Asked, session: _Session, header: Header) -> bytes:
        """An init call that was answered before has been made, alone or in vain: the client gets no reply to it, or that RV."""
        assert asked.init is not None
        init, _ = asked.init
        rv = header[5]
        row = _ROWS[init.call]
        session.activity = after(session.activity, row, rv)
        session.current = None
        if rv != RV.CKR_OK:
            self._lessons.forget(init)
        if not asked.is_ours:
            return _bare(header, rv)
        if rv == RV.CKR_OK:
            session.current = asked.init
        else:
            session.failed = row.operation, rv
        return b""

    def _note_operation(self, asked: _Asked, session: _Session, rv: int) -> None:
        call = asked.call
        if asked.is_fused and asked.init is not None:
            # The init call has succeeded.
            session.activity = after(session.activity, _ROWS[asked.init[0].call], RV.CKR_OK)
            session.current = asked.init
        session.activity = after(session.activity, call, rv, wanted=asked.wanted)
        if call.step is Step.START:
            session.current = asked.init if rv == RV.CKR_OK else session.current
        current = session.current
        if current is None:
            return
        if call.init == current[0].call and rv == RV.CKR_OK and asked.wanted:
            self._lessons.learn(*current)
        if session.activity != after(IDLE, _ROWS[current[0].call], RV.CKR_OK):
            session.current = None

    def _note_sessions(self, asked: _Asked, rv: int) -> None:
        if asked.call.effect is Effect.CONTEXT:
            # Whatever C_Finalize answers, the context is over.
            self._sessions = {}
            self._lessons.forget_all()
        elif asked.call.number == _CLOSE_ALL_SESSIONS and rv == RV.CKR_OK:
            self._sessions = {handle: each for handle, each in self._sessions.items() if each.slot != asked.slot}


def _is_wanted(call: Call, data: bytes) -> bool:
    """Tell whether the result of a call is asked for; without a buffer its length alone is."""
    return call.number not in _WITH_ROOM or (len(data) >= _ROOM_SIZE and data[-_ROOM_SIZE] == _WITH_BUFFER)


def _bare(header: Header, rv: int) -> bytes:
    """Return a reply without results."""
    _, number, _, id_, target, _ = header
    return HEADER.pack(0, number, Flags.REPLY, id_, target, rv)
