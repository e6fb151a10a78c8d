"""The short ways of Front: messages to native frames, and the replies back (`keyway.bridge.express`)."""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from keyway.bridge.express import (
    BITS_U64,
    FRAME,
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
from keyway.bridge.express_attributes import answer, query
from keyway.cryptoki import Kind, Target
from keyway.p11kit import DIALECTS, MAX_OUTPUT, MESSAGES, Dialect, Message, Request, reply_kinds, request_kinds
from keyway.p11kit.dialect import Nesting
from keyway.p11kit.query import Asker
from keyway.p11kit.template import ULONG_SIZE
from keyway.wire.header import MAX_HANDLES

__all__ = ["REPLIES", "REQUESTS", "FrontReply", "FrontRequest", "FrontWay"]

FrontRequest: TypeAlias = Callable[[bytes, int], bytes | None]
"""Takes a message and a request id; gives a native frame."""
FrontReply: TypeAlias = Callable[[bytes, int, int, int], bytes | None]
"""Takes native frames, where in them the body of a reply that is CKR_OK starts and ends, and the client's code; gives a message with its frame."""

_TARGET: Final = Struct(">Q")
_TARGET_U32: Final = Struct(">QI")
_TARGET_DATA: Final = Struct(">QBI")
_A: Final = Struct(">QII")
_A_OBJECT: Final = Struct(">QIIQ")
_B: Final = Struct(">QI")
_B_OBJECT: Final = Struct(">QIQ")


class FrontWay(NamedTuple):
    """The short way of a message.

    Attributes:
        take: Translates it.
        request: What of the call the reply needs.
        give: Translates the reply.
    """

    take: FrontRequest
    request: Request
    give: FrontReply


# Requests. Each function makes the way of one message from how it begins and the native number of its call.


def _nothing(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)

    def take(body: bytes, id_: int) -> bytes | None:
        if len(body) != at + 8 or not body.startswith(begin):
            return None
        return PACK(0, number, 0, id_, _TARGET.unpack_from(body, at)[0], 0)

    return take


def _data(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)

    def take(body: bytes, id_: int) -> bytes | None:
        size = len(body) - at - 13
        if size < 0 or not body.startswith(begin):
            return None
        target, tag, length = _TARGET_DATA.unpack_from(body, at)
        if tag != 1 or length != size:
            return None
        return PACK(size + 4, number, 0, id_, target, 0) + body[at + 9 :]

    return take


def _two_data(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)

    def take(body: bytes, id_: int) -> bytes | None:
        size = len(body) - at - 18
        if size < 0 or not body.startswith(begin):
            return None
        target, tag, length = _TARGET_DATA.unpack_from(body, at)
        if tag != 1 or length > size:
            return None
        second = at + 13 + length
        if body[second] != 1 or U32.unpack_from(body, second + 1)[0] != size - length:
            return None
        return PACK(size + 8, number, 0, id_, target, 0) + body[at + 9 : second] + body[second + 1 :]

    return take


def _data_and_room(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)

    def take(body: bytes, id_: int) -> bytes | None:
        size = len(body) - at - 17
        if size < 0 or not body.startswith(begin):
            return None
        target, tag, length = _TARGET_DATA.unpack_from(body, at)
        room = U32.unpack_from(body, len(body) - 4)[0]
        if tag != 1 or length != size or room > MAX_OUTPUT:
            return None
        bits = WITH_BUFFER if room else LENGTH_ALONE
        return PACK(size + 13, number, 0, id_, target, 0) + body[at + 9 : -4] + BITS_U64.pack(bits, room)

    return take


def _room(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)

    def take(body: bytes, id_: int) -> bytes | None:
        if len(body) != at + 12 or not body.startswith(begin):
            return None
        target, room = _TARGET_U32.unpack_from(body, at)
        if room > MAX_OUTPUT:
            return None
        return PACK(9, number, 0, id_, target, 0) + BITS_U64.pack(WITH_BUFFER if room else LENGTH_ALONE, room)

    return take


def _fill(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)

    def take(body: bytes, id_: int) -> bytes | None:
        if len(body) != at + 12 or not body.startswith(begin):
            return None
        target, size = _TARGET_U32.unpack_from(body, at)
        if not 0 < size <= MAX_OUTPUT:
            return None
        return PACK(9, number, 0, id_, target, 0) + BITS_U64.pack(1, size)

    return take


def _objects(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)

    def take(body: bytes, id_: int) -> bytes | None:
        if len(body) != at + 12 or not body.startswith(begin):
            return None
        target, maximum = _TARGET_U32.unpack_from(body, at)
        if maximum > MAX_HANDLES:
            return None
        return PACK(9, number, 0, id_, target, 0) + BITS_U64.pack(WITH_BUFFER, maximum)

    return take


def _mechanism(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)
    bare = bare_mechanisms(dialect)

    def take_a(body: bytes, id_: int) -> bytes | None:
        if len(body) != at + 16 or not body.startswith(begin):
            return None
        target, type_, parameter = _A.unpack_from(body, at)
        native = bare.get(type_)
        if native is None or parameter != NULL_MARK:
            return None
        return PACK(18, number, 0, id_, target, 0) + native

    def take_b(body: bytes, id_: int) -> bytes | None:
        if len(body) != at + 12 or not body.startswith(begin):
            return None
        target, type_ = _B.unpack_from(body, at)
        native = bare.get(type_)
        return None if native is None else PACK(18, number, 0, id_, target, 0) + native

    return take_a if is_format_a(dialect) else take_b


def _mechanism_and_object(begin: bytes, number: int, dialect: Dialect) -> FrontRequest:
    at = len(begin)
    bare = bare_mechanisms(dialect)

    def take_a(body: bytes, id_: int) -> bytes | None:
        if len(body) != at + 24 or not body.startswith(begin):
            return None
        target, type_, parameter, object_ = _A_OBJECT.unpack_from(body, at)
        native = bare.get(type_)
        if native is None or parameter != NULL_MARK:
            return None
        return PACK(18, number, 0, id_, target, object_) + native

    def take_b(body: bytes, id_: int) -> bytes | None:
        if len(body) != at + 20 or not body.startswith(begin):
            return None
        target, type_, object_ = _B_OBJECT.unpack_from(body, at)
        native = bare.get(type_)
        return None if native is None else PACK(18, number, 0, id_, target, object_) + native

    return take_a if is_format_a(dialect) else take_b


_TAKERS: Final[Mapping[tuple[Kind, ...], Callable[[bytes, int, Dialect], FrontRequest]]] = {
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


# Replies that are CKR_OK. Each function makes the way of the replies to one message.


def _no_results(message: Message) -> FrontReply:
    begin = start(message.id, message.reply)
    size = len(begin)

    def give(data: bytes, first: int, end: int, code: int) -> bytes | None:
        return FRAME(code, 0, size) + begin if first == end else None

    return give


def _unchanged(message: Message) -> FrontReply:
    begin = start(message.id, message.reply)
    size = len(begin)

    def give(data: bytes, first: int, end: int, code: int) -> bytes | None:
        if end - first != 1 or data[first] != UNCHANGED:
            return None
        return FRAME(code, 0, size) + begin

    return give


def _output(message: Message) -> FrontReply:
    begin = start(message.id, message.reply)
    present, absent = begin + b"\1", begin + b"\0"
    begun = len(present)

    def give(data: bytes, first: int, end: int, code: int) -> bytes | None:
        size = end - first - 13
        if size >= 0:
            length = U32.unpack_from(data, first + 9)[0]
            if data[first] != WITH_BUFFER or length != size or length > MAX_OUTPUT:
                return None
            return FRAME(code, 0, begun + 4 + size) + present + data[first + 9 : end]
        if size != 9 - 13 or data[first] != LENGTH_ALONE:
            return None
        length = min(U64.unpack_from(data, first + 1)[0], NULL_MARK - 1)
        return FRAME(code, 0, begun + 4) + absent + U32.pack(length)

    return give


def _filled(message: Message) -> FrontReply:
    present = start(message.id, message.reply) + b"\1"
    begun = len(present)

    def give(data: bytes, first: int, end: int, code: int) -> bytes | None:
        size = end - first - 4
        if size < 0 or U32.unpack_from(data, first)[0] != size or size > MAX_OUTPUT:
            return None
        return FRAME(code, 0, begun + 4 + size) + present + data[first:end]

    return give


def _found(message: Message) -> FrontReply:
    present = start(message.id, message.reply) + b"\1"
    begun = len(present)

    def give(data: bytes, first: int, end: int, code: int) -> bytes | None:
        size = end - first - 13
        if size < 0 or data[first] != WITH_BUFFER:
            return None
        count = U32.unpack_from(data, first + 9)[0]
        if 8 * count != size or count > MAX_HANDLES:
            return None
        return FRAME(code, 0, begun + 4 + size) + present + data[first + 9 : end]

    return give


def _number(message: Message) -> FrontReply:
    begin = start(message.id, message.reply)
    begun = len(begin)

    def give(data: bytes, first: int, end: int, code: int) -> bytes | None:
        if end - first != 9 or data[first] != 1:
            return None
        return FRAME(code, 0, begun + 8) + begin + data[first + 1 : end]

    return give


_GIVERS: Final[Mapping[tuple[Kind, ...], Callable[[Message], FrontReply]]] = {
    (): _no_results,
    (Kind.MECHANISM,): _unchanged,
    (Kind.BUFFER,): _output,
    (Kind.FILL,): _filled,
    (Kind.OBJECTS_OUT,): _found,
    (Kind.OBJECT_OUT,): _number,
    (Kind.ULONG_OUT,): _number,
}

REPLIES: Final[Mapping[int, FrontReply]] = {
    message.id: make(message)
    for message in MESSAGES
    if (make := _GIVERS.get(tuple(reply_kinds(message.call)))) is not None and message.name != "C_OpenSession"
}
"""By the number of the message."""


def _requests(dialect: Dialect) -> dict[bytes, FrontWay]:
    ways: dict[bytes, FrontWay] = {}
    for message in MESSAGES:
        call = message.call
        make = _TAKERS.get(tuple(request_kinds(call)))
        if make is not None and call.target is Target.SESSION:
            begin = start(message.id, message.request)
            ways[begin[:4]] = FrontWay(
                make(begin, call.number, dialect), Request(call, 0, (), message.id), REPLIES[message.id]
            )
        elif message.name == "C_GetAttributeValue":
            begin = start(message.id, message.request)
            asker = Asker(ULONG_SIZE, dialect.has_templates and dialect.nestings[0] is not Nesting.NEVER)
            ways[begin[:4]] = FrontWay(
                query(begin, call.number, dialect),
                Request(call, 0, (), message.id, asker=asker),
                answer(start(message.id, message.reply), dialect),
            )
    return ways


REQUESTS: Final[tuple[Mapping[bytes, FrontWay], ...]] = tuple(_requests(dialect) for dialect in DIALECTS)
"""By version, then by the number of the message as it is written."""
