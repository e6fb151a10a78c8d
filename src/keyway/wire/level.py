"""How deep values may lie within one another (docs/wire.md, section 2, "Levels")."""

from keyway.wire.errors import EncodeError, WireError
from keyway.wire.header import MAX_DEPTH


def deeper(level: int, error: type[WireError] | type[EncodeError] = WireError) -> int:
    """Return the level of a template or of members inside `level` others.

    Raises:
        WireError: It would be above MAX_DEPTH; `EncodeError` if that was asked for.
    """
    if level >= MAX_DEPTH:
        raise error(f"templates and structures lie more than {MAX_DEPTH} levels deep")
    return level + 1
