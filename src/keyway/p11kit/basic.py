"""Byte arrays, number arrays and the buffers offered for them (docs/p11-kit-wire.md, section 4)."""

from typing import Final

from keyway.cryptoki.constants import RV
from keyway.cryptoki.values import ByteString, Fill, Null, Numbers, ObjectsRoom, Opaque, Output, Room
from keyway.p11kit.cursor import MAX_U32, MAX_U64, NULL_MARK, Reader, Writer, checked, wrong
from keyway.p11kit.dialect import Dialect
from keyway.p11kit.errors import DecodeError, EncodeError, NotCarried
from keyway.p11kit.limits import MAX_NUMBERS, MAX_OUTPUT

__all__ = [
    "LABEL_SIZE",
    "array",
    "fill",
    "filled",
    "label",
    "numbers",
    "numbers_room",
    "objects_room",
    "output",
    "put_array",
    "put_fill",
    "put_label",
    "put_numbers",
    "put_numbers_room",
    "put_objects_room",
    "put_output",
    "put_room",
    "room",
]

LABEL_SIZE: Final = 32


def put_array(w: Writer, dialect: Dialect, value: object) -> None:
    """Append `ay`: bytes, or a NULL pointer with the length that came with it."""
    if isinstance(value, Null):
        # For NULL without a length later releases have a form of their own.
        is_marked = value.length == 0 and dialect.has_empty_mark
        w.present(is_marked)
        if checked(value.length, MAX_U64) > MAX_U32:
            raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL pointer with a length of more than 32 bits")
        w.u32(NULL_MARK if is_marked else value.length)
    else:
        w.present(True)
        w.data(value)


def array(r: Reader) -> ByteString:
    """Take `ay`."""
    if not r.is_present():
        return Null(r.u32())
    data = r.data()
    return Null() if data is None else data


def put_label(w: Writer, value: object) -> None:
    """Append `z` or `s` of C_InitToken: 32 bytes."""
    if value is None:
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL label")
    if not isinstance(value, bytes) or len(value) != LABEL_SIZE:
        raise wrong(f"{LABEL_SIZE} bytes", value)
    w.data(value)


def label(r: Reader) -> bytes:
    """Take `z` or `s` of C_InitToken. Old clients look for a terminator that is not there, and send what lies behind the label too."""
    data = r.data()
    if data is None:
        raise DecodeError(f"a NULL label before byte {r.at}")
    return Opaque(data[:LABEL_SIZE].ljust(LABEL_SIZE))


def put_room(w: Writer, dialect: Dialect, value: object) -> None:
    """Append `fy`: the room of an output buffer."""
    if not isinstance(value, Room):
        raise wrong("a Room", value)
    if value.length is None:
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL pointer to the length")
    _put_size(w, dialect, checked(value.length, MAX_U64), value.has_buffer)


def room(r: Reader) -> Room:
    """Take `fy`."""
    size = r.u32()
    if size == NULL_MARK:
        return Room(0, True)
    return Room(min(size, MAX_OUTPUT), size != 0)


def put_fill(w: Writer, dialect: Dialect, value: object) -> None:
    """Append `fy` of C_GenerateRandom, where the length is an order and not an offer."""
    if not isinstance(value, Fill):
        raise wrong("a Fill", value)
    length = checked(value.length, MAX_U64)
    if not value.has_buffer and length:
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL pointer with a length")
    if length > MAX_OUTPUT:
        raise NotCarried(RV.CKR_HOST_MEMORY, "an output above the limit")
    _put_size(w, dialect, length, value.has_buffer)


def fill(r: Reader, dialect: Dialect) -> Fill:
    """Take `fy` of C_GenerateRandom."""
    size = r.u32()
    if size == NULL_MARK:
        return Fill(True, 0)
    if size > MAX_OUTPUT:
        raise DecodeError(f"an output of {size} bytes is above the limit of {MAX_OUTPUT}", RV.CKR_HOST_MEMORY)
    # Old clients send 0 for an empty buffer; nobody asks for the length of random data.
    return Fill(size != 0 or not dialect.has_empty_mark, size)


