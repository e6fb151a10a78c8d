"""The frame header and the limits (docs/wire.md, section 2).

A relay that looks at every frame uses `HEADER.unpack_from` and the `OFFSET_*` constants directly; `Header` is the same thing with
names for everybody else.
"""

from struct import Struct
from typing import Final, NamedTuple

from keyway.wire.errors import WireError

VERSION: Final = 1
"""The version of the wire that this package speaks."""
VERSION_BASE: Final = 0x80
"""What is added to a version to make the byte that opens a connection."""
VERSION_BYTE: Final = VERSION_BASE + VERSION

MAX_BODY: Final = 67_108_864
MAX_OUTPUT: Final = 67_108_864
MAX_ATTRIBUTES: Final = 4_096
MAX_DEPTH: Final = 8
MAX_HANDLES: Final = 1_048_576

FIRST_CONTROL_CALL: Final = 0x4000
"""Call numbers from here on are control calls between Keyway's own parts."""

HEADER: Final = Struct(">IHHQQQ")
"""Body length, call, flags, id, target, object (RV in replies)."""
HEADER_SIZE: Final = HEADER.size

OFFSET_LENGTH: Final = 0
OFFSET_CALL: Final = 4
OFFSET_FLAGS: Final = 6
OFFSET_ID: Final = 8
OFFSET_TARGET: Final = 16
OFFSET_OBJECT: Final = 24


class Flags:
    """Bits of the header's flags. Plain integers: an enum would cost more than the frame."""

    REPLY: Final = 0x0001
    FUSED: Final = 0x0002
    INIT: Final = 0x0004
    POSTED: Final = 0x0008
    RENEWABLE: Final = 0x0010
    SHARED: Final = 0x0020

    REQUEST_MASK: Final = FUSED | POSTED
    """The bits that a request may carry; others are refused with CKR_ARGUMENTS_BAD."""


class Header(NamedTuple):
    """A frame header.

    Attributes:
        length: Bytes of body that follow.
        call: Call number.
        flags: Bits of `Flags`.
        id: Request id, not 0.
        target: Session handle, slot ID or 0.
        object: First object handle of a request, or 0. In a reply, the RV.
    """

    length: int
    call: int
    flags: int
    id: int
    target: int
    object: int

    @property
    def rv(self) -> int:
        """The CK_RV of a reply."""
        return self.object

    @property
    def is_reply(self) -> bool:
        """Whether this frame answers a request."""
        return bool(self.flags & Flags.REPLY)

    def pack(self) -> bytes:
        """Return the 32 bytes of the header."""
        return HEADER.pack(*self)

    @classmethod
    def unpack_from(cls, buffer: bytes | bytearray | memoryview, offset: int = 0, limit: int = MAX_BODY) -> "Header":
        """Read the header at an offset, where at least `HEADER_SIZE` bytes must be.

        Args:
            buffer: Received bytes.
            offset: Where the header starts.
            limit: The receiver's limit on the body, in bytes.

        Raises:
            WireError: Too few bytes, or the body is longer than the limit. The stream can't be followed any more.
        """
        if len(buffer) - offset < HEADER_SIZE:
            raise WireError("the header is cut short")
        header = cls._make(HEADER.unpack_from(buffer, offset))
        if header.length > limit:
            raise WireError(f"a body of {header.length} bytes is above the limit of {limit}")
        return header

    @classmethod
    def unpack(cls, data: bytes) -> "Header":
        """Read a header that starts at the first byte; see `unpack_from`."""
        return cls.unpack_from(data)

    def reply(self, rv: int, length: int = 0, flags: int = 0) -> "Header":
        """Return the header of the answer to this request.

        Args:
            rv: The CK_RV.
            length: Bytes of body that will follow.
            flags: Bits besides REPLY.
        """
        return Header(length, self.call, flags | Flags.REPLY, self.id, self.target, rv)


def chosen_version(offered: int) -> int:
    """Return the version byte that a server answers to a client's opening byte.

    Raises:
        WireError: The byte opens another protocol.
    """
    if not VERSION_BASE < offered <= 0xFF:
        raise WireError("the peer does not speak this protocol")
    return min(offered, VERSION_BYTE)
