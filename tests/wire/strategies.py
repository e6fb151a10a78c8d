"""Hypothesis strategies for everything that travels: values of each kind, members, whole calls, and bodies with damage."""

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.wire import vectors

from keyway.cryptoki import (
    CALLS,
    SHAPES,
    Attribute,
    Call,
    Fill,
    Kind,
    LengthAttributes,
    LengthNumbers,
    Mechanism,
    MechanismInfo,
    MemberKind,
    ModuleInfo,
    Null,
    NumberArray,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    RoomNumbers,
    SessionInfo,
    SlotInfo,
    Structured,
    TokenInfo,
    Unavailable,
    Unchanged,
    Version,
    table,
)
from keyway.wire import encode_reply, encode_request, reply_kinds, request_kinds

Some = SearchStrategy[Any]

SENT: Final = [call for call in CALLS if not call.local]

u8: Final = st.integers(0, 0xFF)
u64: Final = st.one_of(st.integers(0, 0xFFFF_FFFF_FFFF_FFFF), st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**64 - 1]))
data: Final = st.binary(max_size=40)
strings: Final[Some] = st.one_of(data, st.builds(Null, u64))
cells: Final = st.none() | u64
versions: Final = st.builds(Version, u8, u8)


def _attributes(values: Some) -> Some:
    return st.lists(st.builds(Attribute, u64, values), max_size=4).map(tuple)


def _nested(leaves: Some) -> Some:
    """Attributes whose values are leaves or nested templates."""
    return _attributes(st.recursive(leaves, _attributes, max_leaves=6))


_plain: Final[Some] = st.one_of(
    st.builds(Null, u64), data, u64, st.builds(NumberArray, st.lists(u64, max_size=4).map(tuple))
)
templates: Final = _nested(_plain) | st.builds(Null, u64)
queries: Final = _nested(st.one_of(st.builds(Null, u64), st.builds(RoomBytes, u64), st.builds(RoomNumbers, u64))) | (
    st.builds(Null, u64)
)
answers: Final = _nested(
    st.one_of(_plain, st.builds(LengthNumbers, u64), st.builds(LengthAttributes, u64), st.builds(Unavailable))
) | st.just(Null())


def _member(member: table.Member, depth: int) -> Some:
    match member.kind:
        case MemberKind.ULONG | MemberKind.OBJECT:
            return u64
        case MemberKind.BYTE:
            return u8
        case MemberKind.BYTES:
            return st.binary(min_size=member.count, max_size=member.count)
        case MemberKind.ULONGS:
            return st.tuples(*[u64] * member.count)
        case MemberKind.CELL | MemberKind.OBJECT_CELL:
            return cells
        case MemberKind.VERSION:
            return st.none() | versions
        case MemberKind.STRUCT:
            return members(member.shape, depth)
        case MemberKind.POINTER:
            return st.none() | members(member.shape, depth)
        case MemberKind.ARRAY:
            return st.builds(Null, u64) | st.lists(members(member.shape, depth), max_size=2).map(tuple)
        case MemberKind.TEMPLATE:
            return templates
        case MemberKind.MECHANISM:
            return st.none() | st.builds(Mechanism, u64, parameters(depth))
        case MemberKind.CHOICE:
            return parameters(depth)
        case _:
            return strings


def members(shape: int, depth: int) -> Some:
    """The members of a shape, with at most so many structured parameters inside."""
    travelling = [member for member in SHAPES[shape].members if member.kind is not MemberKind.LENGTH]
    return st.tuples(*(_member(member, depth) for member in travelling))


def parameters(depth: int = 1, *, reply: bool = False) -> Some:
    """Mechanism parameters."""
    flat = st.one_of(st.builds(Null, u64), data, *([st.builds(Unchanged)] if reply else []))
    if not depth:
        return flat
    structured = st.sampled_from(sorted(SHAPES)).flatmap(
        lambda shape: st.builds(Structured, st.just(shape), members(shape, depth - 1))
    )
    return flat | structured


def _text(width: int) -> Some:
    return st.binary(min_size=width, max_size=width)


