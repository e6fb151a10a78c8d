"""The native side in front of a p11-kit server (docs/p11-kit-wire.md, section 8)."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from keyway.bridge.sessions import Session, Sessions
from keyway.cryptoki import CALLS, RV, Call, Kind, Target, Value, call_named, call_numbered
from keyway.cryptoki.constants import CKF_DONT_BLOCK
from keyway.p11kit import DecodeError, Dialect, EncodeError, Frame, NotCarried, Reply, Request, decode_reply, pack
from keyway.p11kit import encode_request as encode_message
from keyway.wire import EncodeError as NativeEncodeError
from keyway.wire import WireError, decode_fused, decode_request, encode_reply, request_kinds
from keyway.wire.header import HEADER, Flags

__all__ = ["Back", "Step"]

_Header: TypeAlias = tuple[int, int, int, int, int, int]
"""A native header as the struct gives it: length, call, flags, id, target, object."""

_FINALIZE: Final = call_named("C_Finalize")
_OPEN_SESSION: Final = call_named("C_OpenSession")
_CLOSE_SESSION: Final = call_named("C_CloseSession")
_CLOSE_ALL_SESSIONS: Final = call_named("C_CloseAllSessions")
_CLOSING_ALL: Final = (_CLOSE_ALL_SESSIONS, _FINALIZE)
_WAIT_FOR_SLOT_EVENT: Final = call_named("C_WaitForSlotEvent")

_MAX_CODE: Final = 0xFFFF_FFFF

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


class _Waiting(NamedTuple):
    """What is to be sent later: a frame as it came, or the operation whose init has succeeded."""

    header: _Header
    body: bytes
    operation: Request | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message that is not answered yet.

    Attributes:
        header: The native request's.
        request: The call, with what the reply needs of its values.
        session: The session that it is about.
        name: The handle of the session that it opens.
        held: The sessions that wait for it: what it may close.
        at: When it was sent, on the sessions' clock, if that matters.
        then: The message to send when it succeeds, and its call: this one is the init of a fused pair.
    """

    header: _Header
    request: Request
    session: Session[_Waiting] | None = None
    name: int = 0
    held: list[Session[_Waiting]] = field(default_factory=list)
    at: int = 0
    then: tuple[bytes, Request] | None = None


