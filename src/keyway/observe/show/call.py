"""Arguments and results as text: a way for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Final

from keyway.cryptoki import (
    Call,
    Fill,
    Kind,
    Mechanism,
    MechanismInfo,
    Null,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    SessionInfo,
    SlotInfo,
    Target,
    TokenInfo,
    Unchanged,
    Value,
    Version,
    mechanism_name,
)
from keyway.observe.show.attributes import attributes
from keyway.observe.show.mechanisms import mechanism, parameter
from keyway.observe.show.text import Shown, concealed, count_of, decimal, flags, hexadecimal, listed, named, quoted
from keyway.wire import reply_kinds, request_kinds

__all__ = ["requested", "returned"]


def requested(call: Call, target: int, values: Sequence[Value]) -> tuple[Shown, ...]:
    """Show what a call was asked with.

    Args:
        call: The call's row.
        target: The session or slot.
        values: The values of the request; none at all if they are not known.
    """
    name = _TARGETS[call.target]
    about = (Shown(name, hexadecimal(target)),) if name else ()
    return (*about, *_shown(call, _REQUEST, request_kinds(call), values))


def returned(call: Call, values: Sequence[Value]) -> tuple[Shown, ...]:
    """Show what came back.

    Args:
        call: The call's row.
        values: The values of the reply; none at all if nothing was executed.
    """
    return tuple(_shown(call, _REPLY, reply_kinds(call), values))


_Show = Callable[[Call, str, Any], Shown | None]
"""How a kind is shown: the call, the argument's name and the value. None if there is nothing to tell."""

_TARGETS: Final = {Target.SESSION: "hSession", Target.SLOT: "slotID", Target.NONE: ""}


def _shown(call: Call, ways: dict[Kind, _Show], kinds: list[Kind], values: Sequence[Value]) -> Iterator[Shown]:
    if not values:
        return
    arguments = [argument for argument in call.args if argument.kind in kinds]
    for argument, value in zip(arguments, values, strict=True):
        first, *others = argument.names
        name = f"{first}[{others[0]}]" if others else first
        if (shown := ways[argument.kind](call, name, value)) is not None:
            yield shown


_NUMBERS: Final[dict[tuple[str, str], Callable[[int], str]]] = {
    ("C_Initialize", "flags"): flags("initialize_flag"),
    ("C_OpenSession", "flags"): flags("session_flag"),
    ("C_WaitForSlotEvent", "flags"): flags("wait_flag"),
    ("C_SessionCancel", "flags"): flags("mechanism_flag"),
    ("C_EncryptMessageNext", "flags"): flags("message_flag"),
    ("C_DecryptMessageNext", "flags"): flags("message_flag"),
    ("C_Login", "userType"): named("user_type"),
    ("C_LoginUser", "userType"): named("user_type"),
    ("C_GetMechanismInfo", "type"): mechanism_name,
    ("C_GetSessionValidationFlags", "type"): named("validation_type"),
    ("C_GetSlotList", "pSlotList[pulCount]"): hexadecimal,
    ("C_GetMechanismList", "pMechanismList[pulCount]"): mechanism_name,
    ("C_FindObjects", "phObject[ulMaxObjectCount]"): hexadecimal,
    ("C_WaitForSlotEvent", "pSlot"): hexadecimal,
}
"""Numbers that are more than a count, by call and argument."""


def _number(call: Call, name: str, value: int) -> Shown:
    return Shown(name, _NUMBERS.get((call.name, name), decimal)(value))


def _pin(_: Call, name: str, value: bytes | Null) -> Shown:
    return Shown(name, "NULL" if isinstance(value, Null) else "***")


def _text(_: Call, name: str, value: bytes | Null | None) -> Shown:
    return Shown(name, quoted(value) if isinstance(value, bytes) else "NULL")


def _bytes(call: Call, name: str, value: bytes | Null) -> Shown | None:
    if (call.name, name) == ("C_Initialize", "reserved") and value == Null():
        return None
    if (call.name, name) == ("C_Initialize", "application"):
        return _text(call, name, value)
    return Shown(name, concealed(value))


def _fill(_: Call, name: str, value: Fill) -> Shown:
    return Shown(name, f"room for {count_of(value.length)}" if value.has_buffer else concealed(Null(value.length)))


def _room(unit: str) -> _Show:
    def show(_: Call, name: str, value: Room) -> Shown:
        if value.length is None:
            return Shown(name, "no pointer to a length")
        # An application that asks for the length leaves anything in there.
        return Shown(name, f"room for {count_of(value.length, unit)}" if value.has_buffer else "NULL")

    return show


def _objects_room(_: Call, name: str, value: ObjectsRoom) -> Shown:
    room = f"room for {count_of(value.maximum, 'handle')}" if value.has_buffer else "NULL"
    return Shown(name, room if value.has_count else f"{room}, no pointer to a count")


def _pointer(_: Call, name: str, is_there: bool) -> Shown | None:
    return None if is_there else Shown(name, "NULL")


def _reserved(_: Call, name: str, is_there: bool) -> Shown | None:
    return Shown(name, "not NULL") if is_there else None


