"""The native side in front of a p11-kit server (docs/p11-kit-wire.md, section 8)."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from keyway.bridge.express import FRAME
from keyway.bridge.express_back import FUSED_MECHANISM, NO_ROOM, WAYS, BackWay, Header
from keyway.bridge.reading import QUERY, Part, Reading
from keyway.bridge.sessions import Session, Sessions
from keyway.cryptoki import CALLS, RV, Call, Kind, Target, Value, call_named, call_numbered
from keyway.cryptoki.constants import CKF_DONT_BLOCK
from keyway.p11kit import DecodeError, Dialect, EncodeError, NotCarried, Reply, Request, decode_reply
from keyway.p11kit import encode_request as encode_message
from keyway.wire import EncodeError as NativeEncodeError
from keyway.wire import WireError, decode_fused, decode_request, encode_reply, request_kinds
from keyway.wire.ahead import READ_AHEAD
from keyway.wire.header import HEADER, Flags

__all__ = ["Back", "Step"]

_FINALIZE: Final = call_named("C_Finalize")
_OPEN_SESSION: Final = call_named("C_OpenSession")
_CLOSE_SESSION: Final = call_named("C_CloseSession")
_CLOSE_ALL_SESSIONS: Final = call_named("C_CloseAllSessions")
_CLOSING_ALL: Final = (_CLOSE_ALL_SESSIONS, _FINALIZE)
_WAIT_FOR_SLOT_EVENT: Final = call_named("C_WaitForSlotEvent")

_MAX_CODE: Final = 0xFFFF_FFFF
WAITING_COST: Final = 384
"""Bytes that a waiting call takes besides its body; about what Python needs for it."""

_ASKING: Final = frozenset({Kind.BUFFER, Kind.FILL, Kind.ULONGS_OUT, Kind.OBJECTS_OUT, Kind.TEMPLATE_OUT})
"""Arguments without which the reply can't be read. The others are not kept: they may be long, and hold PINs."""


class Step(NamedTuple):
    """What is to be done next.

    Attributes:
        send: Whole messages for the p11-kit server.
        deliver: Whole reply frames for the native side.
    """

    send: bytes = b""
    deliver: bytes = b""


_Short: TypeAlias = tuple[Header, BackWay, int]
"""A message that is not answered yet and went the short way: the native request's header, the way, and the room that it offered."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Another message that is not answered yet.

    Attributes:
        header: The native request's.
        request: The call, with what the reply needs of its values.
        name: The handle of the session that it opens.
        held: The sessions that wait for it: what it may close.
        at: When it was sent, on the sessions' clock, if that matters.
    """

    header: Header
    request: Request
    name: int = 0
    held: list["Session[_Waiting]"] = field(default_factory=list)
    at: int = 0


@dataclass(slots=True)
class _Pair:
    """The init of a fused pair that is not answered yet.

    Attributes:
        header: The native request's.
        init: The init call as it was asked: with what the reply needs of its values, or its short way.
        session: Where.
        message: The operation that follows when it succeeds.
        asked: What to note of it then.
    """

    header: Header
    init: Request | BackWay
    session: "Session[_Waiting]"
    message: bytes
    asked: _Asked | _Short


@dataclass(frozen=True, slots=True)
class _Query:
    """A query that is part of a READ_AHEAD and is not answered yet.

    Attributes:
        header: The native request's, which is that of the whole.
        reading: The whole.
        part: Which part of it.
        request: The call, with what the reply needs of its values.
        session: Where.
    """

    header: Header
    reading: Reading
    part: Part
    request: Request
    session: "Session[_Waiting]"


class _Waiting(NamedTuple):
    """What is to be sent later: a frame as it came, or the operation whose init has succeeded, with what to note of it."""

    header: Header
    body: bytes
    asked: _Asked | _Short | None = None


