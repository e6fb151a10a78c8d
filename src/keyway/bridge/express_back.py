"""The short ways of Back: native frames to messages, and the server's replies back (`keyway.bridge.express`)."""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from keyway.bridge.express import (
    BITS_U64,
    LENGTH_ALONE,
    NULL_MARK,
    PACK,
    U32,
    U64,
    UNCHANGED,
    WITH_BUFFER,
    bare_mechanisms,
    is_format_a,
    start,
)
from keyway.cryptoki import Call, Fill, Kind, ObjectsRoom, Room, Target, Value
from keyway.p11kit import DIALECTS, MAX_OUTPUT, MESSAGES, Dialect, Request, reply_kinds, request_kinds
from keyway.wire.header import MAX_HANDLES, Flags

__all__ = ["FUSED_MECHANISM", "NO_ROOM", "WAYS", "BackReply", "BackRequest", "BackWay", "Header"]

Header: TypeAlias = tuple[int, int, int, int, int, int]
"""A native header as the struct gives it: length, call, flags, id, target, object."""

NO_ROOM: Final = -1
"""What a caller offers who asks for the length alone, or for nothing."""
FUSED_MECHANISM: Final = 18
"""Bytes of a mechanism without a parameter, where it is all of an init's body."""

BackRequest: TypeAlias = Callable[[int, int, bytes], tuple[bytes, int] | None]
"""Takes the server's session handle, the object and the body of a native request; gives a message, and the room that it offers."""
BackReply: TypeAlias = Callable[[Header, int, bytes], bytes | None]
"""Takes the header of the native request, the room that it offered and a server's message; gives a native frame, if it is a success."""

_TARGET: Final = Struct(">Q").pack
_TARGET_TAG: Final = Struct(">QB").pack
_TARGET_U32: Final = Struct(">QI").pack


class BackWay(NamedTuple):
    """The short way of a call.

    Attributes:
        call: Its row.
        ask: Translates a request.
        answer: Translates a reply.
    """

    call: Call
    ask: BackRequest
    answer: BackReply

    def request(self, room: int) -> Request:
        """Return what the values need to read the reply, when it takes the long way."""
        has_buffer = room != NO_ROOM
        offered: dict[Kind, Value] = {
            Kind.BUFFER: Room(max(room, 0), has_buffer),
            Kind.FILL: Fill(has_buffer, max(room, 0)),
            Kind.OBJECTS_OUT: ObjectsRoom(max(room, 0), has_count=True, has_buffer=has_buffer),
        }
        return Request(self.call, 0, tuple(offered.get(kind) for kind in request_kinds(self.call)))


# Requests. Each function makes the way of one call from how its message begins.


def _nothing(begin: bytes, dialect: Dialect) -> BackRequest:
    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        return None if body else (begin + _TARGET(handle), NO_ROOM)

    return ask


def _data(begin: bytes, dialect: Dialect) -> BackRequest:
    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        size = len(body) - 4
        if not 0 <= size <= MAX_OUTPUT or U32.unpack_from(body)[0] != size:
            return None
        return begin + _TARGET_TAG(handle, 1) + body, NO_ROOM

    return ask


def _two_data(begin: bytes, dialect: Dialect) -> BackRequest:
    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        size = len(body) - 8
        if not 0 <= size <= MAX_OUTPUT:
            return None
        length = U32.unpack_from(body)[0]
        if length > size or U32.unpack_from(body, 4 + length)[0] != size - length:
            return None
        second = 4 + length
        return begin + _TARGET_TAG(handle, 1) + body[:second] + b"\1" + body[second:], NO_ROOM

    return ask


def _data_and_room(begin: bytes, dialect: Dialect) -> BackRequest:
    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        size = len(body) - 13
        if not 0 <= size <= MAX_OUTPUT or U32.unpack_from(body)[0] != size:
            return None
        bits, room = BITS_U64.unpack_from(body, size + 4)
        if bits == WITH_BUFFER:
            if not 0 < room <= MAX_OUTPUT:
                return None
            return begin + _TARGET_TAG(handle, 1) + body[:-9] + U32.pack(room), room
        if bits != LENGTH_ALONE:
            return None
        return begin + _TARGET_TAG(handle, 1) + body[:-9] + bytes(4), NO_ROOM

    return ask


def _room(begin: bytes, dialect: Dialect) -> BackRequest:
    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        if len(body) != 9:
            return None
        bits, room = BITS_U64.unpack(body)
        if bits == WITH_BUFFER:
            return (begin + _TARGET_U32(handle, room), room) if 0 < room <= MAX_OUTPUT else None
        return (begin + _TARGET_U32(handle, 0), NO_ROOM) if bits == LENGTH_ALONE else None

    return ask


def _fill(begin: bytes, dialect: Dialect) -> BackRequest:
    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        if len(body) != 9:
            return None
        tag, size = BITS_U64.unpack(body)
        if tag != 1 or not 0 < size <= MAX_OUTPUT:
            return None
        return begin + _TARGET_U32(handle, size), size

    return ask


def _objects(begin: bytes, dialect: Dialect) -> BackRequest:
    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        if len(body) != 9:
            return None
        bits, maximum = BITS_U64.unpack(body)
        if bits != WITH_BUFFER or maximum > MAX_HANDLES:
            return None
        return begin + _TARGET_U32(handle, maximum), maximum

    return ask


