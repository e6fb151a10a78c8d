"""Reads tests/vectors: meanings in JSON to values (tests/vectors/README.md)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from keyway.cryptoki import (
    CALLS,
    Attribute,
    Call,
    Fill,
    LengthAttributes,
    LengthNumbers,
    Mechanism,
    MechanismInfo,
    ModuleInfo,
    Null,
    NumberArray,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    RoomNumbers,
    SessionInfo,
    SlotInfo,
    Structured,
    TokenInfo,
    Unavailable,
    Unchanged,
    Version,
    call_named,
)

FOLDER: Final = Path(__file__).parents[1] / "vectors"

# Meanings are as free in form as JSON is; what they must be is told by the vectors' README, and a wrong one fails the test.
Json = Any


def load(name: str) -> list[dict[str, Json]]:
    """Read one of the files."""
    vectors: list[dict[str, Json]] = json.loads((FOLDER / name).read_text())
    return vectors


def named_call(vector: dict[str, Json]) -> Call:
    """Return the row of the call that a vector names."""
    return call_named(vector["call"])


def init_of(call: Call) -> Call:
    """Return the row of the call that starts the operation of one that can be fused."""
    return CALLS[call.init - 1]


def body(pieces: Json) -> bytes:
    """Return the bytes of a body, given as text or as a list of pieces."""
    if isinstance(pieces, str):
        return bytes.fromhex(pieces)
    if isinstance(pieces, dict):
        return bytes.fromhex(pieces["bytes"]) * int(pieces["repeat"])
    return b"".join(map(body, pieces))


def values(meaning: Json) -> tuple[Json, ...]:
    """Return the values that a list of meanings stands for."""
    return tuple(map(value, meaning))


def value(meaning: Json) -> Json:
    """Return the value that a meaning stands for."""
    [(type_, content)] = meaning.items()
    return _VALUES[type_](content)


def _plain(content: Json) -> Json:
    return content


def _data(content: Json) -> bytes | None:
    return None if content is None else bytes.fromhex(content)


def _string(content: Json) -> Json:
    return Null(content["null"]) if isinstance(content, dict) else bytes.fromhex(content)


def _template(content: Json) -> Json:
    return Null(content["null"]) if isinstance(content, dict) else tuple(map(_attribute, content))


def _attribute(content: Json) -> Attribute:
    [(tag, inner)] = ((key, inner) for key, inner in content.items() if key != "type")
    return Attribute(content["type"], _ATTRIBUTES[tag](inner))


def _mechanism(content: Json) -> Json:
    return content and Mechanism(content["type"], _parameter(content["parameter"]))


def _parameter(content: Json) -> Json:
    match content:
        case "unchanged":
            return Unchanged()
        case {"null": length}:
            return Null(length)
        case {"flat": data}:
            return bytes.fromhex(data)
        case {"shape": shape, "members": members}:
            return Structured(shape, values(members))
    raise AssertionError(content)


def _numbers(content: Json) -> Json:
    return Numbers(content["count"], None if content["data"] is None else tuple(content["data"]))


def _version(content: Json) -> Json:
    return content and Version(*content)


def _structs(content: Json) -> Json:
    return Null(content["null"]) if isinstance(content, dict) else tuple(map(values, content))


def _info(type_: type) -> Callable[[Json], Json]:
    def convert(content: Json) -> Json:
        def member(name: str, given: Json) -> Json:
            if isinstance(given, str):
                return bytes.fromhex(given)
            return Version(*given) if isinstance(given, list) else given

        return content and type_(**{name: member(name, given) for name, given in content.items()})

    return convert


_ATTRIBUTES: Final[dict[str, Callable[[Json], Json]]] = {
    "null": Null,
    "bytes": bytes.fromhex,
    "number": _plain,
    "numbers": lambda content: NumberArray(tuple(content)),
    "template": _template,
    "room_bytes": RoomBytes,
    "room_numbers": RoomNumbers,
    "length_numbers": LengthNumbers,
    "length_attributes": LengthAttributes,
    "unavailable": lambda content: Unavailable(),
}

_VALUES: Final[dict[str, Callable[[Json], Json]]] = {
    "ulong": _plain,
    "bool": _plain,
    "byte": _plain,
    "cell": _plain,
    "pointer": lambda content: content if isinstance(content, bool) else content and values(content),
    "bytes": _string,
    "string": _string,
    "label": _data,
    "array": _data,
    "ulongs": tuple,
    "mechanism": _mechanism,
    "parameter": _parameter,
    "template": _template,
    "room": lambda content: Room(content["length"], content["buffer"]),
    "objects_room": lambda content: ObjectsRoom(content["maximum"], content["count"], content["buffer"]),
    "output": lambda content: Output(content["length"], _data(content["data"])),
    "numbers": _numbers,
    "fill": lambda content: Fill(content["buffer"], content["length"]),
    "version": _version,
    "struct": values,
    "structs": _structs,
    "info": _plain,
    "module_info": _info(ModuleInfo),
    "slot_info": _info(SlotInfo),
    "token_info": _info(TokenInfo),
    "session_info": _info(SessionInfo),
    "mechanism_info": _info(MechanismInfo),
}
