"""Mechanisms and their parameters (docs/wire.md, section 4.1)."""

from collections.abc import Mapping
from typing import Final

from keyway.cryptoki._generated import SHAPES
from keyway.cryptoki.table import Member, MemberKind
from keyway.cryptoki.values import Mechanism, MemberValue, Null, Parameter, Structured, Unchanged, Version
from keyway.wire.basic import cell, data, put_cell, put_data, put_fixed, put_string, string
from keyway.wire.cursor import NULL_MARK, Reader, Writer, wrong
from keyway.wire.errors import EncodeError, WireError
from keyway.wire.header import MAX_ATTRIBUTES
from keyway.wire.level import deeper
from keyway.wire.template import Form, put_template, template

TRAVELLING: Final[Mapping[int, tuple[Member, ...]]] = {
    number: tuple(member for member in shape.members if member.kind is not MemberKind.LENGTH)
    for number, shape in SHAPES.items()
}
"""The members of each shape that have a value on the wire."""

# In all functions: `reply` says whether this is a reply, where alone a parameter may be `Unchanged`; `level` is the number of levels around.


def put_mechanism(w: Writer, value: object, *, reply: bool, level: int = 0) -> None:
    """Append a `Mechanism`, or None for a NULL pointer."""
    w.present(value is not None)
    if isinstance(value, Mechanism):
        w.u64(value.type)
        put_parameter(w, value.parameter, reply=reply, level=level)
    elif value is not None:
        raise wrong("a Mechanism", value)


def mechanism(r: Reader, *, reply: bool, level: int = 0) -> Mechanism | None:
    """Take a mechanism."""
    return Mechanism(r.u64(), parameter(r, reply=reply, level=level)) if r.is_present() else None


def put_parameter(w: Writer, value: object, *, reply: bool, level: int = 0) -> None:
    """Append a *parameter*."""
    match value:
        case Null(length):
            w.u8(0)
            w.u64(length)
        case bytes():
            w.u8(1)
            put_data(w, value)
        case Structured(shape, values):
            w.u8(2)
            w.u16(shape)
            _put_members(w, shape, values, reply=reply, level=level)
        case Unchanged() if reply:
            w.u8(3)
        case _:
            raise wrong("a mechanism parameter", value)


def parameter(r: Reader, *, reply: bool, level: int = 0) -> Parameter:
    """Take a *parameter*."""
    match r.u8():
        case 0:
            return Null(r.u64())
        case 1:
            return data(r)
        case 2:
            shape = r.u16()
            return Structured(shape, _members(r, shape, reply=reply, level=level))
        case 3 if reply:
            return Unchanged()
        case tag:
            raise r.unknown(tag)


def _put_members(w: Writer, shape: int, values: object, *, reply: bool, level: int) -> None:
    members = TRAVELLING.get(shape)
    if members is None:
        raise EncodeError(f"there is no shape {shape}")
    if not isinstance(values, tuple) or len(values) != len(members):
        raise wrong(f"a tuple of {len(members)} members of shape {shape}", values)
    level = deeper(level, EncodeError)
    for member, value in zip(members, values, strict=True):
        _put_member(w, member, value, reply=reply, level=level)


def _members(r: Reader, shape: int, *, reply: bool, level: int) -> tuple[MemberValue, ...]:
    members = TRAVELLING.get(shape)
    if members is None:
        raise WireError(f"shape {shape} before byte {r.at} is unknown")
    level = deeper(level)
    return tuple([_member(r, member, reply=reply, level=level) for member in members])


def _put_member(w: Writer, member: Member, value: object, *, reply: bool, level: int) -> None:
    match member.kind:
        case MemberKind.ULONG | MemberKind.OBJECT:
            w.u64(value)
        case MemberKind.BYTE:
            w.u8(value)
        case MemberKind.BYTES:
            put_fixed(w, value, member.count)
        case MemberKind.ULONGS:
            if not isinstance(value, tuple) or len(value) != member.count:
                raise wrong(f"a tuple of {member.count} numbers", value)
            w.numbers(value)
        case (
            MemberKind.STRING
            | MemberKind.STRING_BITS
            | MemberKind.STRING_SIZED
            | MemberKind.STRING_CELL
            | MemberKind.TEXT
        ):
            put_string(w, value)
        case MemberKind.CELL | MemberKind.OBJECT_CELL:
            put_cell(w, value)
        case MemberKind.VERSION:
            _put_version(w, value)
        case MemberKind.STRUCT:
            _put_members(w, member.shape, value, reply=reply, level=level)
        case MemberKind.POINTER:
            w.present(value is not None)
            if value is not None:
                _put_members(w, member.shape, value, reply=reply, level=level)
        case MemberKind.ARRAY:
            _put_structures(w, member.shape, value, reply=reply, level=level)
        case MemberKind.TEMPLATE:
            put_template(w, Form.TEMPLATE, value, level)
        case MemberKind.MECHANISM:
            put_mechanism(w, value, reply=reply, level=level)
        case MemberKind.CHOICE:
            put_parameter(w, value, reply=reply, level=level)
        case MemberKind.LENGTH:
            raise AssertionError("a length does not travel")


def _member(r: Reader, member: Member, *, reply: bool, level: int) -> MemberValue:
    match member.kind:
        case MemberKind.ULONG | MemberKind.OBJECT:
            return r.u64()
        case MemberKind.BYTE:
            return r.u8()
        case MemberKind.BYTES:
            return r.take(member.count)
        case MemberKind.ULONGS:
            return r.numbers(member.count)
        case (
            MemberKind.STRING
            | MemberKind.STRING_BITS
            | MemberKind.STRING_SIZED
            | MemberKind.STRING_CELL
            | MemberKind.TEXT
        ):
            return string(r)
        case MemberKind.CELL | MemberKind.OBJECT_CELL:
            return cell(r)
        case MemberKind.VERSION:
            return Version(r.u8(), r.u8()) if r.is_present() else None
        case MemberKind.STRUCT:
            return _members(r, member.shape, reply=reply, level=level)
        case MemberKind.POINTER:
            return _members(r, member.shape, reply=reply, level=level) if r.is_present() else None
        case MemberKind.ARRAY:
            return _structures(r, member.shape, reply=reply, level=level)
        case MemberKind.TEMPLATE:
            return template(r, Form.TEMPLATE, level)
        case MemberKind.MECHANISM:
            return mechanism(r, reply=reply, level=level)
        case MemberKind.CHOICE:
            return parameter(r, reply=reply, level=level)
        case MemberKind.LENGTH:
            raise AssertionError("a length does not travel")


def _put_version(w: Writer, value: object) -> None:
    w.present(value is not None)
    if isinstance(value, Version):
        w.u8(value.major)
        w.u8(value.minor)
    elif value is not None:
        raise wrong("a Version", value)


def _put_structures(w: Writer, shape: int, value: object, *, reply: bool, level: int) -> None:
    if isinstance(value, Null):
        w.u32(NULL_MARK)
        w.u64(value.length)
    elif isinstance(value, tuple):
        w.count(len(value), MAX_ATTRIBUTES)
        for values in value:
            _put_members(w, shape, values, reply=reply, level=level)
    else:
        raise wrong("a tuple of structures", value)


def _structures(r: Reader, shape: int, *, reply: bool, level: int) -> tuple[tuple[MemberValue, ...], ...] | Null:
    count = r.u32()
    if count == NULL_MARK:
        return Null(r.u64())
    r.count(count, MAX_ATTRIBUTES)
    return tuple([_members(r, shape, reply=reply, level=level) for _ in range(count)])