def put_numbers_room(w: Writer, value: object) -> None:
    """Append `fu`: the room of an array of numbers."""
    if not isinstance(value, Room):
        raise wrong("a Room", value)
    if value.length is None:
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL pointer to the count")
    w.u32(min(checked(value.length, MAX_U64), MAX_NUMBERS) if value.has_buffer else 0)


def numbers_room(r: Reader) -> Room:
    """Take `fu`."""
    count = r.u32()
    return Room(min(count, MAX_NUMBERS), count != 0)


def put_objects_room(w: Writer, value: object) -> None:
    """Append `fu` of C_FindObjects."""
    if not isinstance(value, ObjectsRoom):
        raise wrong("an ObjectsRoom", value)
    if not (value.has_count and value.has_buffer):
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL pointer for what was found")
    w.u32(min(checked(value.maximum, MAX_U64), MAX_NUMBERS))


def objects_room(r: Reader) -> ObjectsRoom:
    """Take `fu` of C_FindObjects, where the clients let no NULL pointer through."""
    return ObjectsRoom(min(r.u32(), MAX_NUMBERS), has_count=True, has_buffer=True)


def put_output(w: Writer, value: object, *, fits: bool) -> None:
    """Append `ay` of a reply: the data, or the length alone.

    Args:
        w: Where to.
        value: An `Output`.
        fits: Whether the RV is CKR_OK: with another one there is no data.
    """
    if not isinstance(value, Output):
        raise wrong("an Output", value)
    if value.data is not None and fits:
        w.present(True)
        w.data(value.data)
        return
    if value.length is None:
        raise EncodeError("an Output without a length")
    w.present(False)
    w.u32(min(checked(value.length, MAX_U64), NULL_MARK - 1))


def output(r: Reader, asked: object) -> tuple[Output, bool]:
    """Take `ay` of a reply, and whether it is more than there was room for."""
    value = array(r)
    if isinstance(asked, Room) and asked.length is None:
        return Output(None, None), False
    has_buffer = isinstance(asked, Room) and asked.has_buffer
    capacity = asked.length or 0 if isinstance(asked, Room) else 0
    length = value.length if isinstance(value, Null) else len(value)
    if length > capacity or not has_buffer:
        return Output(length, None), has_buffer
    return Output(length, b"" if isinstance(value, Null) and not length else _data(value, r)), False


def _data(value: ByteString, r: Reader) -> bytes:
    if isinstance(value, Null):
        raise DecodeError(f"the length alone before byte {r.at}, where there was room for the data")
    return value


def filled(r: Reader, asked: object) -> bytes:
    """Take `ay` of C_GenerateRandom, which must be as long as it was ordered."""
    value = array(r)
    data = b"" if isinstance(value, Null) else value
    if not isinstance(asked, Fill) or len(data) != asked.length:
        raise DecodeError(f"{len(data)} random bytes are not as many as were asked for")
    return data


def put_numbers(w: Writer, value: object, *, fits: bool) -> None:
    """Append `au`: the numbers, or the count alone; see `put_output`."""
    if not isinstance(value, Numbers):
        raise wrong("Numbers", value)
    if value.data is not None and fits:
        w.present(True)
        w.numbers(value.data, MAX_NUMBERS)
        return
    if value.count is None:
        raise EncodeError("Numbers without a count")
    w.present(False)
    w.u32(min(checked(value.count, MAX_U64), NULL_MARK - 1))


def numbers(r: Reader, asked: object) -> tuple[Numbers, bool]:
    """Take `au`, and whether it is more than there was room for."""
    is_present = r.is_present()
    count = r.u32()
    data = r.numbers(count, MAX_NUMBERS) if is_present else None
    match asked:
        case ObjectsRoom(maximum):
            capacity, has_buffer = maximum, True
        case Room(length, has_buffer):
            capacity = length or 0
        case _:
            raise wrong("room for numbers", asked)
    if count > capacity or not has_buffer:
        return Numbers(count, None), has_buffer
    if data is None and count:
        raise DecodeError(f"the count alone before byte {r.at}, where there was room for the numbers")
    return Numbers(count, data or ()), False


def _put_size(w: Writer, dialect: Dialect, size: int, has_buffer: bool) -> None:
    if has_buffer and not size and dialect.has_empty_mark:
        w.u32(NULL_MARK)
    else:
        w.u32(min(size, MAX_OUTPUT) if has_buffer else 0)
