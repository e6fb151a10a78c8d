"""Hypothesis strategies for what the protocol carries without loss, and for bodies with damage."""

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.wire.strategies import REPLY as NATIVE_REPLY

from keyway.cryptoki import (
    ATTRIBUTE_KINDS,
    PARAMETER_SHAPES,
    Attribute,
    AttributeKind,
    Call,
    Fill,
    Kind,
    LengthNumbers,
    Mechanism,
    Null,
    NumberArray,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    RoomNumbers,
    Structured,
    Unavailable,
    Unchanged,
)
from keyway.p11kit import DIALECTS, MAX_OUTPUT, MESSAGES, Dialect, Message, encode_request, reply_kinds, request_kinds
from keyway.p11kit.attributes import Form
from keyway.p11kit.mechanisms import FOREIGN, Layout

Some = SearchStrategy[Any]

u8: Final = st.integers(0, 0xFF)
u64: Final = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**64 - 1]))
data: Final = st.binary(max_size=40)
strings: Final[Some] = data | st.builds(Null, st.integers(0, 2**32 - 1))
dialects: Final = st.sampled_from(DIALECTS)

_KNOWN: Final = sorted(DIALECTS[2].forms)
_PLAIN: Final = [0x3, 0x11, 0x102, 0x120, 0x181, 0x8000_0001]


def _values(dialect: Dialect, type_: int, depth: int) -> Some:
    match dialect.form(type_):
        case Form.BYTE:
            return st.binary(min_size=1, max_size=1) | st.just(Null())
        case Form.ULONG:
            return u64 if type_ in ATTRIBUTE_KINDS else st.binary(min_size=8, max_size=8)
        case Form.MECHANISMS:
            return st.builds(NumberArray, st.lists(u64, max_size=4).map(tuple))
        case Form.DATE:
            return st.binary(min_size=8, max_size=8) | st.just(Null())
        case Form.TEMPLATE:
            return attributes(dialect, depth - 1)
        case _:
            return data | st.just(Null(2**64 - 1)) | st.just(Null())


def _types(dialect: Dialect, depth: int) -> Some:
    nests = depth > 0 and dialect.has_templates
    return st.sampled_from(
        [type_ for type_ in (*_KNOWN, *_PLAIN) if nests or ATTRIBUTE_KINDS.get(type_) is not AttributeKind.TEMPLATE]
    )


def attributes(dialect: Dialect, depth: int = 2) -> Some:
    """Attributes with values."""
    one = _types(dialect, depth).flatmap(
        lambda type_: st.builds(Attribute, st.just(type_), _values(dialect, type_, depth))
    )
    return st.lists(one, max_size=4).map(tuple)


def _parameter(layout: Layout) -> Some:
    size = layout.size
    field = {"u": u64, "b": st.binary(min_size=size or 1, max_size=size or 30)}
    if layout.shape:
        return st.builds(Structured, st.just(layout.shape), st.tuples(*(field[letter] for letter in layout.fields)))
    return field["b"] if layout.fields == "b" else st.binary(min_size=8, max_size=8)


def mechanisms(dialect: Dialect) -> Some:
    """Mechanisms of every layout, and of none that is known."""
    bare = st.sampled_from(sorted(dialect.bare)).map(Mechanism)
    shaped = st.sampled_from(sorted(dialect.layouts)).flatmap(
        lambda type_: st.builds(Mechanism, st.just(type_), _parameter(dialect.layouts[type_]))
    )
    unknown = st.builds(Mechanism, st.integers(0x9000_0000, 0x9000_FFFF), data | st.just(Null()))
    return st.one_of(bare, shaped, unknown, *([st.none()] if dialect.has_null_mechanism else []))


_asked = st.sampled_from([type_ for type_ in (*_KNOWN, *_PLAIN) if type_ < 0x4000_0000]).flatmap(
    lambda type_: st.builds(
        Attribute,
        st.just(type_),
        st.just(Null())
        | (st.just(RoomNumbers(1)) if type_ in ATTRIBUTE_KINDS else st.builds(RoomBytes, st.integers(5, MAX_OUTPUT))),
    )
)
queries: Final = st.lists(_asked, min_size=1, max_size=4).map(tuple)


