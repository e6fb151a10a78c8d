"""On which line of a TOML text a key stands: the parser of the standard library does not tell."""

import tomllib
from collections.abc import Sequence

__all__ = ["line_of"]


def line_of(text: str, path: Sequence[str]) -> int:
    """Return the number of the line, from 1, where the statement begins that first defines a key or table.

    The parser itself is asked about ever longer beginnings of the text; so every form of TOML is understood. The time is quadratic,
    which an error message may take.

    Args:
        text: A well-formed document.
        path: Keys from the root to the one sought. If it is not there, the nearest table above it that is.
    """
    while path and not _holds(tomllib.loads(text), path):
        path = path[:-1]
    if not path:
        return 1
    lines = text.splitlines(keepends=True)
    start = 0
    for end in range(1, len(lines) + 1):
        try:
            beginning = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # The cut is inside a value of several lines.
        if _holds(beginning, path):
            break
        start = end
    return start + 1


def _holds(table: object, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True
