"""Replies to bytes and back (docs/p11-kit-wire.md, sections 3 and 4)."""

from functools import partial
from typing import Final

from keyway.cryptoki.constants import RV
from keyway.cryptoki.table import Kind
from keyway.cryptoki.values import Mechanism, Null, Output, Unchanged, Value
from keyway.p11kit import basic
from keyway.p11kit.calls import BY_ID, ERROR_ID, Message
from keyway.p11kit.cursor import Reader, Writer
from keyway.p11kit.dialect import Dialect
from keyway.p11kit.errors import DecodeError, EncodeError, NotCarried
from keyway.p11kit.info import LETTERS, info, put_info
from keyway.p11kit.message import Reply, Request, begin, finished, first_whole, message_for, reply_kinds, request_kinds
from keyway.p11kit.parameter import is_bare
from keyway.p11kit.query import WITH_ANSWER, answer, put_answer

__all__ = ["decode_reply", "encode_error", "encode_reply", "reply_letters"]

_OPEN: Final = "C_OpenSession"

_LETTERS: Final[dict[Kind, str]] = {
    Kind.MECHANISM: "",
    Kind.PARAMETER: "",
    Kind.TEMPLATE_OUT: "aAu",
    Kind.BUFFER: "ay",
    Kind.FILL: "ay",
    Kind.BYTES_OUT: "",
    Kind.ULONG_OUT: "u",
    Kind.OBJECT_OUT: "u",
    Kind.ULONGS_OUT: "au",
    Kind.OBJECTS_OUT: "au",
    **LETTERS,
}
_SIZED: Final = frozenset({Kind.BUFFER, Kind.ULONGS_OUT, Kind.OBJECTS_OUT})
"""Results for which a buffer that is too small is no error message."""


def reply_letters(message: Message) -> str:
    """Return the letters of what this codec writes for a reply."""
    if message.name == _OPEN:
        return "u"
    letters = "".join(_LETTERS[kind] for kind in reply_kinds(message.call))
    return "uP" + letters if "P" in message.reply else letters


def encode_error(rv: int) -> bytes:
    """Encode the answer to a call that came to nothing but an RV."""
    w = begin(ERROR_ID, "u")
    # 0 is no error, and clients take it for one of their own.
    w.u64(rv or int(RV.CKR_GENERAL_ERROR))
    return bytes(w.body)


def encode_reply(dialect: Dialect, request: Request, reply: Reply) -> bytes:
    """Encode what a call came to.

    Args:
        dialect: The client's.
        request: The call as it was decoded.
        reply: What it came to; `session` must be set if it has opened one.

    Raises:
        EncodeError: The values do not fit the row, or one is above a limit.
    """
    message = BY_ID[request.id]
    kinds = reply_kinds(request.call)
    rv = reply.rv
    if rv == RV.CKR_OK and len(kinds) != len(reply.values):
        raise EncodeError(f"{message.name} has {len(kinds)} results, not {len(reply.values)}")
    if not _carries(kinds, reply):
        return encode_error(rv)
    if Kind.TEMPLATE_OUT in kinds and reply.values == ((),):
        # An answer without attributes, with whatever RV but in an error, ends the client's process.
        return encode_error(rv or int(RV.CKR_ARGUMENTS_BAD))
    w = begin(message.id, message.reply)
    if "P" in message.reply:
        w.u64(rv)
        _put_unchanged(w, request)
    if message.name == _OPEN:
        w.u64(reply.session)
    try:
        for kind, value in zip(kinds, reply.values, strict=True):
            _put_result(w, dialect, request, kind, value, rv)
    except NotCarried as error:
        # A caller would not know what to do with its RV: the call was made.
        raise EncodeError(error.reason) from None
    return finished(w)


def decode_reply(dialect: Dialect, request: Request, body: bytes | bytearray | memoryview) -> Reply:
    """Decode what a call came to.

    Args:
        dialect: The server's.
        request: The call as it was encoded; without its values nobody could tell a length from an error.
        body: The body of the frame.

    Raises:
        DecodeError: It is malformed, or no answer to that call; the RV is CKR_DEVICE_ERROR.
    """
    try:
        return _reply(Reader(body), dialect, request)
    except DecodeError as error:
        raise DecodeError(str(error), RV.CKR_DEVICE_ERROR) from None


