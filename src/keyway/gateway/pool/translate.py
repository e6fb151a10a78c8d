"""Object handles in the values of calls: finding them, and putting others in their place.

CK_INVALID_HANDLE names no object and is left alone everywhere. So is, in requests, what the token will write: nobody has put anything
there yet.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, cast

from keyway.cryptoki import (
    CALLS,
    INVALID_HANDLE,
    SHAPES,
    Call,
    Kind,
    Mechanism,
    MemberKind,
    MemberValue,
    Numbers,
    Output,
    Parameter,
    Structured,
    Value,
)
from keyway.cryptoki.table import Member

__all__ = ["SHAPES_WITH_HANDLES", "handles", "made_handles", "reply_with", "with_handles"]

Mapped: TypeAlias = Callable[[int], int]
"""What stands in the place of a handle."""

_Values: TypeAlias = tuple[MemberValue, ...]

_NOT_IN_REQUESTS: Final = frozenset({Kind.BYTES_OUT, Kind.IGNORED})
_IN_REPLIES: Final = frozenset(
    {
        Kind.MECHANISM,
        Kind.PARAMETER,
        Kind.TEMPLATE_OUT,
        Kind.BUFFER,
        Kind.FILL,
        Kind.BYTES_OUT,
        Kind.ULONG_OUT,
        Kind.OBJECT_OUT,
        Kind.ULONGS_OUT,
        Kind.OBJECTS_OUT,
        Kind.INFO_OUT,
        Kind.SLOT_INFO_OUT,
        Kind.TOKEN_INFO_OUT,
        Kind.SESSION_INFO_OUT,
        Kind.MECHANISM_INFO_OUT,
    }
)
"""Kinds of arguments that have a value in replies (`keyway.cryptoki.values.Value`)."""

_PARAMETERS: Final = frozenset({Kind.MECHANISM, Kind.PARAMETER})


def _places(kinds: Sequence[Kind], wanted: frozenset[Kind]) -> tuple[tuple[int, Kind], ...]:
    return tuple((place, kind) for place, kind in enumerate(kinds) if kind in wanted)


_REQUESTS: Final = {
    call.number: _places(
        [argument.kind for argument in call.args if argument.kind not in _NOT_IN_REQUESTS], _PARAMETERS | {Kind.OBJECT}
    )
    for call in CALLS
}
_REPLIES: Final = {
    call.number: _places(
        [argument.kind for argument in call.args if argument.kind in _IN_REPLIES],
        _PARAMETERS | {Kind.OBJECT_OUT, Kind.OBJECTS_OUT},
    )
    for call in CALLS
}
"""By call number: places in the list of values where handles may be."""

_MEMBERS: Final[Mapping[int, tuple[Member, ...]]] = {
    number: tuple(member for member in shape.members if member.kind is not MemberKind.LENGTH)
    for number, shape in SHAPES.items()
}
"""The members of each shape that have a value."""

_HANDLES: Final = frozenset({MemberKind.OBJECT, MemberKind.OBJECT_CELL})
# What these hold is for the peer to say, so it may be anything.
_OPEN: Final = frozenset({MemberKind.MECHANISM, MemberKind.CHOICE})
_NESTED: Final = frozenset({MemberKind.STRUCT, MemberKind.POINTER, MemberKind.ARRAY})


def _shapes_with_handles() -> frozenset[int]:
    def has_handles(shape: int) -> bool:
        return any(
            member.kind in _HANDLES or member.kind in _OPEN or (member.kind in _NESTED and has_handles(member.shape))
            for member in _MEMBERS[shape]
        )

    return frozenset(filter(has_handles, SHAPES))


SHAPES_WITH_HANDLES: Final[frozenset[int]] = _shapes_with_handles()
"""Shapes that have object handles, at any depth, or a mechanism or a choice that could have some."""


def handles(call: Call, values: Sequence[Value]) -> list[int]:
    """Return all object handles of a request.

    Args:
        call: The call's row.
        values: The request's values.
    """
    found: list[int] = []

    def note(handle: int) -> int:
        found.append(handle)
        return handle

    with_handles(call, values, note)
    return found


def with_handles(call: Call, values: Sequence[Value], mapping: Mapped) -> tuple[Value, ...]:
    """Return a request's values with other object handles.

    Args:
        call: The call's row.
        values: The request's values.
        mapping: Called with each handle that `handles` finds.
    """
    translated = list(values)
    for place, kind in _REQUESTS[call.number]:
        translated[place] = _value(kind, values[place], mapping, False)
    return tuple(translated)


def reply_with(call: Call, values: Sequence[Value], mapping: Mapped) -> tuple[Value, ...]:
    """Return a reply's values with other object handles.

    Where a call failed, a handle may be anything: what the client had in its place.

    Args:
        call: The call's row.
        values: The reply's values; none if nothing was executed.
        mapping: Called with each handle but CK_INVALID_HANDLE.
    """
    translated = list(values)
    if translated:
        for place, kind in _REPLIES[call.number]:
            translated[place] = _value(kind, values[place], mapping, True)
    return tuple(translated)


def made_handles(call: Call, values: Sequence[Value]) -> list[int]:
    """Return the handles of what a call has made.

    Args:
        call: The call's row.
        values: The reply's values. If it was asked for the length of its output only, it has made nothing, and its handles may be anything.
    """
    found: list[int] = []
    if any(isinstance(value, Output) and value.data is None for value in values):
        return found

    def note(handle: int) -> int:
        found.append(handle)
        return handle

    reply_with(call, values, note)
    return found


def _value(kind: Kind, value: Value, mapping: Mapped, is_reply: bool) -> Value:
    match value:
        case int() if kind in (Kind.OBJECT, Kind.OBJECT_OUT):
            return _handle(value, mapping)
        case Numbers(count, tuple() as data):
            return Numbers(count, tuple([_handle(handle, mapping) for handle in data]))
        case Mechanism():
            return _mechanism(value, mapping, is_reply)
        case Structured():
            return _parameter(value, mapping, is_reply)
    return value


def _handle(handle: int, mapping: Mapped) -> int:
    return mapping(handle) if handle != INVALID_HANDLE else handle


def _mechanism(mechanism: Mechanism, mapping: Mapped, is_reply: bool) -> Mechanism:
    if not isinstance(mechanism.parameter, Structured):
        return mechanism
    return Mechanism(mechanism.type, _parameter(mechanism.parameter, mapping, is_reply))


def _parameter(parameter: Parameter, mapping: Mapped, is_reply: bool) -> Parameter:
    if not isinstance(parameter, Structured) or parameter.shape not in SHAPES_WITH_HANDLES:
        return parameter
    return Structured(parameter.shape, tuple(_members(parameter.shape, parameter.members, mapping, is_reply)))


def _members(shape: int, values: Sequence[MemberValue], mapping: Mapped, is_reply: bool) -> Iterator[MemberValue]:
    for member, value in zip(_MEMBERS[shape], values, strict=True):
        yield _member(member, value, mapping, is_reply)


def _member(member: Member, value: MemberValue, mapping: Mapped, is_reply: bool) -> MemberValue:
    match member.kind, value:
        case ((MemberKind.OBJECT | MemberKind.OBJECT_CELL), int()) if is_reply or not member.out:
            return _handle(value, mapping)
        case ((MemberKind.STRUCT | MemberKind.POINTER), tuple()):
            return tuple(_members(member.shape, cast(_Values, value), mapping, is_reply))
        case MemberKind.ARRAY, tuple():
            structures = cast(Sequence[_Values], value)
            return tuple([tuple(_members(member.shape, each, mapping, is_reply)) for each in structures])
        case MemberKind.MECHANISM, Mechanism():
            return _mechanism(value, mapping, is_reply)
        case MemberKind.CHOICE, Structured():
            return _parameter(value, mapping, is_reply)
    return value