class Back:
    """Makes messages of native requests, and native replies of the server's.

    It is given whole frames and whole messages. Calls that the server could not be asked are answered at once.

    Attributes:
        waiting: Bytes that calls take which wait until another one of their session is over. A caller that bounds them stops to read.
    """

    def __init__(self, dialect: Dialect) -> None:
        """Args: dialect: The server's."""
        self.waiting = 0
        self._dialect = dialect
        self._ways = WAYS[dialect.version]
        self._asked: dict[int, _Asked | _Short | _Pair | _Query] = {}
        self._sessions = Sessions[_Waiting]()
        self._last_code = 0
        self._to_send: list[bytes] = []
        self._to_deliver: list[bytes] = []

    @property
    def pending(self) -> int:
        """How many messages are not answered yet."""
        return len(self._asked)

    def request(self, header: Header, body: bytes) -> Step:
        """Take a native request.

        Args:
            header: Its header as the struct gives it.
            body: Its body.
        """
        way = self._ways.get(header[1])
        if way is not None:
            message = self._short(way, header, body)
            if message is not None:
                return Step(message)
        self._take(header, body)
        return self._step()

    def reply(self, code: int, body: bytes) -> Step:
        """Take a message of the server.

        Args:
            code: The code of its frame.
            body: The message.

        Raises:
            DecodeError: It answers nothing. The stream can't be trusted any more.
        """
        asked = self._asked.pop(code, None)
        if isinstance(asked, tuple):
            header, way, room = asked
            frame = way.answer(header, room, body)
            if frame is not None:
                return Step(b"", frame)
            asked = _Asked(header, way.request(room))
        if asked is None:
            raise DecodeError("the server answers a call that it was not sent", RV.CKR_DEVICE_ERROR)
        if isinstance(asked, _Pair):
            self._end_init(asked, body)
        elif isinstance(asked, _Query):
            self._end_query(asked, self._decoded(asked.request, body))
        else:
            self._note(asked, self._decoded(asked.request, body))
        return self._step()

    def _step(self) -> Step:
        step = Step(b"".join(self._to_send), b"".join(self._to_deliver))
        self._to_send.clear()
        self._to_deliver.clear()
        return step

    # From the native side

    def _short(self, way: BackWay, header: Header, body: bytes) -> bytes | None:
        """Return the message of a request in its usual form; None if its values are needed."""
        session = self._sessions.get(header[4])
        if session is None or session.holds:
            return None
        if header[2] == 0:
            asked = way.ask(session.handle, header[5], body)
            return None if asked is None else self._framed(asked[0], (header, way, asked[1]))
        init = self._ways.get(way.call.init)
        if header[2] != Flags.FUSED or init is None:
            return None
        first = init.ask(session.handle, header[5], body[:FUSED_MECHANISM])
        asked = None if first is None else way.ask(session.handle, 0, body[FUSED_MECHANISM:])
        if first is None or asked is None:
            return None
        session.holds += 1
        return self._framed(first[0], _Pair(header, init, session, asked[0], (header, way, asked[1])))

    def _take(self, header: Header, body: bytes) -> None:
        call = call_numbered(header[1])
        refusal = _refusal(header, call)
        if refusal is not None:
            self._answer(header, refusal)
            return
        session = None
        if call is None or call.target is Target.SESSION:
            session = self._sessions.get(header[4])
            if session is None:
                self._answer(header, RV.CKR_SESSION_HANDLE_INVALID)
                return
            if session.holds:
                self._wait(session, _Waiting(header, body))
                return
        try:
            if call is not None:
                self._ask(header, body, call, session)
            elif session is not None:
                self._read_ahead(header, Reading(body), session)
        except WireError:
            self._answer(header, RV.CKR_ARGUMENTS_BAD)
        except NotCarried as error:
            self._answer(header, error.rv)
        except EncodeError:
            # What was decoded fits but for its length.
            self._answer(header, RV.CKR_HOST_MEMORY)

    def _ask(self, header: Header, body: bytes, call: Call, session: Session[_Waiting] | None) -> None:
        if header[2] & Flags.FUSED:
            assert session is not None
            self._ask_fused(header, body, call, session)
            return
        values = decode_request(call, header[5], body)
        name = at = 0
        held: list[Session[_Waiting]] = []
        target = session.handle if session else header[4]
        if call is _WAIT_FOR_SLOT_EVENT and isinstance(values[0], int) and not values[0] & CKF_DONT_BLOCK:
            raise NotCarried(RV.CKR_FUNCTION_NOT_SUPPORTED, "a wait that would block all other calls")
        message = encode_message(self._dialect, call, target, values)
        if call is _OPEN_SESSION:
            chosen = values[-1]
            # Without a place for the handle nobody could close the session.
            if not isinstance(chosen, int) or not self._sessions.opening(chosen, target):
                raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a handle that is none, or in use")
            name = chosen
        elif call is _CLOSE_SESSION and session is not None:
            held = [session]
        elif call is _CLOSE_ALL_SESSIONS:
            held = self._sessions.of_slot(target)
            at = self._sessions.tick()
        elif call is _FINALIZE:
            at = self._sessions.tick()
        for each in held:
            each.holds += 1
        self._send(message, _Asked(header, _kept(call, target, values), name, held, at))

    def _ask_fused(self, header: Header, body: bytes, call: Call, session: Session[_Waiting]) -> None:
        init = CALLS[call.init - 1]
        init_values, values = decode_fused(call, header[5], body)
        try:
            message = encode_message(self._dialect, init, session.handle, init_values)
        except NotCarried as error:
            self._answer(header, error.rv, flags=Flags.INIT)
            return
        # An operation that can't be carried fails, and is over then: it need not be begun.
        operation = encode_message(self._dialect, call, session.handle, values)
        session.holds += 1
        asked = _Asked(header, _kept(call, session.handle, values))
        self._send(message, _Pair(header, _kept(init, session.handle, init_values), session, operation, asked))

    def _read_ahead(self, header: Header, reading: Reading, session: Session[_Waiting]) -> None:
        session.holds += 1
        for part in reading:
            self._ask_query(header, reading, part, session)
        self._end_reading(header, reading, session)

    def _ask_query(self, header: Header, reading: Reading, part: Part, session: Session[_Waiting]) -> None:
        try:
            message = encode_message(self._dialect, QUERY, session.handle, (part.object, part.template))
        except NotCarried as error:
            reading.note(part, error.rv, b"")
        except EncodeError:
            reading.note(part, RV.CKR_HOST_MEMORY, b"")
        else:
            request = Request(QUERY, session.handle, (None, part.template))
            self._send(message, _Query(header, reading, part, request, session))

    def _end_query(self, query: _Query, reply: Reply) -> None:
        header, reading, session = query.header, query.reading, query.session
        rv, body = reply.rv, b""
        try:
            body = encode_reply(QUERY, reply.values)
        except NativeEncodeError:
            rv = RV.CKR_HOST_MEMORY
        part = reading.note(query.part, rv, body)
        # What may close the session was sent already, and holds it too.
        if part is not None and session.holds == 1 and self._sessions.is_open(session):
            reading.asked()
            self._ask_query(header, reading, part, session)
        self._end_reading(header, reading, session)

    def _end_reading(self, header: Header, reading: Reading, session: Session[_Waiting]) -> None:
        if reading.is_over:
            session.holds -= 1
            self._answer(header, RV.CKR_OK, reading.body())
            self._go_on(session)

    def _send(self, message: bytes, asked: _Asked | _Short | _Pair | _Query) -> None:
        self._to_send.append(self._framed(message, asked))

    def _framed(self, message: bytes, asked: _Asked | _Short | _Pair | _Query) -> bytes:
        """Note that a message is sent, and return its frame."""
        code = self._last_code + 1
        while code > _MAX_CODE or code in self._asked:
            code = code % _MAX_CODE + 1
        self._last_code = code
        self._asked[code] = asked
        return FRAME(code, 0, len(message)) + message

    # From the server

    def _decoded(self, request: Request, body: bytes) -> Reply:
        try:
            return decode_reply(self._dialect, request, body)
        except DecodeError as error:
            return Reply(error.rv)

    def _end_init(self, pair: _Pair, body: bytes) -> None:
        header, session = pair.header, pair.session
        init = pair.init
        if isinstance(init, BackWay):
            is_usual = init.answer(header, NO_ROOM, body) is not None
            reply = Reply(0) if is_usual else self._decoded(init.request(NO_ROOM), body)
        else:
            reply = self._decoded(init, body)
        session.holds -= 1
        if reply.rv != RV.CKR_OK:
            self._deliver(header, init.call, reply, Flags.INIT)
        elif not self._sessions.is_open(session):
            self._answer(header, RV.CKR_SESSION_HANDLE_INVALID)
        elif session.holds:
            session.waiting.appendleft(_Waiting(header, pair.message, pair.asked))
            self.waiting += len(pair.message) + WAITING_COST
        else:
            self._send(pair.message, pair.asked)
        self._go_on(session)

    def _note(self, asked: _Asked, reply: Reply) -> None:
        """Deliver a reply, and note what it changes."""
        call = asked.request.call
        is_ok = reply.rv == RV.CKR_OK
        self._deliver(asked.header, call, reply)
        if call is _OPEN_SESSION:
            if is_ok:
                self._opened(asked.name, reply.session)
            else:
                self._sessions.not_opened(asked.name)
        elif call is _CLOSE_SESSION and is_ok:
            self._sessions.closed(asked.held[0])
        elif call in _CLOSING_ALL and is_ok:
            slot = asked.header[4] if call is _CLOSE_ALL_SESSIONS else None
            self._sessions.closed_all(slot, asked.at)
        for session in asked.held:
            session.holds -= 1
            self._go_on(session)

    def _opened(self, name: int, handle: int) -> None:
        session, closed = self._sessions.opened(name, handle)
        if closed is not None:
            self._go_on(closed)
        for other in self._asked.values():
            if isinstance(other, _Asked) and other.at > session.since and other.header[4] == session.slot:
                session.holds += 1
                other.held.append(session)

    def _wait(self, session: Session[_Waiting], waiting: _Waiting) -> None:
        session.waiting.append(waiting)
        self.waiting += len(waiting.body) + WAITING_COST

    def _go_on(self, session: Session[_Waiting]) -> None:
        """Send what has waited, as far as nothing holds it; a session that is closed holds nothing."""
        is_open = self._sessions.is_open(session)
        while session.waiting and not (is_open and session.holds):
            header, body, asked = session.waiting.popleft()
            self.waiting -= len(body) + WAITING_COST
            if not is_open:
                self._answer(header, RV.CKR_SESSION_HANDLE_INVALID)
            elif asked is None:
                self._take(header, body)
            else:
                self._send(body, asked)

    def _deliver(self, header: Header, call: Call, reply: Reply, flags: int = 0) -> None:
        try:
            body = encode_reply(call, reply.values)
        except NativeEncodeError:
            # What was decoded fits but for its length.
            self._answer(header, RV.CKR_HOST_MEMORY, flags=flags)
        else:
            self._answer(header, reply.rv, body, flags)

    def _answer(self, header: Header, rv: int, body: bytes = b"", flags: int = 0) -> None:
        if not header[2] & Flags.POSTED:
            _, number, _, id_, target, _ = header
            self._to_deliver.append(HEADER.pack(len(body), number, flags | Flags.REPLY, id_, target, rv) + body)


def _refusal(header: Header, call: Call | None) -> RV | None:
    """Return why a request is refused whatever its body is; None if it is not."""
    flags = header[2]
    if flags & ~Flags.REQUEST_MASK:
        return RV.CKR_ARGUMENTS_BAD
    if header[1] == READ_AHEAD:
        return RV.CKR_ARGUMENTS_BAD if flags else None
    if call is None or call.local:
        return RV.CKR_FUNCTION_NOT_SUPPORTED
    return RV.CKR_ARGUMENTS_BAD if flags & Flags.FUSED and not call.init else None


def _kept(call: Call, target: int, values: tuple[Value, ...]) -> Request:
    kept = (value if kind in _ASKING else None for kind, value in zip(request_kinds(call), values, strict=True))
    return Request(call, target, tuple(kept))
