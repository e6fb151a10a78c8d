"""Strings, cells, output buffers and arrays (docs/wire.md, section 4)."""

from keyway.cryptoki.values import ByteString, Fill, Null, Numbers, ObjectsRoom, Output, Room
from keyway.wire.cursor import NULL_MARK, Reader, Writer, wrong
from keyway.wire.errors import EncodeError
from keyway.wire.header import MAX_BODY, MAX_HANDLES


def put_data(w: Writer, data: object) -> None:
    """Append a u32 length and the bytes."""
    if not isinstance(data, bytes):
        raise wrong("bytes", data)
    w.count(len(data), MAX_BODY)
    w.put(data)


def data(r: Reader) -> bytes:
    """Take the bytes behind their u32 length."""
    return r.take(r.u32())


def put_string(w: Writer, value: object) -> None:
    """Append a *string*."""
    if isinstance(value, Null):
        w.u32(NULL_MARK)
        w.u64(value.length)
    else:
        put_data(w, value)


def string(r: Reader) -> ByteString:
    """Take a *string*."""
    length = r.u32()
    return Null(r.u64()) if length == NULL_MARK else r.take(length)


def put_fixed(w: Writer, value: object, length: int) -> None:
    """Append bytes of a fixed length."""
    if not isinstance(value, bytes):
        raise wrong("bytes", value)
    if len(value) != length:
        raise EncodeError(f"{length} bytes are expected, not {len(value)}")
    w.put(value)


def put_cell(w: Writer, value: object) -> None:
    """Append a *cell*."""
    w.present(value is not None)
    if value is not None:
        w.u64(value)


def cell(r: Reader) -> int | None:
    """Take a *cell*."""
    return r.u64() if r.is_present() else None


def put_pointer(w: Writer, value: object) -> None:
    """Append whether a pointer is not NULL."""
    if not isinstance(value, bool):
        raise wrong("a bool", value)
    w.present(value)


def put_room(w: Writer, value: object) -> None:
    """Append a *room*."""
    if not isinstance(value, Room):
        raise wrong("a Room", value)
    w.bits(value.length is not None, value.has_buffer)
    if value.length is not None:
        w.u64(value.length)


def room(r: Reader) -> Room:
    """Take a *room*."""
    has_length, has_buffer = r.bits()
    return Room(r.u64() if has_length else None, has_buffer)


def put_objects_room(w: Writer, value: object) -> None:
    """Append the *room* of `objects_out`."""
    if not isinstance(value, ObjectsRoom):
        raise wrong("an ObjectsRoom", value)
    w.bits(value.has_count, value.has_buffer)
    w.u64(value.maximum)


def objects_room(r: Reader) -> ObjectsRoom:
    """Take the *room* of `objects_out`."""
    has_count, has_buffer = r.bits()
    return ObjectsRoom(r.u64(), has_count, has_buffer)


def put_fill(w: Writer, value: object) -> None:
    """Append the request of `fill`."""
    if not isinstance(value, Fill):
        raise wrong("a Fill", value)
    w.present(value.has_buffer)
    w.u64(value.length)


def fill(r: Reader) -> Fill:
    """Take the request of `fill`."""
    return Fill(r.is_present(), r.u64())


def put_output(w: Writer, value: object) -> None:
    """Append a *result*."""
    if not isinstance(value, Output):
        raise wrong("an Output", value)
    w.bits(value.length is not None, value.data is not None)
    if value.length is not None:
        w.u64(value.length)
    if value.data is not None:
        put_data(w, value.data)


def output(r: Reader) -> Output:
    """Take a *result*."""
    has_length, has_data = r.bits()
    return Output(r.u64() if has_length else None, data(r) if has_data else None)


def put_array(w: Writer, numbers: tuple[int, ...]) -> None:
    """Append a u32 count and the numbers."""
    w.count(len(numbers), MAX_HANDLES)
    w.numbers(numbers)


def array(r: Reader) -> tuple[int, ...]:
    """Take the numbers behind their u32 count."""
    return r.numbers(r.count(r.u32(), MAX_HANDLES))


def put_numbers(w: Writer, value: object) -> None:
    """Append *numbers*."""
    if not isinstance(value, Numbers):
        raise wrong("Numbers", value)
    w.bits(value.count is not None, value.data is not None)
    if value.count is not None:
        w.u64(value.count)
    if value.data is not None:
        put_array(w, value.data)


def numbers(r: Reader) -> Numbers:
    """Take *numbers*."""
    has_count, has_data = r.bits()
    return Numbers(r.u64() if has_count else None, array(r) if has_data else None)
