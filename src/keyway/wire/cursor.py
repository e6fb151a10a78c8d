"""Reading and writing the elements that everything else is made of."""

from struct import Struct
from typing import Final

from keyway.cryptoki.values import Opaque
from keyway.wire.errors import EncodeError, WireError

NULL_MARK: Final = 0xFFFF_FFFF
"""Marks NULL where a u32 length or count is expected."""

_U16 = Struct(">H")
_U32 = Struct(">I")
_U64 = Struct(">Q")

MAX_U64: Final = 0xFFFF_FFFF_FFFF_FFFF


class Reader:
    """Takes values from the front of a body.

    Every method raises `WireError` if the body ends too early or holds something that may not stand there, and nothing else.
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

    def take(self, length: int) -> bytes:
        """Take so many bytes."""
        start = self._advance(length)
        return Opaque(self._body[start : self._at])

    def u8(self) -> int:
        """Take a u8."""
        return self._body[self._advance(1)]

    def u16(self) -> int:
        """Take a u16."""
        value: int = _U16.unpack_from(self._body, self._advance(2))[0]
        return value

    def u32(self) -> int:
        """Take a u32."""
        value: int = _U32.unpack_from(self._body, self._advance(4))[0]
        return value

    def u64(self) -> int:
        """Take a u64."""
        value: int = _U64.unpack_from(self._body, self._advance(8))[0]
        return value

    def numbers(self, count: int) -> tuple[int, ...]:
        """Take so many u64; the caller has checked the count against its limit."""
        start = self._advance(8 * count)
        return Struct(f">{count}Q").unpack_from(self._body, start)

    def is_present(self) -> bool:
        """Take a u8 that says whether something is there."""
        tag = self.u8()
        if tag > 1:
            raise self.unknown(tag)
        return tag == 1

    def bits(self) -> tuple[bool, bool]:
        """Take a u8 with two presence bits."""
        tag = self.u8()
        if tag > 3:
            raise self.unknown(tag)
        return bool(tag & 1), bool(tag & 2)

    def count(self, count: int, limit: int) -> int:
        """Check a count of entries that was just taken."""
        if count > limit:
            raise WireError(f"{count} entries before byte {self._at} are above the limit of {limit}")
        return count

    def unknown(self, tag: int) -> WireError:
        """The error for a tag that was just taken and means nothing."""
        return WireError(f"tag {tag} at byte {self._at - 1} has no meaning there")

    def finish(self) -> None:
        """Check that nothing is left."""
        if self._at != self._end:
            raise WireError(f"{self._end - self._at} bytes are left over after byte {self._at}")

    def _advance(self, length: int) -> int:
        start = self._at
        if self._end - start < length:
            raise WireError(f"the body ends before the {length} bytes at byte {start}")
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

    def u16(self, value: object) -> None:
        """Append a u16."""
        self.body += _U16.pack(checked(value, 0xFFFF))

    def u32(self, value: object) -> None:
        """Append a u32."""
        self.body += _U32.pack(checked(value, 0xFFFF_FFFF))

    def u64(self, value: object) -> None:
        """Append a u64."""
        self.body += _U64.pack(checked(value, MAX_U64))

    def numbers(self, values: tuple[object, ...]) -> None:
        """Append numbers without a count."""
        for value in values:
            self.u64(value)

    def present(self, flag: bool) -> None:
        """Append a u8 that says whether something is there."""
        self.body.append(flag)

    def bits(self, first: bool, second: bool) -> None:
        """Append a u8 with two presence bits."""
        self.body.append(first | second << 1)

    def count(self, count: int, limit: int) -> None:
        """Append a count of entries."""
        if count > limit:
            raise EncodeError(f"{count} entries are above the limit of {limit}")
        self.u32(count)


def checked(value: object, maximum: int) -> int:
    """Return a number that is within a width.

    A bool is refused: as an attribute's value it would travel as a CK_ULONG where a CK_BBOOL is meant.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise EncodeError(f"a number is expected, not {type(value).__name__}")
    if not 0 <= value <= maximum:
        raise EncodeError(f"a number is not between 0 and {maximum}")
    return value


def wrong(expected: str, value: object) -> EncodeError:
    """The error for a value of another type than its kind asks for; tells the type, never the value."""
    return EncodeError(f"{expected} is expected, not {type(value).__name__}")