def _request(dialect: Dialect, call: Call, kind: Kind) -> Some:
    sizes = st.integers(1, MAX_OUTPUT)
    empty = [st.just(Room(0, True))] if dialect.has_empty_mark else []
    table: dict[Kind, Some] = {
        Kind.ULONG: u64,
        Kind.OBJECT: u64,
        Kind.BOOL: u8,
        Kind.BYTES: strings,
        Kind.PIN: strings,
        Kind.LABEL: st.binary(min_size=32, max_size=32),
        Kind.MECHANISM: mechanisms(dialect),
        Kind.PARAMETER: st.sampled_from([Null(), b""]),
        Kind.TEMPLATE: attributes(dialect),
        Kind.TEMPLATE_OUT: queries,
        Kind.BUFFER: st.one_of(st.builds(Room, sizes, st.just(True)), st.just(Room(0, False)), *empty),
        Kind.FILL: st.builds(Fill, st.just(True), st.integers(0, 40)),
        Kind.ULONGS_OUT: st.builds(Room, st.integers(1, 9), st.just(True)) | st.just(Room(0, False)),
        Kind.OBJECTS_OUT: st.builds(ObjectsRoom, st.integers(0, 9), st.just(True), st.just(True)),
        Kind.ULONG_OUT: st.just(0),
        Kind.OBJECT_OUT: st.just(0),
        Kind.SESSION_OUT: st.just(0),
        Kind.RESERVED: st.just(False),
    }
    return table.get(kind, st.just(True))


def requests(dialect: Dialect, call: Call) -> Some:
    """The values of a call."""
    if call.name == "C_Initialize":
        reserved = st.just(Null()) | data
        return st.tuples(st.just(2), reserved, st.just(b""))
    return st.tuples(*(_request(dialect, call, kind) for kind in request_kinds(call)))


def _answer(entry: Attribute) -> Some:
    if isinstance(entry.value, Null):
        return st.just(LengthNumbers(1)) if entry.type in ATTRIBUTE_KINDS else st.builds(Null, st.integers(0, 999))
    if isinstance(entry.value, RoomNumbers):
        return u64
    match DIALECTS[2].form(entry.type):
        case Form.BYTE:
            return st.binary(min_size=1, max_size=1)
        case Form.ULONG | Form.DATE:
            return st.just(Unavailable())
        case _:
            return st.binary(min_size=1, max_size=5)


def results(call: Call, values: tuple[Any, ...]) -> Some:
    """The results of a call that succeeds."""
    asked = dict(zip(request_kinds(call), values, strict=True))

    def one(kind: Kind) -> Some:
        question = asked.get(kind)
        match question:
            case Room(capacity, True) if kind is Kind.BUFFER:
                return st.binary(max_size=min(capacity or 0, 40)).map(lambda written: Output(len(written), written))
            case Room() if kind is Kind.BUFFER:
                return st.builds(Output, st.integers(0, 999), st.none())
            case Room(capacity, True) | ObjectsRoom(capacity):
                return st.lists(u64, max_size=capacity or 0).map(lambda found: Numbers(len(found), tuple(found)))
            case Room():
                return st.builds(Numbers, st.integers(0, 999), st.none())
            case Fill(_, length):
                return st.binary(min_size=length, max_size=length)
        if kind is Kind.TEMPLATE_OUT:
            assert isinstance(question, tuple)
            return st.tuples(*(st.builds(Attribute, st.just(entry.type), _answer(entry)) for entry in question))
        table: dict[Kind, Some] = {
            Kind.MECHANISM: st.just(Unchanged()),
            Kind.PARAMETER: st.just(Unchanged()),
            Kind.BYTES_OUT: st.just(Null()),
            Kind.ULONG_OUT: u64,
            Kind.OBJECT_OUT: u64,
        }
        return table[kind] if kind in table else NATIVE_REPLY[kind].filter(lambda info: info is not None)

    return st.tuples(*(one(kind) for kind in reply_kinds(call)))


def messages(dialect: Dialect) -> list[Message]:
    """The messages that carry a call in a dialect."""
    newest = {message.name: message for message in MESSAGES if message.since <= dialect.version}
    return list(newest.values())


_PIECES: Final = [
    *(bytes(4), bytes(8), b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x40\0\2\x11", b"\x40\0\6\0"),
    *(bytes([tag]) for tag in range(4)),
    *(type_.to_bytes(4, "big") for type_ in (*sorted(FOREIGN), *sorted(PARAMETER_SHAPES))),
]


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """A body with some bytes replaced, lost or added."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 8)))
        piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=9))
        body = body[:start] + piece + body[end:]
    return body


@st.composite
def bodies(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """The body of a request: with nothing but the right start, or well-formed and then damaged."""
    message = draw(st.sampled_from(MESSAGES))
    if draw(st.booleans()):
        start = message.id.to_bytes(4, "big") + len(message.request).to_bytes(4, "big") + message.request.encode()
        return start + draw(st.binary(max_size=120))
    message = draw(st.sampled_from(messages(dialect)))
    return draw(damaged(encode_request(dialect, message.call, 1, draw(requests(dialect, message.call)))))
