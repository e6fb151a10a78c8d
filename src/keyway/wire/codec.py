"""Bodies of requests and replies to values and back (docs/wire.md, sections 3 to 5).

A list of values has one entry for each argument of the call's row that has a request value (in requests) or a reply value (in replies),
in the order of the row; the others have none. The types that go with each kind are told at `keyway.cryptoki.values.Value`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from keyway.cryptoki._generated import CALLS
from keyway.cryptoki.table import Call, Kind
from keyway.cryptoki.values import Value
from keyway.wire import basic
from keyway.wire.cursor import MAX_U64, Reader, Writer, checked
from keyway.wire.errors import EncodeError, WireError
from keyway.wire.header import MAX_BODY
from keyway.wire.info import info, put_info
from keyway.wire.parameter import mechanism, parameter, put_mechanism, put_parameter
from keyway.wire.template import Form, put_template, template


class Request(NamedTuple):
    """What an encoded request puts into a frame.

    Attributes:
        object: The header's object: the first argument of kind `object`, 0 if there is none.
        body: The body.
    """

    object: int
    body: bytes


class _Codec(NamedTuple):
    put: Callable[[Writer, object], None]
    take: Callable[[Reader], Value]


def _put_label(w: Writer, value: object) -> None:
    w.present(value is not None)
    if value is not None:
        basic.put_fixed(w, value, 32)


def _label(r: Reader) -> bytes | None:
    return r.take(32) if r.is_present() else None


def _template(form: Form) -> _Codec:
    return _Codec(lambda w, value: put_template(w, form, value, 0), lambda r: template(r, form, 0))


def _info(kind: Kind) -> _Codec:
    return _Codec(lambda w, value: put_info(w, kind, value), lambda r: info(r, kind))


_ULONG: Final = _Codec(Writer.u64, Reader.u64)
_STRING: Final = _Codec(basic.put_string, basic.string)
_CELL: Final = _Codec(basic.put_cell, basic.cell)
_POINTER: Final = _Codec(basic.put_pointer, Reader.is_present)
_NUMBERS: Final = _Codec(basic.put_numbers, basic.numbers)
_REPLY_PARAMETER: Final = _Codec(
    lambda w, value: put_parameter(w, value, reply=True), lambda r: parameter(r, reply=True)
)

_REQUEST: Final[dict[Kind, _Codec]] = {
    Kind.ULONG: _ULONG,
    Kind.BOOL: _Codec(Writer.u8, Reader.u8),
    Kind.OBJECT: _ULONG,
    Kind.BYTES: _STRING,
    Kind.PIN: _STRING,
    Kind.NAME: _STRING,
    Kind.LABEL: _Codec(_put_label, _label),
    Kind.MECHANISM: _Codec(lambda w, value: put_mechanism(w, value, reply=False), lambda r: mechanism(r, reply=False)),
    Kind.PARAMETER: _Codec(lambda w, value: put_parameter(w, value, reply=False), lambda r: parameter(r, reply=False)),
    Kind.TEMPLATE: _template(Form.TEMPLATE),
    Kind.TEMPLATE_OUT: _template(Form.QUERY),
    Kind.BUFFER: _Codec(basic.put_room, basic.room),
    Kind.FILL: _Codec(basic.put_fill, basic.fill),
    Kind.ULONG_OUT: _CELL,
    Kind.OBJECT_OUT: _CELL,
    Kind.SESSION_OUT: _CELL,
    Kind.ULONGS_OUT: _Codec(basic.put_room, basic.room),
    Kind.OBJECTS_OUT: _Codec(basic.put_objects_room, basic.objects_room),
    Kind.INFO_OUT: _POINTER,
    Kind.SLOT_INFO_OUT: _POINTER,
    Kind.TOKEN_INFO_OUT: _POINTER,
    Kind.SESSION_INFO_OUT: _POINTER,
    Kind.MECHANISM_INFO_OUT: _POINTER,
    Kind.ASYNC_DATA_OUT: _POINTER,
    Kind.RESERVED: _POINTER,
}

_REPLY: Final[dict[Kind, _Codec]] = {
    Kind.MECHANISM: _REPLY_PARAMETER,
    Kind.PARAMETER: _REPLY_PARAMETER,
    Kind.TEMPLATE_OUT: _template(Form.ANSWER),
    Kind.BUFFER: _Codec(basic.put_output, basic.output),
    Kind.FILL: _STRING,
    Kind.BYTES_OUT: _STRING,
    Kind.ULONG_OUT: _CELL,
    Kind.OBJECT_OUT: _CELL,
    Kind.ULONGS_OUT: _NUMBERS,
    Kind.OBJECTS_OUT: _NUMBERS,
    Kind.INFO_OUT: _info(Kind.INFO_OUT),
    Kind.SLOT_INFO_OUT: _info(Kind.SLOT_INFO_OUT),
    Kind.TOKEN_INFO_OUT: _info(Kind.TOKEN_INFO_OUT),
    Kind.SESSION_INFO_OUT: _info(Kind.SESSION_INFO_OUT),
    Kind.MECHANISM_INFO_OUT: _info(Kind.MECHANISM_INFO_OUT),
}


def request_kinds(call: Call) -> list[Kind]:
    """Return the kinds of the values of a request, in order."""
    return [argument.kind for argument in call.args if argument.kind in _REQUEST]


def reply_kinds(call: Call) -> list[Kind]:
    """Return the kinds of the values of a reply, in order."""
    return [argument.kind for argument in call.args if argument.kind in _REPLY]


def encode_request(call: Call, values: Sequence[Value]) -> Request:
    """Encode the arguments of a call.

    Args:
        call: The call's row.
        values: One value for each argument that has a request value, the first object among them.

    Raises:
        EncodeError: The values do not fit the row, or one is above a limit.
    """
    w = Writer()
    object_ = _put_request(w, call, values)
    return Request(object_, _finished(w))


def decode_request(call: Call, object_: int, body: bytes | bytearray | memoryview) -> tuple[Value, ...]:
    """Decode the body of a request whole.

    Args:
        call: The call's row.
        object_: The header's object, which is put back to its place.
        body: The body.

    Raises:
        WireError: The body is malformed.
    """
    r = Reader(body)
    values = _request(r, call, object_)
    r.finish()
    return values


def encode_fused(call: Call, init_values: Sequence[Value], values: Sequence[Value]) -> Request:
    """Encode the arguments of an operation's init call and of the call itself (docs/wire.md, section 5).

    Raises:
        EncodeError: The call can't be fused, or as in `encode_request`.
    """
    if not call.init:
        raise EncodeError(f"{call.name} can't be fused")
    w = Writer()
    object_ = _put_request(w, CALLS[call.init - 1], init_values)
    _put_request(w, call, values)
    return Request(object_, _finished(w))


def decode_fused(
    call: Call, object_: int, body: bytes | bytearray | memoryview
) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """Decode the body of a fused request into the init call's values and the call's.

    Raises:
        WireError: The call can't be fused, or the body is malformed.
    """
    if not call.init:
        raise WireError(f"{call.name} can't be fused")
    r = Reader(body)
    init_values = _request(r, CALLS[call.init - 1], object_)
    values = _request(r, call, 0)
    r.finish()
    return init_values, values


def encode_reply(call: Call, values: Sequence[Value]) -> bytes:
    """Encode the results of a call.

    Args:
        call: The call's row.
        values: One value for each argument that has a reply value; none at all if nothing was executed.

    Raises:
        EncodeError: The values do not fit the row, or one is above a limit.
    """
    if not values:
        return b""
    w = Writer()
    for kind, value in _paired(call, reply_kinds(call), values):
        _REPLY[kind].put(w, value)
    return _finished(w)


def decode_reply(call: Call, body: bytes | bytearray | memoryview) -> tuple[Value, ...]:
    """Decode the body of a reply whole. An empty body holds no values: then nothing was executed.

    Raises:
        WireError: The body is malformed.
    """
    if not body:
        return ()
    r = Reader(body)
    values = tuple([_REPLY[kind].take(r) for kind in reply_kinds(call)])
    r.finish()
    return values


def _put_request(w: Writer, call: Call, values: Sequence[Value]) -> int:
    in_header: int | None = None
    for kind, value in _paired(call, request_kinds(call), values):
        if kind is Kind.OBJECT and in_header is None:
            in_header = checked(value, MAX_U64)
        else:
            _REQUEST[kind].put(w, value)
    return in_header or 0


def _request(r: Reader, call: Call, object_: int) -> tuple[Value, ...]:
    values: list[Value] = []
    in_header = True
    for kind in request_kinds(call):
        if kind is Kind.OBJECT and in_header:
            in_header = False
            values.append(object_)
        else:
            values.append(_REQUEST[kind].take(r))
    return tuple(values)


def _paired(call: Call, kinds: list[Kind], values: Sequence[Value]) -> Iterable[tuple[Kind, Value]]:
    if len(kinds) != len(values):
        raise EncodeError(f"{call.name} takes {len(kinds)} values, not {len(values)}")
    return zip(kinds, values, strict=True)


def _finished(w: Writer) -> bytes:
    if len(w.body) > MAX_BODY:
        raise EncodeError(f"a body of {len(w.body)} bytes is above the limit of {MAX_BODY}")
    return bytes(w.body)