def _mechanism(begin: bytes, dialect: Dialect) -> BackRequest:
    bare = _by_native_form(dialect)

    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        mechanism = bare.get(body)
        return None if mechanism is None else (begin + _TARGET(handle) + mechanism, NO_ROOM)

    return ask


def _mechanism_and_object(begin: bytes, dialect: Dialect) -> BackRequest:
    bare = _by_native_form(dialect)

    def ask(handle: int, object_: int, body: bytes) -> tuple[bytes, int] | None:
        mechanism = bare.get(body)
        if mechanism is None:
            return None
        return begin + _TARGET(handle) + mechanism + U64.pack(object_), NO_ROOM

    return ask


def _by_native_form(dialect: Dialect) -> dict[bytes, bytes]:
    """The mechanisms without a parameter: how each travels there, and here."""
    mark = U32.pack(NULL_MARK) if is_format_a(dialect) else b""
    return {native: U32.pack(type_) + mark for type_, native in bare_mechanisms(dialect).items()}


# Replies that are CKR_OK. Each function makes the way of the replies to one call.


def _no_results(begin: bytes) -> BackReply:
    def answer(header: Header, room: int, body: bytes) -> bytes | None:
        if body != begin:
            return None
        return PACK(0, header[1], Flags.REPLY, header[3], header[4], 0)

    return answer


def _unchanged(begin: bytes) -> BackReply:
    native = bytes([UNCHANGED])

    def answer(header: Header, room: int, body: bytes) -> bytes | None:
        if body != begin:
            return None
        return PACK(1, header[1], Flags.REPLY, header[3], header[4], 0) + native

    return answer


def _output(begin: bytes) -> BackReply:
    present, absent = begin + b"\1", begin + b"\0"
    at = len(present)

    def answer(header: Header, room: int, body: bytes) -> bytes | None:
        size = len(body) - at - 4
        if size < 0:
            return None
        length = U32.unpack_from(body, at)[0]
        if size == length and length <= room and body.startswith(present):
            result = BITS_U64.pack(WITH_BUFFER, size)
            return PACK(13 + size, header[1], Flags.REPLY, header[3], header[4], 0) + result + body[at:]
        if size == 0 and room == NO_ROOM and body.startswith(absent):
            return PACK(9, header[1], Flags.REPLY, header[3], header[4], 0) + BITS_U64.pack(LENGTH_ALONE, length)
        return None

    return answer


def _filled(begin: bytes) -> BackReply:
    present = begin + b"\1"
    at = len(present)

    def answer(header: Header, room: int, body: bytes) -> bytes | None:
        if len(body) != at + 4 + room or not body.startswith(present) or U32.unpack_from(body, at)[0] != room:
            return None
        return PACK(4 + room, header[1], Flags.REPLY, header[3], header[4], 0) + body[at:]

    return answer


def _found(begin: bytes) -> BackReply:
    present = begin + b"\1"
    at = len(present)

    def answer(header: Header, room: int, body: bytes) -> bytes | None:
        size = len(body) - at - 4
        if size < 0 or not body.startswith(present):
            return None
        count = U32.unpack_from(body, at)[0]
        if 8 * count != size or count > room:
            return None
        result = BITS_U64.pack(WITH_BUFFER, count)
        return PACK(13 + size, header[1], Flags.REPLY, header[3], header[4], 0) + result + body[at:]

    return answer


_ASKERS: Final[Mapping[tuple[Kind, ...], Callable[[bytes, Dialect], BackRequest]]] = {
    (): _nothing,
    (Kind.BYTES,): _data,
    (Kind.BYTES, Kind.BYTES): _two_data,
    (Kind.BYTES, Kind.BUFFER): _data_and_room,
    (Kind.BUFFER,): _room,
    (Kind.FILL,): _fill,
    (Kind.OBJECTS_OUT,): _objects,
    (Kind.MECHANISM,): _mechanism,
    (Kind.MECHANISM, Kind.OBJECT): _mechanism_and_object,
}
_ANSWERERS: Final[Mapping[tuple[Kind, ...], Callable[[bytes], BackReply]]] = {
    (): _no_results,
    (Kind.MECHANISM,): _unchanged,
    (Kind.BUFFER,): _output,
    (Kind.FILL,): _filled,
    (Kind.OBJECTS_OUT,): _found,
}


def _ways(dialect: Dialect) -> dict[int, BackWay]:
    ways: dict[int, BackWay] = {}
    for message in MESSAGES:
        call = message.call
        ask = _ASKERS.get(tuple(request_kinds(call)))
        # The end of a session is more than a call in it.
        if (
            ask is not None
            and call.target is Target.SESSION
            and message.since <= dialect.version
            and message.name != "C_CloseSession"
        ):
            answer = _ANSWERERS[tuple(reply_kinds(call))]
            begin = start(message.id, message.request)
            ways[call.number] = BackWay(call, ask(begin, dialect), answer(start(message.id, message.reply)))
    return ways


WAYS: Final[tuple[Mapping[int, BackWay], ...]] = tuple(_ways(dialect) for dialect in DIALECTS)
"""By version, then by the number of the call."""