def _carries(kinds: list[Kind], reply: Reply) -> bool:
    """Whether a reply is more than an error message."""
    if reply.rv == RV.CKR_OK:
        return True
    if len(kinds) != len(reply.values):
        return False
    if Kind.TEMPLATE_OUT in kinds:
        return reply.rv in WITH_ANSWER and not isinstance(reply.values[0], Null)
    return reply.rv == RV.CKR_BUFFER_TOO_SMALL and not _SIZED.isdisjoint(kinds)


def _put_result(w: Writer, dialect: Dialect, request: Request, kind: Kind, value: Value, rv: int) -> None:
    fits = rv == RV.CKR_OK
    match kind:
        case Kind.BUFFER:
            if value == Output(None, None) and fits:
                # C_SignMessageNext before the last part.
                basic.put_array(w, dialect, Null())
            else:
                basic.put_output(w, value, fits=fits)
        case Kind.FILL:
            basic.put_array(w, dialect, value)
        case Kind.ULONGS_OUT | Kind.OBJECTS_OUT:
            basic.put_numbers(w, value, fits=fits)
        case Kind.ULONG_OUT | Kind.OBJECT_OUT:
            w.u64(value)
        case Kind.TEMPLATE_OUT:
            w.u64(put_answer(w, dialect, request.asker, value, rv))
        case Kind.MECHANISM | Kind.PARAMETER | Kind.BYTES_OUT:
            pass
        case _:
            put_info(w, kind, value)


def _put_unchanged(w: Writer, request: Request) -> None:
    """Append `P`: a byte for a mechanism that had one, and nothing of what its parameter became."""
    asked = request.values[0]
    if isinstance(asked, Mechanism) and not is_bare(asked.type, request.reading):
        w.present(not isinstance(asked.parameter, Null))


def _reply(r: Reader, dialect: Dialect, request: Request) -> Reply:
    message = message_for(dialect, request.call)
    id_ = r.u32()
    signature = r.data()
    if id_ == ERROR_ID and signature == b"u":
        rv = r.u64()
        if rv == RV.CKR_OK:
            raise DecodeError("an error that is none")
        return Reply(rv)
    if id_ != message.id or signature != message.reply.encode():
        raise DecodeError(f"the reply is not one to {message.name}")
    if "P" in message.reply:
        return _derived(r)
    session = r.u64() if message.name == _OPEN else 0
    asked = dict(zip(request_kinds(request.call), request.values, strict=True))
    rv = int(RV.CKR_OK)
    values: list[Value] = []
    for kind in reply_kinds(request.call):
        value, rv_told = _result(r, dialect, kind, asked.get(kind))
        values.append(value)
        rv = rv_told or rv
    return Reply(rv, tuple(values), session)


def _derived(r: Reader) -> Reply:
    rv = r.u64()
    # Between the two stands what became of the parameter; none that we send is written to.
    if r.left < 8:
        raise DecodeError("the reply has no key")
    r.take(r.left - 8)
    return Reply(rv, (Unchanged(), r.u64()))


def _result(r: Reader, dialect: Dialect, kind: Kind, asked: Value) -> tuple[Value, int]:
    too_small = int(RV.CKR_BUFFER_TOO_SMALL)
    match kind:
        case Kind.BUFFER:
            output, is_too_small = basic.output(r, asked)
            return output, is_too_small * too_small
        case Kind.ULONGS_OUT | Kind.OBJECTS_OUT:
            numbers, is_too_small = basic.numbers(r, asked)
            return numbers, is_too_small * too_small
        case Kind.FILL:
            return basic.filled(r, asked), 0
        case Kind.ULONG_OUT | Kind.OBJECT_OUT:
            return r.u64(), 0
        case Kind.TEMPLATE_OUT:
            return _answer(r, dialect, asked)
        case Kind.MECHANISM | Kind.PARAMETER:
            return Unchanged(), 0
        case Kind.BYTES_OUT:
            return Null(), 0
        case _:
            return info(r, kind), 0


def _answer(r: Reader, dialect: Dialect, asked: Value) -> tuple[Value, int]:
    if not isinstance(asked, tuple):
        raise DecodeError("nothing was asked")

    def take(has_items: bool) -> tuple[Value, int]:
        entries, is_too_long = answer(r, dialect, asked, has_items=has_items)
        rv = r.u64()
        return entries, int(RV.CKR_BUFFER_TOO_SMALL) if is_too_long and rv == RV.CKR_OK else rv

    # Stock servers send a list of mechanisms of which only the length was asked without the items that its count tells.
    return first_whole(r, [partial(take, False), partial(take, True)])
