"""What a request names and asks for, and what the policy says of that. Pure decisions; what is not known yet is told to be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from keyway.cryptoki import (
    CALLS,
    INVALID_HANDLE,
    RV,
    SECRET_ATTRIBUTES,
    Attribute,
    Effect,
    Kind,
    Mechanism,
    Template,
    Value,
    call_named,
)
from keyway.gateway.pool.translate import SHAPES_WITH_HANDLES, handles
from keyway.wire.ahead import decode_read_ahead
from keyway.wire.codec import decode_fused, decode_request, request_kinds
from keyway.wire.header import HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.access.policy import TokenAccess
    from keyway.access.role import ObjectFacts
    from keyway.daemon.link import Frame

__all__ = ["KEYED", "NAMING", "REMEMBERED", "Asked", "Unknown", "asked", "is_simple", "judge", "judge_ahead"]

_NAMED: Final = frozenset({Kind.MECHANISM, Kind.OBJECT, Kind.TEMPLATE, Kind.TEMPLATE_OUT, Kind.PARAMETER})
NAMING: Final = frozenset(call.number for call in CALLS if any(each.kind in _NAMED for each in call.args))
"""Calls that name mechanisms or objects, or hold templates."""
REMEMBERED: Final = frozenset(
    call.number
    for call in CALLS
    if call.effect is not Effect.OBJECTS
    and request_kinds(call)[:2] in ([Kind.MECHANISM], [Kind.MECHANISM, Kind.OBJECT])
    and Kind.TEMPLATE not in request_kinds(call)
)
"""Calls that begin an operation with a mechanism and a key, or a mechanism alone, and say nothing else that matters."""
KEYED: Final = frozenset(call.number for call in CALLS if Kind.MECHANISM in request_kinds(call))
"""Calls whose objects are keys, so that one that is not there has an RV of its own."""
_READ: Final = call_named("C_GetAttributeValue").number
_FIND: Final = call_named("C_FindObjectsInit").number

_LEAST: Final = 12
"""Bytes of which a mechanism has at least as many, as far as they are looked at."""
_STRUCTURED: Final = 2
"""Tag of a parameter that is a structure (docs/wire.md, section 4.1)."""


class Asked(NamedTuple):
    """What a request names and asks for.

    Attributes:
        number: The call that decides: the init call of a fused request.
        mechanism: Its mechanism; None if it has none.
        objects: The object handles.
        templates: What is to be made, or changed.
        attributes: The types of the attributes that are to be read.
    """

    number: int
    mechanism: Mechanism | None
    objects: tuple[int, ...]
    templates: tuple[Template, ...]
    attributes: tuple[int, ...]


class Unknown(NamedTuple):
    """Objects that have to be looked at before the policy can say anything."""

    objects: tuple[int, ...]


def asked(frame: Frame, data: bytes) -> Asked:
    """Read a request.

    Args:
        frame: Its header.
        data: The whole frame.

    Raises:
        WireError: It is malformed.
    """
    row = CALLS[frame[1] - 1]
    body = memoryview(data)[HEADER_SIZE:]
    if frame[2] & Flags.FUSED:
        deciding = CALLS[row.init - 1]
        values, more = decode_fused(row, frame[5], body)
        objects = [*handles(deciding, values), *handles(row, more)]
    else:
        deciding = row
        values = decode_request(row, frame[5], body)
        objects = handles(row, values)
    templates = tuple(_templates(values))
    is_reading = deciding.number == _READ
    return Asked(
        deciding.number,
        next((value for value in values if isinstance(value, Mechanism)), None),
        tuple(dict.fromkeys(each for each in objects if each != INVALID_HANDLE)),
        () if is_reading or deciding.number == _FIND else templates,
        tuple(attribute.type for attribute in templates[0]) if is_reading and templates else (),
    )


def judge(
    access: TokenAccess,
    request: Asked,
    known: Mapping[int, ObjectFacts | None],
    *,
    read_write: bool,
    is_told: bool,
) -> int | Unknown | None:
    """Say whether a request may be made.

    Args:
        access: What is allowed.
        request: The request.
        known: What is known of the objects; None for one that is not there.
        read_write: Whether its session is a read-write one.
        is_told: Whether somebody wants to know of the objects, though it makes no difference.

    Returns:
        None if it may, the RV that refuses it, or what has to be known first.
    """
    is_blind = access.sees_all_objects and access.exports
    if (is_told or not is_blind) and (unknown := tuple(each for each in request.objects if each not in known)):
        return Unknown(unknown)
    facts = [known[each] for each in request.objects if each in known]
    there = [each for each in facts if each is not None]
    if len(there) < len(facts) and not is_blind:
        return _missing(request.number)
    refusal = access.allows(
        request.number,
        mechanism=request.mechanism,
        objects=there,
        templates=request.templates,
        read_write=read_write,
    )
    if refusal is None and request.attributes and there:
        refusal = access.reading(there[0], request.attributes)
    return _missing(request.number) if refusal == RV.CKR_OBJECT_HANDLE_INVALID else refusal


def judge_ahead(access: TokenAccess, data: bytes) -> int | None:
    """Say whether objects may be read ahead: None, or the RV that refuses it. Whoever asks one by one then is told what he may know.

    Args:
        access: What is allowed.
        data: The whole frame of READ_AHEAD.

    Raises:
        WireError: It is malformed.
    """
    if not access.sees_all_objects:
        return RV.CKR_FUNCTION_NOT_SUPPORTED
    if (refusal := access.call(_READ)) is not None or access.exports:
        return refusal
    for query in decode_read_ahead(memoryview(data)[HEADER_SIZE:]).queries:
        for template in _templates(decode_request(CALLS[_READ - 1], 0, query.body)):
            if not SECRET_ATTRIBUTES.isdisjoint(attribute.type for attribute in template):
                return RV.CKR_ATTRIBUTE_SENSITIVE
    return None


def is_simple(data: bytes) -> bool:
    """Tell whether the mechanism that a request begins with has no parameter that could name anything else.

    Args:
        data: The whole frame of a call whose first value is a mechanism.
    """
    if len(data) < HEADER_SIZE + _LEAST or data[HEADER_SIZE] != 1:
        return False
    if data[HEADER_SIZE + 9] != _STRUCTURED:
        return True
    return int.from_bytes(data[HEADER_SIZE + 10 : HEADER_SIZE + 12]) not in SHAPES_WITH_HANDLES


def _missing(number: int) -> int:
    return RV.CKR_KEY_HANDLE_INVALID if number in KEYED else RV.CKR_OBJECT_HANDLE_INVALID


def _templates(values: Sequence[Value]) -> Iterable[tuple[Attribute, ...]]:
    for value in values:
        if isinstance(value, tuple) and all(isinstance(each, Attribute) for each in value):
            yield value
