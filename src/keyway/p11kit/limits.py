"""What a message may hold at most. The protocol itself has no limits but the width of its lengths (docs/p11-kit-wire.md, section 2)."""

from typing import Final

from keyway.p11kit.errors import DecodeError, EncodeError

MAX_BODY: Final = 67_108_864
MAX_OPTIONS: Final = 65_536
MAX_OUTPUT: Final = MAX_BODY - 256
"""Bytes of one output; a reply with it is still within MAX_BODY."""
MAX_ATTRIBUTES: Final = 4_096
MAX_DEPTH: Final = 8
MAX_NUMBERS: Final = 1_048_576


def deeper(level: int, error: type[DecodeError] | type[EncodeError]) -> int:
    """Return the level of a template inside `level` others.

    Raises:
        DecodeError: It would be above MAX_DEPTH; `EncodeError` if that was asked for.
    """
    if level >= MAX_DEPTH:
        raise error(f"templates lie more than {MAX_DEPTH} levels deep")
    return level + 1