def _cell_asked(_: Call, name: str, value: int | None) -> Shown | None:
    return Shown(name, "NULL") if value is None else None


def _chosen(_: Call, name: str, value: int | None) -> Shown:
    return Shown(name, "NULL" if value is None else hexadecimal(value))


def _cell(show: Callable[[int], str]) -> _Show:
    def show_cell(call: Call, name: str, value: int | None) -> Shown | None:
        return None if value is None else Shown(name, _NUMBERS.get((call.name, name), show)(value))

    return show_cell


_BRING_VALUES: Final = frozenset(
    {"C_CopyObject", "C_CreateObject", "C_SetAttributeValue", "C_UnwrapKey", "C_UnwrapKeyAuthenticated"}
)
"""Calls whose templates bring what objects hold: no bytes of them are shown."""


def _template(call: Call, name: str, value: Any) -> Shown:
    return attributes(name, value, shows_bytes=call.name not in _BRING_VALUES)


def _answer(_: Call, name: str, value: Any) -> Shown:
    return attributes(name, value, shows_bytes=True, is_answer=True)


def _mechanism(_: Call, name: str, value: Mechanism | None) -> Shown:
    return mechanism(name, value)


def _parameter(_: Call, name: str, value: Any) -> Shown | None:
    return None if isinstance(value, Unchanged) else parameter(name, value)


def _handle(_: Call, name: str, value: int) -> Shown:
    return Shown(name, hexadecimal(value))


def _boolean(_: Call, name: str, value: int) -> Shown:
    return Shown(name, {0: "false", 1: "true"}.get(value, str(value)))


def _output(_: Call, name: str, value: Output) -> Shown | None:
    if value.data is not None:
        return Shown(name, count_of(len(value.data)))
    return None if value.length is None else Shown(name, f"length {decimal(value.length)}")


def _numbers(call: Call, name: str, value: Numbers) -> Shown | None:
    if value.data is not None:
        return Shown(name, listed(value.data, _NUMBERS.get((call.name, name), decimal)))
    return None if value.count is None else Shown(name, f"count {decimal(value.count)}")


def _info(_: Call, name: str, value: Any) -> Shown | None:
    if value is None:
        return None
    return Shown(name, "", tuple(Shown(f.name, _fact(value, f.name, getattr(value, f.name))) for f in fields(value)))


def _fact(info: object, name: str, value: object) -> str:
    if isinstance(value, bytes):
        return quoted(value)
    if isinstance(value, Version):
        return str(value)
    assert isinstance(value, int)
    return _FACTS.get((type(info), name), decimal)(value)


_FACTS: Final[dict[tuple[type, str], Callable[[int], str]]] = {
    (SlotInfo, "flags"): flags("slot_flag"),
    (TokenInfo, "flags"): flags("token_flag"),
    (SessionInfo, "slot"): hexadecimal,
    (SessionInfo, "state"): named("session_state"),
    (SessionInfo, "flags"): flags("session_flag"),
    (MechanismInfo, "flags"): flags("mechanism_flag"),
}

_REQUEST: Final[dict[Kind, _Show]] = {
    Kind.ULONG: _number,
    Kind.BOOL: _boolean,
    Kind.OBJECT: _handle,
    Kind.BYTES: _bytes,
    Kind.PIN: _pin,
    Kind.NAME: _text,
    Kind.LABEL: _text,
    Kind.MECHANISM: _mechanism,
    Kind.PARAMETER: _parameter,
    Kind.TEMPLATE: _template,
    Kind.TEMPLATE_OUT: _template,
    Kind.BUFFER: _room("byte"),
    Kind.FILL: _fill,
    Kind.ULONG_OUT: _cell_asked,
    Kind.OBJECT_OUT: _cell_asked,
    Kind.SESSION_OUT: _chosen,
    Kind.ULONGS_OUT: _room("number"),
    Kind.OBJECTS_OUT: _objects_room,
    Kind.INFO_OUT: _pointer,
    Kind.SLOT_INFO_OUT: _pointer,
    Kind.TOKEN_INFO_OUT: _pointer,
    Kind.SESSION_INFO_OUT: _pointer,
    Kind.MECHANISM_INFO_OUT: _pointer,
    Kind.ASYNC_DATA_OUT: _pointer,
    Kind.RESERVED: _reserved,
}

_REPLY: Final[dict[Kind, _Show]] = {
    Kind.MECHANISM: _parameter,
    Kind.PARAMETER: _parameter,
    Kind.TEMPLATE_OUT: _answer,
    Kind.BUFFER: _output,
    Kind.FILL: _bytes,
    Kind.BYTES_OUT: _text,
    Kind.ULONG_OUT: _cell(decimal),
    Kind.OBJECT_OUT: _cell(hexadecimal),
    Kind.ULONGS_OUT: _numbers,
    Kind.OBJECTS_OUT: _numbers,
    Kind.INFO_OUT: _info,
    Kind.SLOT_INFO_OUT: _info,
    Kind.TOKEN_INFO_OUT: _info,
    Kind.SESSION_INFO_OUT: _info,
    Kind.MECHANISM_INFO_OUT: _info,
}
