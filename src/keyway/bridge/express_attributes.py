"""The short way of C_GetAttributeValue: queries of clients to native frames, and the answers back (`keyway.bridge.express`)."""

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812 (the module's own name for it says nothing)
from typing import Final

from keyway.bridge.express import FRAME, NULL_MARK, PACK, U32
from keyway.cryptoki import ATTRIBUTE_KINDS, AttributeKind
from keyway.p11kit import MAX_OUTPUT, Dialect
from keyway.p11kit.attributes import Form
from keyway.wire.header import MAX_ATTRIBUTES, MAX_HANDLES

__all__ = ["answer", "query"]

_HEAD: Final = Struct(">QQI")
_ROOMS: Final = Struct(">II")
_ROOM: Final = Struct(">QBQ").pack
_ENTRY: Final = Struct(">QB").unpack_from
_NUMBER: Final = Struct(">Q").unpack_from
_BYTES: Final = Struct(">IBII").pack
_BYTE: Final = Struct(">IBIB").pack
_ULONG: Final = Struct(">IBIQ").pack

_LENGTH, _DATA, _ONE, _ROOM_BYTES, _ROOM_NUMBERS, _COUNT = 0, 1, 2, 5, 6, 8
"""Tags of the native wire."""
_ULONG_SIZE: Final = 8
_NUMBERS: Final = frozenset({AttributeKind.ULONG, AttributeKind.ULONGS})


def query(begin: bytes, number: int, dialect: Dialect) -> Callable[[bytes, int], bytes | None]:
    """Return the way of queries without templates, from a client whose CK_ULONG has 8 bytes.

    Args:
        begin: How the message begins.
        number: The native number of the call.
        dialect: The client's.
    """
    at = len(begin)
    numbers = frozenset(type_ for type_, kind in ATTRIBUTE_KINDS.items() if kind in _NUMBERS)
    templates = frozenset(
        {type_ for type_, kind in ATTRIBUTE_KINDS.items() if kind is AttributeKind.TEMPLATE}
        | {type_ for type_, form in dialect.forms.items() if form is Form.TEMPLATE}
    )
    ulongs = frozenset(type_ for type_, form in dialect.forms.items() if form is Form.ULONG)

    def take(body: bytes, id_: int) -> bytes | None:
        size = len(body) - at - 20
        if size < 0 or not body.startswith(begin):
            return None
        target, object_, count = _HEAD.unpack_from(body, at)
        if size != 8 * count or count > MAX_ATTRIBUTES:
            return None
        entries = [U32.pack(count)]
        for type_, room in _ROOMS.iter_unpack(body[at + 20 :]):
            if type_ in templates or room > MAX_OUTPUT:
                return None
            if not room:
                entries.append(_ROOM(type_, _LENGTH, 0))
            elif type_ in numbers or type_ in ulongs:
                # The other sizes tell a CK_ULONG of 4 bytes, or a mistake.
                if type_ not in numbers or room % _ULONG_SIZE or room > _ULONG_SIZE * MAX_HANDLES:
                    return None
                entries.append(_ROOM(type_, _ROOM_NUMBERS, room // _ULONG_SIZE))
            else:
                entries.append(_ROOM(type_, _ROOM_BYTES, room))
        return PACK(4 + 17 * count, number, 0, id_, target, object_) + b"".join(entries)

    return take


def answer(begin: bytes, dialect: Dialect) -> Callable[[bytes, int, int, int], bytes | None]:
    """Return the way of answers to such a query: those that are CKR_OK, and hold bytes, numbers and lengths.

    Args:
        begin: How the message begins.
        dialect: The client's.
    """
    begun = len(begin)
    forms = dict(dialect.forms)

    def give(data: bytes, first: int, end: int, code: int) -> bytes | None:
        if not 4 < end - first <= MAX_OUTPUT:
            return None
        try:
            entries = _entries(data[first:end], forms)
        except StructError:
            # It ends too early, or a type has more than 32 bits.
            return None
        return None if entries is None else FRAME(code, 0, begun + len(entries) + 8) + begin + entries + bytes(8)

    return give


def _entries(body: bytes, forms: dict[int, Form]) -> bytes | None:
    count = U32.unpack_from(body)[0]
    if count > MAX_ATTRIBUTES:
        return None
    entries = [body[:4]]
    at = 4
    for _ in range(count):
        type_, tag = _ENTRY(body, at)
        form = forms.get(type_, Form.BYTES)
        if tag == _DATA:
            size = U32.unpack_from(body, at + 9)[0]
            at += 13 + size
            if form is Form.BYTES:
                entries.append(_BYTES(type_, 1, size, size) + body[at - size : at])
            elif form is Form.BYTE and size == 1:
                entries.append(_BYTE(type_, 1, 1, *body[at - 1 : at]))
            else:
                return None
            continue
        number = _NUMBER(body, at + 9)[0]
        at += 17
        if tag == _ONE and form is Form.ULONG:
            entries.append(_ULONG(type_, 1, _ULONG_SIZE, number))
        elif tag == _LENGTH and form is Form.BYTES and number <= MAX_OUTPUT:
            entries.append(_BYTES(type_, 1, number, NULL_MARK))
        elif tag == _LENGTH and form is Form.BYTE and number <= MAX_OUTPUT:
            entries.append(_BYTE(type_, 1, number, 0))
        elif tag == _COUNT and form is Form.ULONG and number <= MAX_OUTPUT // _ULONG_SIZE:
            entries.append(_ULONG(type_, 1, _ULONG_SIZE * number, 0))
        else:
            return None
    # A length may have led behind the end; then what was cut off is not what it told.
    return b"".join(entries) if at == len(body) else None
