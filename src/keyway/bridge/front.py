"""A p11-kit client in front of the native side (docs/p11-kit-wire.md, section 8)."""

from dataclasses import replace
from typing import Final, TypeAlias

from keyway.bridge.express_front import REPLIES, REQUESTS, FrontReply
from keyway.cryptoki import RV, Numbers, Value, call_named
from keyway.p11kit import DecodeError, Dialect, EncodeError, Frame, Reply, Request, decode_request, encode_error
from keyway.p11kit import encode_reply as encode_message
from keyway.p11kit import pack as pack_message
from keyway.wire import EncodeError as NativeEncodeError
from keyway.wire import WireError, decode_reply, encode_request
from keyway.wire.header import HEADER, HEADER_SIZE, Flags

__all__ = ["Front"]

_INITIALIZE: Final = call_named("C_Initialize")
_OPEN_SESSION: Final = call_named("C_OpenSession")
_MECHANISM_LIST: Final = call_named("C_GetMechanismList")
_UNSOLICITED: Final = Flags.REPLY | Flags.POSTED


_Asked: TypeAlias = tuple[int, Request, int, FrontReply | None]
"""A call that is not answered yet: the client's code for it, the call without what it carried, the session that it may open, and the
short way of its reply, if there is one."""


class Front:
    """Makes native requests of a client's messages, and messages of the replies.

    It is given whole messages and whole frames, in any order, and keeps one entry for each call that is not answered yet. The
    caller bounds their number.

    Attributes:
        application: What C_Initialize tells of the client, for logs; the options of its first frame say it better.
        hidden: The mechanisms of the list that passed last which the stock client hides from its application. The list itself
            passes as it is: a client may know more than we know of it.
    """

    def __init__(self, dialect: Dialect, application: bytes = b"p11-kit") -> None:
        """Args: dialect: The client's. application: See the attribute."""
        self.application = application
        self.hidden: frozenset[int] = frozenset()
        self._dialect = dialect
        self._ways = REQUESTS[dialect.version]
        self._asked: dict[int, _Asked] = {}
        self._last_id = 0
        self._last_session = 0

    @property
    def pending(self) -> int:
        """How many calls are not answered yet."""
        return len(self._asked)

    def request(self, code: int, body: bytes) -> bytes:
        """Return the native frame of a message.

        Args:
            code: The code of its frame, which the reply will carry.
            body: The message.

        Raises:
            DecodeError: It is malformed, or must not be passed on. The caller answers `error(code, rv)` with its RV.
        """
        if code == 0:
            raise DecodeError("a request has the code 0")
        way = self._ways.get(body[:4])
        if way is not None:
            id_ = self._last_id + 1
            frame = way.take(body, id_)
            if frame is not None:
                self._last_id = id_
                self._asked[id_] = (code, way.request, 0, way.give)
                return frame
        request = decode_request(self._dialect, body)
        call = request.call
        values = request.values
        session = 0
        if call is _INITIALIZE:
            values = (*values[:-1], self.application)
        elif call is _OPEN_SESSION:
            session = self._last_session + 1
            values = (*values[:-1], session)
        try:
            native = encode_request(call, values)
        except NativeEncodeError as error:
            # What was decoded fits but for its length: some values take more bytes there than here.
            raise DecodeError(str(error), RV.CKR_HOST_MEMORY) from None
        self._last_session = session or self._last_session
        self._last_id += 1
        self._asked[self._last_id] = (code, _kept(request), session, REPLIES.get(request.id))
        header = HEADER.pack(len(native.body), call.number, 0, self._last_id, request.target, native.object)
        return header + native.body

    def replies(self, data: bytes) -> bytes:
        """Return the messages of native replies.

        Args:
            data: Whole frames, one or more.

        Raises:
            WireError: A frame is cut short, or answers no call of this client: the mistake of whoever sends them.
        """
        messages: list[bytes] = []
        at = 0
        while at < len(data):
            if len(data) - at < HEADER_SIZE:
                raise WireError("the header is cut short")
            length, _, flags, id_, _, rv = HEADER.unpack_from(data, at)
            start = at + HEADER_SIZE
            at = start + length
            if at > len(data):
                raise WireError("the body is cut short")
            if id_ == 0 and flags == _UNSOLICITED:
                continue
            asked = self._asked.pop(id_, None)
            if asked is None:
                raise WireError("the reply answers no call")
            code, request, session, give = asked
            message = None if rv or give is None else give(data, start, at, code)
            if message is None:
                message = pack_message(Frame(code, self._message(request, session, rv, data[start:at])))
            messages.append(message)
        return b"".join(messages)

    def error(self, code: int, rv: int) -> bytes:
        """Return the message that answers a call with nothing but an RV.

        Args:
            code: The code of the request.
            rv: The RV.
        """
        return pack_message(Frame(code, encode_error(rv)))

    def _message(self, request: Request, session: int, rv: int, body: bytes) -> bytes:
        try:
            values = decode_reply(request.call, body)
            message = encode_message(self._dialect, request, Reply(rv, values, 0 if rv else session))
        except (WireError, EncodeError):
            # The module's side has sent what no reply may hold; the call has an end all the same.
            return encode_error(RV.CKR_DEVICE_ERROR)
        if request.call is _MECHANISM_LIST:
            self._note_hidden(values)
        return message

    def _note_hidden(self, values: tuple[Value, ...]) -> None:
        match values:
            case (Numbers(_, tuple() as types),):
                self.hidden = frozenset(type_ for type_ in types if not self._dialect.serialises(type_))


def _kept(request: Request) -> Request:
    """Return what of a call the reply needs: the mechanism where it comes back, and never data or a PIN."""
    return replace(request, values=request.values[:1] if request.id == _WITH_UPDATE else ())


_WITH_UPDATE: Final = 89
"""The message of C_DeriveKey whose reply tells what became of the mechanism."""