_INFO: Final[dict[Kind, Some]] = {
    Kind.INFO_OUT: st.builds(ModuleInfo, versions, _text(32), u64, _text(32), versions),
    Kind.SLOT_INFO_OUT: st.builds(SlotInfo, _text(64), _text(32), u64, versions, versions),
    Kind.TOKEN_INFO_OUT: st.builds(
        TokenInfo, _text(32), _text(32), _text(16), _text(16), *[u64] * 11, versions, versions, _text(16)
    ),
    Kind.SESSION_INFO_OUT: st.builds(SessionInfo, u64, u64, u64, u64),
    Kind.MECHANISM_INFO_OUT: st.builds(MechanismInfo, u64, u64, u64),
}
_ROOM: Final[Some] = st.builds(Room, st.none() | u64, st.booleans())
_NUMBERS: Final[Some] = st.builds(Numbers, st.none() | u64, st.none() | st.lists(u64, max_size=5).map(tuple))

REQUEST: Final[dict[Kind, Some]] = {
    Kind.ULONG: u64,
    Kind.BOOL: u8,
    Kind.OBJECT: u64,
    Kind.BYTES: strings,
    Kind.PIN: strings,
    Kind.NAME: strings,
    Kind.LABEL: st.none() | _text(32),
    Kind.MECHANISM: st.none() | st.builds(Mechanism, u64, parameters()),
    Kind.PARAMETER: parameters(),
    Kind.TEMPLATE: templates,
    Kind.TEMPLATE_OUT: queries,
    Kind.BUFFER: _ROOM,
    Kind.FILL: st.builds(Fill, st.booleans(), u64),
    Kind.ULONG_OUT: cells,
    Kind.OBJECT_OUT: cells,
    Kind.SESSION_OUT: cells,
    Kind.ULONGS_OUT: _ROOM,
    Kind.OBJECTS_OUT: st.builds(ObjectsRoom, u64, st.booleans(), st.booleans()),
    Kind.ASYNC_DATA_OUT: st.booleans(),
    Kind.RESERVED: st.booleans(),
    **dict.fromkeys(_INFO, st.booleans()),
}

REPLY: Final[dict[Kind, Some]] = {
    Kind.MECHANISM: parameters(reply=True),
    Kind.PARAMETER: parameters(reply=True),
    Kind.TEMPLATE_OUT: answers,
    Kind.BUFFER: st.builds(Output, st.none() | u64, st.none() | data),
    Kind.FILL: strings,
    Kind.BYTES_OUT: strings,
    Kind.ULONG_OUT: cells,
    Kind.OBJECT_OUT: cells,
    Kind.ULONGS_OUT: _NUMBERS,
    Kind.OBJECTS_OUT: _NUMBERS,
    **{kind: st.none() | info for kind, info in _INFO.items()},
}


def requests(call: Call) -> Some:
    """The values of a request."""
    return st.tuples(*(REQUEST[kind] for kind in request_kinds(call)))


def replies(call: Call) -> Some:
    """The values of a reply."""
    return st.tuples(*(REPLY[kind] for kind in reply_kinds(call)))


calls: Final = st.sampled_from(SENT)
fusable: Final = st.sampled_from([call for call in SENT if call.init])


_CORPUS: Final = [
    (vector["direction"], vectors.named_call(vector), vectors.body(vector["body"]))
    for name in ("calls.json", "shapes.json")
    for vector in vectors.load(name)
]
_PIECES: Final = [
    bytes(4),
    bytes(8),
    b"\xff" * 4,
    b"\xff" * 8,
    b"\xff\xff\xff\xfe",
    *(bytes([tag]) for tag in range(11)),
]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, Call, bytes]:
    """A direction, a call and a body: random, well-formed, or well-formed and then damaged."""
    source = draw(st.integers(0, 2))
    if source == 0:
        return draw(st.sampled_from(["request", "reply"])), draw(calls), draw(st.binary(max_size=200))
    if source == 1:
        direction, call, body = draw(st.sampled_from(_CORPUS))
    else:
        direction, call = draw(st.sampled_from(["request", "reply"])), draw(calls)
        body = (
            encode_reply(call, draw(replies(call)))
            if direction == "reply"
            else encode_request(call, draw(requests(call))).body
        )
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 8)))
        piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=9))
        body = body[:start] + piece + body[end:]
    return direction, call, body
