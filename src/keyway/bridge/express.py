"""What the short ways of both halves share (docs/p11-kit-wire.md, section 8).

A call that comes often, in its usual form, goes without typed values: a *way* looks at lengths and tags, and moves the bytes between them
in one slice. It returns None for whatever is not exactly in that form; then the values decide, which stay the only judge of what is
malformed. What a way returns is byte by byte what the values give.
"""

from struct import Struct
from typing import Final

from keyway.p11kit import Dialect
from keyway.wire.header import HEADER

__all__ = [
    "BITS_U64",
    "FRAME",
    "LENGTH_ALONE",
    "NULL_MARK",
    "PACK",
    "U32",
    "U64",
    "UNCHANGED",
    "WITH_BUFFER",
    "bare_mechanisms",
    "is_format_a",
    "start",
]

PACK: Final = HEADER.pack
"""Packs the header of a native frame."""
FRAME: Final = Struct(">III").pack
"""Packs the header of a message's frame: code, length of the options, length of the body."""
U32: Final = Struct(">I")
U64: Final = Struct(">Q")
BITS_U64: Final = Struct(">BQ")
"""The *room* of the native wire, and the start of a *result*."""

NULL_MARK: Final = 0xFFFF_FFFF
LENGTH_ALONE: Final = 1
"""Bits of a *room* and a *result*: there is a length, and no buffer or no data."""
WITH_BUFFER: Final = 3
"""There are both."""
UNCHANGED: Final = 3
"""The native *parameter* of a mechanism that came back as it was."""


def start(id_: int, letters: str) -> bytes:
    """Return how a message begins."""
    return U32.pack(id_) + U32.pack(len(letters)) + letters.encode()


def is_format_a(dialect: Dialect) -> bool:
    """Whether the peer writes mechanisms in format A."""
    return dialect.readings[0].startswith("A")


def bare_mechanisms(dialect: Dialect) -> dict[int, bytes]:
    """Return the native form of each mechanism that has no parameter in a dialect."""
    return {type_: b"\1" + U64.pack(type_) + bytes(9) for type_ in dialect.bare}
