"""Bodies that lie in shared memory: what travels in their place (docs/wire.md, section 11)."""

from struct import Struct
from typing import Final

from keyway.wire.errors import WireError
from keyway.wire.header import Flags

__all__ = ["lent", "place_of", "returned"]

_LENT: Final = Struct(">III")
_RETURNED: Final = Struct(">I")


def lent(offset: int, length: int, room: int) -> bytes:
    """Return what travels instead of a request's body.

    Args:
        offset: Where the body is, in bytes from the beginning of the segment.
        length: Its length in bytes.
        room: Bytes that the reply's body may have there.
    """
    return _LENT.pack(offset, length, room)


def place_of(body: bytes) -> tuple[int, int]:
    """Return offset and length of a request's body, as `lent` told them.

    Args:
        body: What travels in its place.

    Raises:
        WireError: It tells of no place.
    """
    if len(body) != _LENT.size:
        raise WireError(f"{len(body)} bytes tell of a body in shared memory")
    offset, length, _ = _LENT.unpack(body)
    return offset, length


def returned(body: bytes, flags: int, room: int) -> int | None:
    """Return the length of a reply's body that is where the request's body was; None if it is not there.

    Args:
        body: What came as the reply's body.
        flags: Flags of the reply.
        room: Bytes that it may have.

    Raises:
        WireError: It can't be there.
    """
    if not flags & Flags.SHARED:
        return None
    if len(body) != _RETURNED.size:
        raise WireError(f"{len(body)} bytes tell of a body in shared memory")
    length: int = _RETURNED.unpack(body)[0]
    if length > room:
        raise WireError(f"a body of {length} bytes in a part of {room}")
    return length
