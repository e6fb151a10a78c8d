"""Mechanisms as text. Bytes in a parameter may be a password, a salt, a derived key: their length is all that is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from keyway.cryptoki import SHAPES, Mechanism, MemberKind, Null, Parameter, Structured, Unchanged, mechanism_name
from keyway.cryptoki.table import Member
from keyway.observe.show.attributes import attributes
from keyway.observe.show.text import LISTED, Shown, concealed, count_of, decimal, hexadecimal, named

__all__ = ["mechanism", "parameter"]

_MEMBER_NUMBERS: Final[dict[str, Callable[[int], str]]] = {
    "DigestMechanism": mechanism_name,
    "aeadMechanism": mechanism_name,
    "hash": mechanism_name,
    "hashAlg": mechanism_name,
    "kdf": named("kdf"),
    "kdfMechanism": mechanism_name,
    "mgf": named("mgf"),
    "prfHashMechanism": mechanism_name,
    "prfMechanism": mechanism_name,
    "prfType": mechanism_name,
}


def mechanism(name: str, value: Mechanism | None) -> Shown:
    """Show a mechanism."""
    if value is None:
        return Shown(name, "NULL")
    about = parameter(name, value.parameter)
    text = mechanism_name(value.type)
    return Shown(name, text if value.parameter == Null() else f"{text}, {about.text}", about.parts)


def parameter(name: str, value: Parameter) -> Shown:
    """Show a mechanism's parameter."""
    if isinstance(value, Structured):
        shape = SHAPES[value.shape]
        return Shown(name, shape.name, tuple(_members(shape.id, value.members)))
    return Shown(name, "unchanged" if isinstance(value, Unchanged) else concealed(value))


def _members(shape: int, values: Iterable[Any]) -> Iterator[Shown]:
    travelling = [member for member in SHAPES[shape].members if member.kind is not MemberKind.LENGTH]
    for member, value in zip(travelling, values, strict=True):
        yield _member(member, value)


def _member(member: Member, value: Any) -> Shown:
    name = member.name
    match member.kind:
        case MemberKind.OBJECT | MemberKind.OBJECT_CELL | MemberKind.CELL if value is not None:
            return Shown(name, (decimal if member.kind is MemberKind.CELL else hexadecimal)(value))
        case MemberKind.ULONG | MemberKind.BYTE:
            return Shown(name, _MEMBER_NUMBERS.get(name, decimal)(value))
        case MemberKind.STRUCT | MemberKind.POINTER if value is not None:
            return Shown(name, SHAPES[member.shape].name, tuple(_members(member.shape, value)))
        case MemberKind.ARRAY if isinstance(value, tuple):
            each = SHAPES[member.shape].name
            parts = (Shown(str(at), each, tuple(_members(member.shape, one))) for at, one in enumerate(value[:LISTED]))
            return Shown(name, count_of(len(value), "structure"), tuple(parts))
        case MemberKind.TEMPLATE:
            return attributes(name, value, shows_bytes=False)
        case MemberKind.MECHANISM:
            return mechanism(name, value)
        case MemberKind.CHOICE:
            return parameter(name, value)
        case MemberKind.VERSION if value is not None:
            return Shown(name, str(value))
        case MemberKind.ULONGS:
            return Shown(name, count_of(len(value), "number"))
        case _:
            return Shown(name, concealed(value))
