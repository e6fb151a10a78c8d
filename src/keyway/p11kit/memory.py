"""The C memory of parameters without pointers, which the protocol carries as plain bytes.

Native values have such a parameter taken apart, since numbers have another width elsewhere; a mechanism that p11-kit does not know
carries the sender's memory: a CK_ULONG of 8 bytes.
"""

from typing import Final, Literal

from keyway.cryptoki._generated import PARAMETER_SHAPES, SHAPES
from keyway.cryptoki.constants import RV
from keyway.cryptoki.table import Member, MemberKind
from keyway.cryptoki.values import MemberValue, Opaque, Structured
from keyway.p11kit.cursor import MAX_U64, checked, wrong
from keyway.p11kit.errors import DecodeError, NotCarried

__all__ = ["has_pointers", "structured", "to_memory"]

_NUMBER: Final = frozenset({MemberKind.ULONG, MemberKind.OBJECT})
_WIDTH: Final = 8


def _size(member: Member) -> int | None:
    if member.kind in _NUMBER:
        return _WIDTH
    if member.kind is MemberKind.BYTE:
        return 1
    return member.count if member.kind is MemberKind.BYTES else None


def _layout(shape: int) -> tuple[tuple[int, int], ...] | None:
    """Offset and size of each member, then the end; None if there is a pointer in it."""
    at = 0
    alignment = 1
    places: list[tuple[int, int]] = []
    for member in SHAPES[shape].members:
        size = _size(member)
        if size is None:
            return None
        if member.kind in _NUMBER:
            alignment = _WIDTH
            at += -at % _WIDTH
        places.append((at, size))
        at += size
    at += -at % alignment
    return (*places, (at, 0))


_LAYOUTS: Final = {shape: layout for shape in SHAPES if (layout := _layout(shape)) is not None}


def has_pointers(mechanism: int) -> bool:
    """Whether a parameter of a mechanism may hold pointers."""
    return any(shape not in _LAYOUTS for shape in PARAMETER_SHAPES.get(mechanism, ()))


def structured(mechanism: int, memory: bytes, order: Literal["little", "big"]) -> Structured | bytes:
    """Return the parameter that a peer's memory holds.

    Raises:
        DecodeError: The mechanism has a parameter with pointers. Nobody may choose a pointer for somebody else's process.
    """
    for shape in PARAMETER_SHAPES.get(mechanism, ()):
        layout = _LAYOUTS.get(shape)
        if layout is not None and layout[-1][0] == len(memory):
            return Structured(shape, tuple(_values(shape, layout, memory, order)))
    if memory and has_pointers(mechanism):
        raise DecodeError("the parameter of this mechanism holds pointers", RV.CKR_MECHANISM_PARAM_INVALID)
    return memory


def to_memory(parameter: Structured, order: Literal["little", "big"]) -> bytes:
    """Return a structure as the peer's memory holds it.

    Raises:
        NotCarried: It holds pointers.
        EncodeError: The members do not fit the shape.
    """
    layout = _LAYOUTS.get(parameter.shape)
    if layout is None:
        raise NotCarried(RV.CKR_MECHANISM_PARAM_INVALID, "the parameter holds pointers")
    members = SHAPES[parameter.shape].members
    if len(parameter.members) != len(members):
        raise wrong(f"{len(members)} members of shape {parameter.shape}", parameter)
    memory = bytearray(layout[-1][0])
    for (at, size), member, value in zip(layout, members, parameter.members, strict=False):
        memory[at : at + size] = _bytes(member, size, value, order)
    return Opaque(memory)


def _values(
    shape: int, layout: tuple[tuple[int, int], ...], memory: bytes, order: Literal["little", "big"]
) -> list[MemberValue]:
    values: list[MemberValue] = []
    for (at, size), member in zip(layout, SHAPES[shape].members, strict=False):
        part = memory[at : at + size]
        values.append(Opaque(part) if member.kind is MemberKind.BYTES else int.from_bytes(part, order))
    return values


def _bytes(member: Member, size: int, value: object, order: Literal["little", "big"]) -> bytes:
    if member.kind is not MemberKind.BYTES:
        return checked(value, MAX_U64 if size == _WIDTH else 0xFF).to_bytes(size, order)
    if not isinstance(value, bytes) or len(value) != size:
        raise wrong(f"{size} bytes", value)
    return value
