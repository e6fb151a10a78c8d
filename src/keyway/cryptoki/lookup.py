"""Rows of the call table by number and by name."""

from typing import Final

from keyway.cryptoki._generated import CALLS
from keyway.cryptoki.table import Call

_BY_NAME: Final = {call.name: call for call in CALLS}


def call_numbered(number: int) -> Call | None:
    """Return the row of the call with a number; None for control calls and unknown ones."""
    return CALLS[number - 1] if 0 < number <= len(CALLS) else None


def call_named(name: str) -> Call:
    """Return the row of a function.

    Raises:
        KeyError: The standard has no such function.
    """
    return _BY_NAME[name]
