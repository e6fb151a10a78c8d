"""What a message is made of on both sides: calls, results, and how a body begins (docs/p11-kit-wire.md, section 3).

The values of a call are those of the native wire, one for each argument of the call's row that has a request value (or a reply value), in
the order of the row; so what was decoded here can be encoded there, and the other way round. `keyway.cryptoki.values.Value` tells the
types. What only one of the two has is said at `Request` and `Reply`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from keyway.cryptoki.constants import RV
from keyway.cryptoki.table import Call, Kind
from keyway.cryptoki.values import Value
from keyway.p11kit.calls import ERROR_ID, MESSAGES, Message
from keyway.p11kit.cursor import Reader, Writer
from keyway.p11kit.dialect import Dialect, Reading
from keyway.p11kit.errors import DecodeError, EncodeError, NotCarried
from keyway.p11kit.info import LETTERS
from keyway.p11kit.limits import MAX_BODY
from keyway.p11kit.query import Asker
from keyway.p11kit.template import ULONG_SIZE

__all__ = [
    "ANYBODY",
    "Reply",
    "Request",
    "begin",
    "finished",
    "first_whole",
    "message_for",
    "reply_kinds",
    "request_kinds",
]

_Taken = TypeVar("_Taken")

ANYBODY: Final = Asker(ULONG_SIZE, has_templates=True)
"""Who asked, where there is no query to tell it."""

_NOT_PARALLEL: Final = frozenset({"C_GetFunctionStatus", "C_CancelFunction"})
"""Functions of the past, with the one answer that the standard leaves them."""
_NO_REQUEST: Final = frozenset({Kind.BYTES_OUT, Kind.IGNORED})
_WITH_REPLY: Final = frozenset(
    {
        *(Kind.MECHANISM, Kind.PARAMETER, Kind.TEMPLATE_OUT, Kind.BUFFER, Kind.FILL, Kind.BYTES_OUT),
        *(Kind.ULONG_OUT, Kind.OBJECT_OUT, Kind.ULONGS_OUT, Kind.OBJECTS_OUT),
        *LETTERS,
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """A call.

    What the protocol does not carry has one value when it is decoded: C_Initialize has CKF_OS_LOCKING_OK and no name of an
    application; C_OpenSession has the handle 0, since here the server chooses it; pointers that the clients check themselves are not NULL.

    Attributes:
        call: The call's row.
        target: Session handle, slot ID or 0.
        values: The arguments.
        id: The message that was received; there may be two for a function.
        reading: How its mechanism was laid out.
        asker: What its query tells of the client.
    """

    call: Call
    target: int
    values: tuple[Value, ...]
    id: int = ERROR_ID
    reading: Reading = Reading.B
    asker: Asker = ANYBODY

    def __repr__(self) -> str:
        return f"Request({self.call.name}, target={self.target:#x})"


class Reply(NamedTuple):
    """What a call came to.

    Attributes:
        rv: The CK_RV.
        values: The results; none if there was an error alone.
        session: The session that C_OpenSession has opened, else 0.
    """

    rv: int
    values: tuple[Value, ...] = ()
    session: int = 0


def request_kinds(call: Call) -> list[Kind]:
    """Return the kinds of the values of a request, in order."""
    return [argument.kind for argument in call.args if argument.kind not in _NO_REQUEST]


def reply_kinds(call: Call) -> list[Kind]:
    """Return the kinds of the values of a reply, in order."""
    return [argument.kind for argument in call.args if argument.kind in _WITH_REPLY]


def message_for(dialect: Dialect, call: Call) -> Message:
    """Return the message that carries a call to a peer.

    Raises:
        NotCarried: There is none.
    """
    # The newer of two has the higher number.
    for message in reversed(MESSAGES):
        if message.name == call.name and message.since <= dialect.version:
            return message
    if call.name in _NOT_PARALLEL:
        raise NotCarried(RV.CKR_FUNCTION_NOT_PARALLEL, f"{call.name} is never sent")
    raise NotCarried(RV.CKR_FUNCTION_NOT_SUPPORTED, f"{call.name} does not exist in version {dialect.version}")


def begin(id_: int, letters: str) -> Writer:
    """Return a body that begins with the number and the letters of a message."""
    w = Writer()
    w.u32(id_)
    w.data(letters.encode())
    return w


def finished(w: Writer) -> bytes:
    """Return a body that is within the limit.

    Raises:
        EncodeError: It is not.
    """
    if len(w.body) > MAX_BODY:
        raise EncodeError(f"a body of {len(w.body)} bytes is above the limit of {MAX_BODY}")
    return bytes(w.body)


def first_whole(r: Reader, ways: Sequence[Callable[[], _Taken]]) -> _Taken:
    """Read what may be laid out in several ways: the first that takes all there is.

    The first way alone may leave bytes behind, which mean nothing; with another one they would mean that it is not the right one.

    Args:
        r: Where the ways read from.
        ways: What takes the value, the likeliest first.

    Raises:
        DecodeError: That of the first way, if none takes all there is.
    """
    start = r.at
    try:
        value = ways[0]()
        if not r.left:
            return value
        problem = None
    except DecodeError as error:
        problem = error
    for way in ways[1:]:
        r.seek(start)
        try:
            other = way()
        except DecodeError:
            continue
        if not r.left:
            return other
    if problem is not None:
        raise problem
    return value
