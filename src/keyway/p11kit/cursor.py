"""Reading and writing the elements that everything else is made of."""

from struct import Struct
from typing import Final

from keyway.cryptoki.values import Opaque
from keyway.p11kit.errors import DecodeError, EncodeError

__all__ = ["MAX_U32", "MAX_U64", "NULL_MARK", "Reader", "Writer", "checked", "wrong"]

NULL_MARK: Final = 0xFFFF_FFFF
"""Marks NULL where a u32 length is expected."""
MAX_DATA: Final = 0x7FFF_FFFE
"""Other lengths from here on have no meaning."""
MAX_U32: Final = 0xFFFF_FFFF
MAX_U64: Final = 0xFFFF_FFFF_FFFF_FFFF

_U32 = Struct(">I")
_U64 = Struct(">Q")


class Reader:
    """Takes values from the front of a body.

    Every method raises `DecodeError` if the body ends too early or holds something that may not stand there, and nothing else.
    """

    __slots__ = ("_at", "_body", "_end")

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        self._body = memoryview(body)
        self._at = 0
        self._end = len(self._body)

    @property
    def at(self) -> int:
        """How many bytes were taken."""
        return self._at

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self._end - self._at

    def seek(self, at: int) -> None:
        """Go back to a position that `at` told."""
        self._at = at

    def take(self, length: int) -> bytes:
        """Take so many bytes."""
        start = self._advance(length)
        return Opaque(self._body[start : self._at])

    def u8(self) -> int:
        """Take a u8."""
        return self._body[self._advance(1)]

    def u32(self) -> int:
        """Take a u32."""
        value: int = _U32.unpack_from(self._body, self._advance(4))[0]
        return value

    def u64(self) -> int:
        """Take a u64."""
        value: int = _U64.unpack_from(self._body, self._advance(8))[0]
        return value

    def numbers(self, count: int, limit: int) -> tuple[int, ...]:
        """Take so many u64, which must not be more than `limit`."""
        start = self._advance(8 * self.count(count, limit))
        return Struct(f">{count}Q").unpack_from(self._body, start)

    def is_present(self) -> bool:
        """Take a u8 that says whether something is there."""
        tag = self.u8()
        if tag > 1:
            raise DecodeError(f"tag {tag} at byte {self._at - 1} has no meaning there")
        return tag == 1

    def data(self) -> bytes | None:
        """Take bytes behind their u32 length; None for a NULL pointer."""
        length = self.u32()
        if length == NULL_MARK:
            return None
        if length > MAX_DATA:
            raise DecodeError(f"the length before byte {self._at} has no meaning")
        return self.take(length)

    def count(self, count: int, limit: int) -> int:
        """Check a count of entries that was just taken."""
        if count > limit:
            raise DecodeError(f"{count} entries before byte {self._at} are above the limit of {limit}")
        return count

    def _advance(self, length: int) -> int:
        start = self._at
        if self._end - start < length:
            raise DecodeError(f"the body ends before the {length} bytes at byte {start}")
        self._at = start + length
        return start


class Writer:
    """Appends values to a body.

    Every method raises `EncodeError` if a value is not of the type or the width that it must have, and nothing else.
    """

    __slots__ = ("body",)

    def __init__(self) -> None:
        self.body = bytearray()

    def put(self, data: bytes) -> None:
        """Append bytes as they are."""
        self.body += data

    def u8(self, value: object) -> None:
        """Append a u8."""
        self.body.append(checked(value, 0xFF))

    def u32(self, value: object) -> None:
        """Append a u32."""
        self.body += _U32.pack(checked(value, MAX_U32))

    def u64(self, value: object) -> None:
        """Append a u64."""
        self.body += _U64.pack(checked(value, MAX_U64))

    def present(self, flag: bool) -> None:
        """Append a u8 that says whether something is there."""
        self.body.append(flag)

    def data(self, data: object) -> None:
        """Append bytes behind their u32 length; None for a NULL pointer."""
        if data is None:
            self.u32(NULL_MARK)
            return
        if not isinstance(data, bytes):
            raise wrong("bytes", data)
        if len(data) > MAX_DATA:
            raise EncodeError(f"{len(data)} bytes are above the limit of {MAX_DATA}")
        self.u32(len(data))
        self.put(data)

    def numbers(self, numbers: tuple[int, ...], limit: int) -> None:
        """Append a u32 count and the numbers."""
        self.count(len(numbers), limit)
        for number in numbers:
            self.u64(number)

    def count(self, count: int, limit: int) -> None:
        """Append a count of entries."""
        if count > limit:
            raise EncodeError(f"{count} entries are above the limit of {limit}")
        self.u32(count)


def checked(value: object, maximum: int) -> int:
    """Return a number that is within a width. A bool is refused: where a number is expected it is a mistake."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise EncodeError(f"a number is expected, not {type(value).__name__}")
    if not 0 <= value <= maximum:
        raise EncodeError(f"a number is not between 0 and {maximum}")
    return value


def wrong(expected: str, value: object) -> EncodeError:
    """The error for a value of another type than its kind asks for; tells the type, never the value."""
    return EncodeError(f"{expected} is expected, not {type(value).__name__}")
