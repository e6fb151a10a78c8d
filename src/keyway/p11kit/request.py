"""Requests to bytes and back (docs/p11-kit-wire.md, sections 3 and 4)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from keyway.cryptoki.constants import CKF_OS_LOCKING_OK, RV
from keyway.cryptoki.table import Call, Kind, Target
from keyway.cryptoki.values import Null, Opaque, Room, Value
from keyway.p11kit import basic
from keyway.p11kit.calls import BY_ID, Message
from keyway.p11kit.cursor import MAX_U64, Reader, Writer, checked, wrong
from keyway.p11kit.dialect import Dialect, Nesting, Reading
from keyway.p11kit.errors import DecodeError, EncodeError, NotCarried
from keyway.p11kit.info import LETTERS
from keyway.p11kit.message import ANYBODY, Request, begin, finished, first_whole, message_for, request_kinds
from keyway.p11kit.parameter import mechanism, put_mechanism
from keyway.p11kit.query import put_query, query
from keyway.p11kit.template import put_template, template

__all__ = ["MAGIC", "decode_request", "encode_request", "request_letters"]

MAGIC: Final = b"PRIVATE-GNOME-KEYRING-PKCS11-PROTOCOL-V-1"
"""What C_Initialize must say; published in the protocol's draft."""

_INITIALIZE: Final = "C_Initialize"
_SIGN_NEXT: Final = "C_SignMessageNext"


class _Codec(NamedTuple):
    letters: str
    put: Callable[[Writer, Dialect, object], None]
    take: Callable[[Reader, Dialect], Value]


def _mechanism_apart(r: Reader, dialect: Dialect) -> Value:
    raise AssertionError("mechanisms and queries are read in one of several ways")


def _put_parameter(w: Writer, dialect: Dialect, value: object) -> None:
    # Its memory would travel as it is, with pointers into another process.
    if value not in (Null(), b""):
        raise NotCarried(RV.CKR_MECHANISM_PARAM_INVALID, "the parameter of a message")
    basic.put_array(w, dialect, value)


def _parameter(r: Reader, dialect: Dialect) -> Value:
    value = basic.array(r)
    if value not in (Null(), b""):
        raise DecodeError("the parameter of a message holds pointers", RV.CKR_MECHANISM_PARAM_INVALID)
    return value


def _put_cell(w: Writer, dialect: Dialect, value: object) -> None:
    if value is None:
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL pointer for a result")
    checked(value, MAX_U64)


def _put_pointer(w: Writer, dialect: Dialect, value: object) -> None:
    if value is not True:
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL pointer for a result")


def _put_reserved(w: Writer, dialect: Dialect, value: object) -> None:
    if value is not False:
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a reserved pointer that is not NULL")


_U64: Final = _Codec("u", lambda w, _, value: w.u64(value), lambda r, _: r.u64())
_BYTES: Final = _Codec("ay", basic.put_array, lambda r, _: basic.array(r))
_CELL: Final = _Codec("", _put_cell, lambda *_: 0)
_POINTER: Final = _Codec("", _put_pointer, lambda *_: True)

_REQUEST: Final[dict[Kind, _Codec]] = {
    Kind.ULONG: _U64,
    Kind.BOOL: _Codec("y", lambda w, _, value: w.u8(value), lambda r, _: r.u8()),
    Kind.OBJECT: _U64,
    Kind.BYTES: _BYTES,
    Kind.PIN: _BYTES,
    Kind.LABEL: _Codec("s", lambda w, _, value: basic.put_label(w, value), lambda r, _: basic.label(r)),
    Kind.MECHANISM: _Codec("M", put_mechanism, _mechanism_apart),
    Kind.PARAMETER: _Codec("ay", _put_parameter, _parameter),
    Kind.TEMPLATE: _Codec("aA", put_template, template),
    Kind.TEMPLATE_OUT: _Codec("fA", put_query, _mechanism_apart),
    Kind.BUFFER: _Codec("fy", basic.put_room, lambda r, _: basic.room(r)),
    Kind.FILL: _Codec("fy", basic.put_fill, basic.fill),
    Kind.ULONGS_OUT: _Codec(
        "fu", lambda w, _, value: basic.put_numbers_room(w, value), lambda r, _: basic.numbers_room(r)
    ),
    Kind.OBJECTS_OUT: _Codec(
        "fu", lambda w, _, value: basic.put_objects_room(w, value), lambda r, _: basic.objects_room(r)
    ),
    Kind.ULONG_OUT: _CELL,
    Kind.OBJECT_OUT: _CELL,
    Kind.SESSION_OUT: _Codec("", lambda *_: None, lambda *_: 0),
    Kind.RESERVED: _Codec("", _put_reserved, lambda *_: False),
    **dict.fromkeys(LETTERS, _POINTER),
}


