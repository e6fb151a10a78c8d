"""The information structures (docs/wire.md, section 4): members in the order of the C declaration."""

from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from keyway.cryptoki.table import Kind
from keyway.cryptoki.values import Info, MechanismInfo, ModuleInfo, SessionInfo, SlotInfo, TokenInfo, Version
from keyway.wire.basic import put_fixed
from keyway.wire.cursor import Reader, Writer, wrong


class _Structure(NamedTuple):
    """A structure and its members: a name and 0 for a CK_ULONG, 2 for a CK_VERSION, a width in bytes for a text."""

    type: type[Info]
    members: tuple[tuple[str, int], ...]


_ULONG: Final = 0
_VERSION: Final = 2

_STRUCTURES: Final[dict[Kind, _Structure]] = {
    Kind.INFO_OUT: _Structure(
        ModuleInfo,
        (
            ("cryptoki_version", _VERSION),
            ("manufacturer_id", 32),
            ("flags", _ULONG),
            ("library_description", 32),
            ("library_version", _VERSION),
        ),
    ),
    Kind.SLOT_INFO_OUT: _Structure(
        SlotInfo,
        (
            ("slot_description", 64),
            ("manufacturer_id", 32),
            ("flags", _ULONG),
            ("hardware_version", _VERSION),
            ("firmware_version", _VERSION),
        ),
    ),
    Kind.TOKEN_INFO_OUT: _Structure(
        TokenInfo,
        (
            ("label", 32),
            ("manufacturer_id", 32),
            ("model", 16),
            ("serial_number", 16),
            ("flags", _ULONG),
            ("max_session_count", _ULONG),
            ("session_count", _ULONG),
            ("max_rw_session_count", _ULONG),
            ("rw_session_count", _ULONG),
            ("max_pin_len", _ULONG),
            ("min_pin_len", _ULONG),
            ("total_public_memory", _ULONG),
            ("free_public_memory", _ULONG),
            ("total_private_memory", _ULONG),
            ("free_private_memory", _ULONG),
            ("hardware_version", _VERSION),
            ("firmware_version", _VERSION),
            ("utc_time", 16),
        ),
    ),
    Kind.SESSION_INFO_OUT: _Structure(
        SessionInfo, (("slot", _ULONG), ("state", _ULONG), ("flags", _ULONG), ("device_error", _ULONG))
    ),
    Kind.MECHANISM_INFO_OUT: _Structure(
        MechanismInfo, (("min_key_size", _ULONG), ("max_key_size", _ULONG), ("flags", _ULONG))
    ),
}


def _layout(structure: _Structure) -> Struct:
    letters = {_ULONG: "Q", _VERSION: "BB"}
    return Struct(">" + "".join(letters.get(width, f"{width}s") for _, width in structure.members))


_LAYOUTS: Final = {kind: _layout(structure) for kind, structure in _STRUCTURES.items()}


def put_info(w: Writer, kind: Kind, value: object) -> None:
    """Append the reply value of a structure: a u8 and, if it is there, its members."""
    structure = _STRUCTURES[kind]
    w.present(value is not None)
    if value is None:
        return
    if not isinstance(value, structure.type):
        raise wrong(structure.type.__name__, value)
    for name, width in structure.members:
        member: object = getattr(value, name)
        if width == _ULONG:
            w.u64(member)
        elif width != _VERSION:
            put_fixed(w, member, width)
        elif isinstance(member, Version):
            w.u8(member.major)
            w.u8(member.minor)
        else:
            raise wrong("a Version", member)


def info(r: Reader, kind: Kind) -> Info | None:
    """Take the reply value of a structure."""
    if not r.is_present():
        return None
    layout = _LAYOUTS[kind]
    parts = iter(layout.unpack(r.take(layout.size)))
    structure = _STRUCTURES[kind]
    members = [
        Version(next(parts), next(parts)) if width == _VERSION else next(parts) for _, width in structure.members
    ]
    build: Callable[..., Info] = structure.type
    return build(*members)
