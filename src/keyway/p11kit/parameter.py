"""Mechanisms and their parameters (docs/p11-kit-wire.md, section 6)."""

from typing import Final, Literal

from keyway.cryptoki._generated import PARAMETER_SHAPES
from keyway.cryptoki.constants import RV
from keyway.cryptoki.values import Mechanism, MemberValue, Null, Opaque, Parameter, Structured
from keyway.p11kit.cursor import MAX_U32, MAX_U64, Reader, Writer, checked, wrong
from keyway.p11kit.dialect import Dialect, Reading
from keyway.p11kit.errors import DecodeError, NotCarried
from keyway.p11kit.mechanisms import BARE_1, FOREIGN, LAYOUTS_2, Layout
from keyway.p11kit.memory import has_pointers, structured, to_memory

__all__ = ["is_bare", "mechanism", "put_mechanism"]

_NULL_TYPE: Final = MAX_U32
"""The type that stands for a NULL mechanism pointer."""
_FORMAT_A: Final = frozenset({Reading.A, Reading.A_NULL_AS_0})


def put_mechanism(w: Writer, dialect: Dialect, value: object) -> None:
    """Append a `Mechanism`, or None for a NULL pointer.

    Raises:
        NotCarried: The peer does not understand such a parameter.
    """
    if value is None:
        if not dialect.has_null_mechanism:
            raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL mechanism")
        w.u32(_NULL_TYPE)
        return
    if not isinstance(value, Mechanism):
        raise wrong("a Mechanism", value)
    if checked(value.type, MAX_U64) >= _NULL_TYPE or value.type in FOREIGN:
        raise NotCarried(RV.CKR_MECHANISM_INVALID, "no form for this mechanism")
    w.u32(value.type)
    is_format_a = dialect.readings[0] in _FORMAT_A
    parameter = value.parameter
    if isinstance(parameter, Null) and parameter.length:
        raise _refused("a NULL pointer with a length")
    if value.type in dialect.bare:
        # The peer would drop it in silence, and the mechanism would do something else.
        if parameter not in (Null(), b""):
            raise _refused("a parameter that the peer takes for none")
        if is_format_a:
            w.data(None)
        return
    layout = dialect.layouts.get(value.type)
    if not is_format_a:
        w.present(not isinstance(parameter, Null))
        if isinstance(parameter, Null):
            return
    if layout is None:
        w.data(_plain(value.type, parameter, dialect))
    else:
        _put_fields(w, layout, parameter, dialect)


def mechanism(r: Reader, dialect: Dialect, reading: Reading) -> Mechanism | None:
    """Take a mechanism that is laid out in a certain way."""
    type_ = r.u32()
    if type_ == _NULL_TYPE or (type_ == 0 and reading is Reading.A_NULL_AS_0):
        return None
    if type_ in FOREIGN:
        raise DecodeError("the parameter of this mechanism can't be passed on", RV.CKR_MECHANISM_INVALID)
    if reading in _FORMAT_A:
        layout = None if type_ in dialect.bare else dialect.layouts.get(type_)
    else:
        if is_bare(type_, reading) or not r.is_present():
            return Mechanism(type_)
        layout = LAYOUTS_2.get(type_)
    if layout is not None:
        return Mechanism(type_, _fields(r, layout, dialect.order))
    data = r.data()
    return Mechanism(type_, Null() if data is None else structured(type_, data, dialect.order))


def is_bare(type_: int, reading: Reading) -> bool:
    """Whether in format B nothing at all follows a type."""
    match reading:
        case Reading.B:
            return type_ in BARE_1
        case Reading.B_BARE:
            return type_ not in LAYOUTS_2
        case _:
            return False


def _plain(type_: int, parameter: Parameter, dialect: Dialect) -> bytes | None:
    match parameter:
        case Null():
            return None
        case Structured(shape):
            # As memory it would be whatever the mechanism has, pointers too.
            if shape not in PARAMETER_SHAPES.get(type_, ()):
                raise _refused("a structure that the mechanism does not have")
            return to_memory(parameter, dialect.order)
        case bytes():
            if parameter and has_pointers(type_):
                raise _refused("memory that may hold pointers")
            return parameter
        case _:
            raise wrong("a mechanism parameter", parameter)


def _put_fields(w: Writer, layout: Layout, parameter: Parameter, dialect: Dialect) -> None:
    members: tuple[object, ...]
    if isinstance(parameter, Structured) and layout.shape:
        if parameter.shape != layout.shape or len(parameter.members) != len(layout.fields):
            raise _refused("a structure that the peer does not know for this mechanism")
        members = parameter.members
    elif isinstance(parameter, bytes) and not layout.shape:
        if layout.fields == "u" and len(parameter) != 8:
            raise _refused("a length that the peer does not know for this mechanism")
        members = (int.from_bytes(parameter, dialect.order) if layout.fields == "u" else parameter,)
    else:
        raise _refused("a parameter that the peer does not know for this mechanism")
    for field, member in zip(layout.fields, members, strict=True):
        if field == "u":
            w.u64(member)
        else:
            _put_bytes(w, layout, member)


def _put_bytes(w: Writer, layout: Layout, member: object) -> None:
    if isinstance(member, Null):
        if member.length or layout.size or not layout.is_empty:
            raise _refused("a NULL pointer in the parameter")
        w.data(None)
        return
    if not isinstance(member, bytes):
        raise wrong("bytes", member)
    if (layout.size and len(member) != layout.size) or not (member or layout.is_empty):
        raise _refused("a length that the peer does not take")
    w.data(member)


def _fields(r: Reader, layout: Layout, order: Literal["little", "big"]) -> Structured | bytes:
    members: list[MemberValue] = []
    for field in layout.fields:
        if field == "u":
            members.append(r.u64())
            continue
        data = r.data()
        if (layout.size and (data is None or len(data) != layout.size)) or not (data or layout.is_empty):
            raise DecodeError(f"a parameter of another length at byte {r.at}", RV.CKR_MECHANISM_PARAM_INVALID)
        members.append(Null() if data is None else data)
    if layout.shape:
        return Structured(layout.shape, tuple(members))
    match members[0]:
        case int() as number:
            return Opaque(number.to_bytes(8, order))
        case bytes() as data:
            return data
        case _:
            raise DecodeError(f"a NULL parameter before byte {r.at}", RV.CKR_MECHANISM_PARAM_INVALID)


def _refused(reason: str) -> NotCarried:
    return NotCarried(RV.CKR_MECHANISM_PARAM_INVALID, reason)
