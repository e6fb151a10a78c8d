"""The information structures (docs/p11-kit-wire.md, section 4): members in the order of the C declaration."""

from collections.abc import Callable
from dataclasses import fields
from typing import Final, NamedTuple

from keyway.cryptoki.table import Kind
from keyway.cryptoki.values import Info, MechanismInfo, ModuleInfo, SessionInfo, SlotInfo, TokenInfo, Version
from keyway.p11kit.cursor import Reader, Writer, wrong
from keyway.p11kit.errors import DecodeError

__all__ = ["LETTERS", "info", "put_info"]


class _Structure(NamedTuple):
    """A structure, its members' letters, and the widths of its texts in order."""

    type: type[Info]
    letters: str
    widths: tuple[int, ...] = ()


_STRUCTURES: Final[dict[Kind, _Structure]] = {
    Kind.INFO_OUT: _Structure(ModuleInfo, "vsusv", (32, 32)),
    Kind.SLOT_INFO_OUT: _Structure(SlotInfo, "ssuvv", (64, 32)),
    Kind.TOKEN_INFO_OUT: _Structure(TokenInfo, "ssssuuuuuuuuuuuvvs", (32, 32, 16, 16, 16)),
    Kind.SESSION_INFO_OUT: _Structure(SessionInfo, "uuuu"),
    Kind.MECHANISM_INFO_OUT: _Structure(MechanismInfo, "uuu"),
}

LETTERS: Final = {kind: structure.letters for kind, structure in _STRUCTURES.items()}
"""The letters of each structure."""


def put_info(w: Writer, kind: Kind, value: object) -> None:
    """Append a structure."""
    structure = _STRUCTURES[kind]
    if not isinstance(value, structure.type):
        raise wrong(structure.type.__name__, value)
    widths = iter(structure.widths)
    for letter, field in zip(structure.letters, fields(value), strict=True):
        member: object = getattr(value, field.name)
        if letter == "u":
            w.u64(member)
        elif letter == "v":
            if not isinstance(member, Version):
                raise wrong("a Version", member)
            w.u8(member.major)
            w.u8(member.minor)
        else:
            width = next(widths)
            if not isinstance(member, bytes) or len(member) != width:
                raise wrong(f"{width} bytes", member)
            w.data(member)


def info(r: Reader, kind: Kind) -> Info:
    """Take a structure."""
    structure = _STRUCTURES[kind]
    widths = iter(structure.widths)
    members: list[object] = []
    for letter in structure.letters:
        if letter == "u":
            members.append(r.u64())
        elif letter == "v":
            members.append(Version(r.u8(), r.u8()))
        else:
            data = r.data()
            if data is None or len(data) != next(widths):
                raise DecodeError(f"a text of another width before byte {r.at}")
            members.append(data)
    build: Callable[..., Info] = structure.type
    return build(*members)