class Back:
    """Makes messages of native requests, and native replies of the server's.

    It is given whole frames and whole messages. Calls that the server could not be asked are answered at once.

    Attributes:
        waiting: Bytes of bodies that wait until another call of their session is over. A caller that bounds them stops to read.
    """

    def __init__(self, dialect: Dialect) -> None:
        """Args: dialect: The server's."""
        self.waiting = 0
        self._dialect = dialect
        self._asked: dict[int, _Asked] = {}
        self._sessions = Sessions[_Waiting]()
        self._last_code = 0
        self._to_send: list[bytes] = []
        self._to_deliver: list[bytes] = []

    @property
    def pending(self) -> int:
        """How many messages are not answered yet."""
        return len(self._asked)

    def request(self, header: _Header, body: bytes) -> Step:
        """Take a native request.

        Args:
            header: Its header as the struct gives it.
            body: Its body.
        """
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
        if asked is None:
            raise DecodeError("the server answers a call that it was not sent", RV.CKR_DEVICE_ERROR)
        try:
            reply = decode_reply(self._dialect, asked.request, body)
        except DecodeError as error:
            reply = Reply(error.rv)
        if asked.then is not None:
            self._end_init(asked, reply)
        else:
            self._note(asked, reply)
        return self._step()

    def _step(self) -> Step:
        step = Step(b"".join(self._to_send), b"".join(self._to_deliver))
        self._to_send.clear()
        self._to_deliver.clear()
        return step

    # From the native side

    def _take(self, header: _Header, body: bytes) -> None:
        call = call_numbered(header[1])
        refusal = _refusal(header, call)
        if call is None or refusal is not None:
            self._answer(header, refusal or RV.CKR_FUNCTION_NOT_SUPPORTED)
            return
        session = None
        if call.target is Target.SESSION:
            session = self._sessions.get(header[4])
            if session is None:
                self._answer(header, RV.CKR_SESSION_HANDLE_INVALID)
                return
            if session.holds:
                self._wait(session, _Waiting(header, body))
                return
        try:
            self._ask(header, body, call, session)
        except WireError:
            self._answer(header, RV.CKR_ARGUMENTS_BAD)
        except NotCarried as error:
            self._answer(header, error.rv)
        except EncodeError:
            # What was decoded fits but for its length.
            self._answer(header, RV.CKR_HOST_MEMORY)

    def _ask(self, header: _Header, body: bytes, call: Call, session: Session[_Waiting] | None) -> None:
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
        self._send(message, _Asked(header, _kept(call, target, values), session, name, held, at))

    def _ask_fused(self, header: _Header, body: bytes, call: Call, session: Session[_Waiting]) -> None:
        init = CALLS[call.init - 1]
        init_values, values = decode_fused(call, header[5], body)
        try:
            message = encode_message(self._dialect, init, session.handle, init_values)
        except NotCarried as error:
            self._answer(header, error.rv, flags=Flags.INIT)
            return
        # An operation that can't be carried fails, and is over then: it need not be begun.
        operation = encode_message(self._dialect, call, session.handle, values)
        then = operation, _kept(call, session.handle, values)
        session.holds += 1
        self._send(message, _Asked(header, _kept(init, session.handle, init_values), session, then=then))

    def _send(self, message: bytes, asked: _Asked) -> None:
        code = self._last_code % _MAX_CODE + 1
        while code in self._asked:
            code = code % _MAX_CODE + 1
        self._to_send.append(pack(Frame(code, message)))
        self._last_code = code
        self._asked[code] = asked

    # From the server

    def _end_init(self, asked: _Asked, reply: Reply) -> None:
        session = asked.session
        assert session is not None
        assert asked.then is not None
        message, request = asked.then
        session.holds -= 1
        if reply.rv != RV.CKR_OK:
            self._deliver(asked, reply, Flags.INIT)
        elif not self._sessions.is_open(session):
            self._answer(asked.header, RV.CKR_SESSION_HANDLE_INVALID)
        elif session.holds:
            session.waiting.appendleft(_Waiting(asked.header, message, request))
            self.waiting += len(message)
        else:
            self._send(message, _Asked(asked.header, request, session))
        self._go_on(session)

    def _note(self, asked: _Asked, reply: Reply) -> None:
        """Deliver a reply, and note what it changes."""
        call = asked.request.call
        is_ok = reply.rv == RV.CKR_OK
        self._deliver(asked, reply)
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
            if other.at > session.since and other.header[4] == session.slot:
                session.holds += 1
                other.held.append(session)

    def _wait(self, session: Session[_Waiting], waiting: _Waiting) -> None:
        session.waiting.append(waiting)
        self.waiting += len(waiting.body)

    def _go_on(self, session: Session[_Waiting]) -> None:
        """Send what has waited, as far as nothing holds it; a session that is closed holds nothing."""
        is_open = self._sessions.is_open(session)
        while session.waiting and not (is_open and session.holds):
            header, body, operation = session.waiting.popleft()
            self.waiting -= len(body)
            if not is_open:
                self._answer(header, RV.CKR_SESSION_HANDLE_INVALID)
            elif operation is None:
                self._take(header, body)
            else:
                self._send(body, _Asked(header, operation, session))

    def _deliver(self, asked: _Asked, reply: Reply, flags: int = 0) -> None:
        try:
            body = encode_reply(asked.request.call, reply.values)
        except NativeEncodeError:
            # What was decoded fits but for its length.
            self._answer(asked.header, RV.CKR_HOST_MEMORY, flags=flags)
        else:
            self._answer(asked.header, reply.rv, body, flags)

    def _answer(self, header: _Header, rv: int, body: bytes = b"", flags: int = 0) -> None:
        if not header[2] & Flags.POSTED:
            _, number, _, id_, target, _ = header
            self._to_deliver.append(HEADER.pack(len(body), number, flags | Flags.REPLY, id_, target, rv) + body)


def _refusal(header: _Header, call: Call | None) -> RV | None:
    """Return why a request is refused whatever its body is; None if it is not."""
    flags = header[2]
    if flags & ~Flags.REQUEST_MASK:
        return RV.CKR_ARGUMENTS_BAD
    if call is None or call.local:
        return RV.CKR_FUNCTION_NOT_SUPPORTED
    return RV.CKR_ARGUMENTS_BAD if flags & Flags.FUSED and not call.init else None


def _kept(call: Call, target: int, values: tuple[Value, ...]) -> Request:
    kept = (value if kind in _ASKING else None for kind, value in zip(request_kinds(call), values, strict=True))
    return Request(call, target, tuple(kept))