def request_letters(message: Message) -> str:
    """Return the letters of what this codec writes for a request."""
    if message.name == _INITIALIZE:
        return "ayyay"
    call = message.call
    letters = "u" if call.target is not Target.NONE else ""
    letters += "".join(_REQUEST[kind].letters for kind in request_kinds(call))
    if message.name == _SIGN_NEXT:
        return letters.replace("fy", "yfy")
    return letters.replace("s", "z") if message.since == 0 else letters


def encode_request(dialect: Dialect, call: Call, target: int, values: Sequence[Value]) -> bytes:
    """Encode a call.

    Args:
        dialect: The server's.
        call: The call's row.
        target: Session handle, slot ID or 0.
        values: The arguments.

    Raises:
        NotCarried: There is no form for it; the caller gets its RV.
        EncodeError: The values do not fit the row, or one is above a limit.
    """
    message = message_for(dialect, call)
    kinds = request_kinds(call)
    if len(kinds) != len(values):
        raise EncodeError(f"{call.name} takes {len(kinds)} values, not {len(values)}")
    w = begin(message.id, message.request)
    if call.name == _INITIALIZE:
        _put_initialize(w, dialect, values)
        return finished(w)
    if call.target is not Target.NONE:
        w.u64(target)
    for kind, value in zip(kinds, values, strict=True):
        if call.name == _SIGN_NEXT and kind is Kind.BUFFER:
            # Without a pointer to the length there is more data to come.
            is_last = isinstance(value, Room) and value.length is not None
            w.u8(int(is_last))
            value = value if is_last else Room(0, False)
        _REQUEST[kind].put(w, dialect, value)
    return finished(w)


def decode_request(dialect: Dialect, body: bytes | bytearray | memoryview) -> Request:
    """Decode a call.

    Args:
        dialect: The client's.
        body: The body of the frame.

    Raises:
        DecodeError: It is malformed, or must not be passed on; its RV is to be answered.
    """
    r = Reader(body)
    message = BY_ID.get(r.u32())
    if message is None:
        raise DecodeError("the message is unknown", RV.CKR_FUNCTION_NOT_SUPPORTED)
    if r.data() != message.request.encode():
        raise DecodeError(f"{message.name} has other letters")
    if message.name == _INITIALIZE:
        return Request(message.call, 0, _initialize(r), message.id)
    ways = [partial(_request, r, dialect, message, reading, nesting) for reading, nesting in _ways(dialect, message)]
    return first_whole(r, ways)


def _ways(dialect: Dialect, message: Message) -> Iterator[tuple[Reading, Nesting]]:
    readings = dialect.readings if "M" in message.request else dialect.readings[:1]
    nestings = dialect.nestings if "fA" in message.request else dialect.nestings[:1]
    return ((reading, nesting) for reading in readings for nesting in nestings)


def _request(r: Reader, dialect: Dialect, message: Message, reading: Reading, nesting: Nesting) -> Request:
    call = message.call
    target = r.u64() if call.target is not Target.NONE else 0
    asker = ANYBODY
    values: list[Value] = []
    for kind in request_kinds(call):
        if kind is Kind.MECHANISM:
            values.append(mechanism(r, dialect, reading))
        elif kind is Kind.TEMPLATE_OUT:
            entries, asker = query(r, dialect, nesting)
            values.append(entries)
        elif kind is Kind.BUFFER and call.name == _SIGN_NEXT:
            is_last = r.u8() != 0
            room = basic.room(r)
            values.append(room if is_last else Room(None, False))
        else:
            values.append(_REQUEST[kind].take(r, dialect))
    return Request(call, target, tuple(values), message.id, reading, asker)


def _put_initialize(w: Writer, dialect: Dialect, values: Sequence[Value]) -> None:
    _, reserved, _ = values
    if not isinstance(reserved, bytes | Null):
        raise wrong("a string", reserved)
    text = b"" if isinstance(reserved, Null) else reserved
    basic.put_array(w, dialect, MAGIC)
    w.present(not isinstance(reserved, Null))
    basic.put_array(w, dialect, text + b"\0")


def _initialize(r: Reader) -> tuple[Value, ...]:
    if basic.array(r) != MAGIC:
        raise DecodeError("C_Initialize opens another protocol", RV.CKR_GENERAL_ERROR)
    has_reserved = r.u8() != 0
    text = basic.array(r)
    reserved = Opaque(text.removesuffix(b"\0")) if has_reserved and not isinstance(text, Null) else Null()
    return CKF_OS_LOCKING_OK, reserved, b""
