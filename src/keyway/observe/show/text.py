"""Numbers, bytes and lists as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from keyway.cryptoki import CK_UNAVAILABLE_INFORMATION, Null, unpadded
from keyway.cryptoki.constants import NAMES

__all__ = [
    "LISTED",
    "Shown",
    "concealed",
    "count_of",
    "decimal",
    "flags",
    "hexadecimal",
    "listed",
    "named",
    "prefix",
    "quoted",
]

PREFIX: Final = 16
"""Bytes of a value that are shown, where any are."""
LISTED: Final = 128
"""Entries of a list that are shown."""
MAX_TEXT: Final = 64
"""Characters of a text that are shown."""


class Shown(NamedTuple):
    """One value as text.

    Attributes:
        name: Of the argument, attribute or member.
        text: The value.
        parts: What it is made of.
    """

    name: str
    text: str
    parts: tuple[Shown, ...] = ()


def hexadecimal(value: int) -> str:
    """Return a handle or a slot."""
    return f"0x{value:x}"


def decimal(value: int) -> str:
    """Return a count."""
    return "CK_UNAVAILABLE_INFORMATION" if value == CK_UNAVAILABLE_INFORMATION else str(value)


def named(group: str) -> Callable[[int], str]:
    """Return what shows the numbers of one group of the standard."""
    names = NAMES[group]
    return lambda value: names.get(value) or hexadecimal(value)


def flags(group: str) -> Callable[[int], str]:
    """Return what shows the bits of one group of the standard."""
    names = NAMES[group]

    def show(value: int) -> str:
        known = [(bit, name) for bit, name in names.items() if value & bit == bit]
        rest = value & ~sum(bit for bit, _ in known)
        texts = [name for _, name in known] + ([hexadecimal(rest)] if rest else [])
        return " | ".join(texts) or "0"

    return show


def listed(numbers: Sequence[int], show: Callable[[int], str]) -> str:
    """Return a list of numbers, cut where it gets long."""
    texts = [show(number) for number in numbers[:LISTED]]
    more = [f"and {len(numbers) - LISTED} more"] if len(numbers) > LISTED else []
    return ", ".join(texts + more) or "none"


def count_of(count: int, unit: str = "byte") -> str:
    """Return a number of things."""
    return f"1 {unit}" if count == 1 else f"{count} {unit}s"


def concealed(value: bytes | Null | None) -> str:
    """Return the length of bytes that may be secret."""
    match value:
        case bytes():
            return count_of(len(value))
        case Null(0) | None:
            return "NULL"
        case Null(length):
            return f"NULL with length {length}"


def prefix(value: bytes) -> str:
    """Return the length and the first bytes of a value that is no secret."""
    more = "..." if len(value) > PREFIX else ""
    return f"{count_of(len(value))}: {value[:PREFIX].hex()}{more}" if value else count_of(0)


def quoted(value: bytes) -> str:
    """Return a text that is no secret, without what could do harm on a terminal."""
    return json.dumps(unpadded(value)[:MAX_TEXT])
