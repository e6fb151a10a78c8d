"""What the generated tables are made of: the rows of spec/*.toml as types."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Target(StrEnum):
    """What the first C argument of a call names."""

    NONE = "none"
    SESSION = "session"
    SLOT = "slot"


class Kind(StrEnum):
    """The kind of an argument (docs/wire.md, section 4)."""

    ULONG = "ulong"
    BOOL = "bool"
    OBJECT = "object"
    BYTES = "bytes"
    PIN = "pin"
    NAME = "name"
    LABEL = "label"
    MECHANISM = "mechanism"
    PARAMETER = "parameter"
    TEMPLATE = "template"
    TEMPLATE_OUT = "template_out"
    BUFFER = "buffer"
    FILL = "fill"
    BYTES_OUT = "bytes_out"
    ULONG_OUT = "ulong_out"
    OBJECT_OUT = "object_out"
    SESSION_OUT = "session_out"
    ULONGS_OUT = "ulongs_out"
    OBJECTS_OUT = "objects_out"
    INFO_OUT = "info_out"
    SLOT_INFO_OUT = "slot_info_out"
    TOKEN_INFO_OUT = "token_info_out"  # noqa: S105 (a kind of token, no password)
    SESSION_INFO_OUT = "session_info_out"
    MECHANISM_INFO_OUT = "mechanism_info_out"
    ASYNC_DATA_OUT = "async_data_out"
    RESERVED = "reserved"
    IGNORED = "ignored"


class Step(StrEnum):
    """What a call does to the operation it belongs to."""

    NONE = "none"
    START = "start"
    WHOLE = "whole"
    CONTINUE = "continue"
    END = "end"


class Effect(StrEnum):
    """What a successful call changes."""

    NONE = "none"
    SESSION = "session"
    LOGIN = "login"
    OBJECTS = "objects"
    TOKEN = "token"  # noqa: S105 (a kind of token, no password)
    CONTEXT = "context"


class AttributeKind(StrEnum):
    """The kind in which an attribute's value travels (docs/wire.md, section 4.2)."""

    BYTES = "bytes"
    ULONG = "ulong"
    ULONGS = "ulongs"
    TEMPLATE = "template"


class MemberKind(StrEnum):
    """How a member of a parameter structure travels (docs/wire.md, section 4.1)."""

    ULONG = "ulong"
    OBJECT = "object"
    BYTE = "byte"
    BYTES = "bytes"
    ULONGS = "ulongs"
    LENGTH = "length"
    STRING = "string"
    STRING_BITS = "string_bits"
    STRING_SIZED = "string_sized"
    STRING_CELL = "string_cell"
    TEXT = "text"
    CELL = "cell"
    OBJECT_CELL = "object_cell"
    VERSION = "version"
    STRUCT = "struct"
    POINTER = "pointer"
    ARRAY = "array"
    TEMPLATE = "template"
    MECHANISM = "mechanism"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call.

    Attributes:
        kind: How it travels.
        names: The C arguments that it stands for.
    """

    kind: Kind
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One function of the function list.

    Attributes:
        number: Position in CK_FUNCTION_LIST_3_2, from 1; the call number on the wire.
        name: The function's name.
        since: First version of the standard whose function list has it: major, minor.
        target: What the first C argument names.
        args: The other arguments, in order.
        local: Answered by the module itself, never sent.
        operation: The operation that it belongs to, or an empty string.
        step: What it does to that operation.
        init: The number of the call that starts the operation, where the two may be fused; else 0.
        effect: What success changes.
        repeat: Whether it may be repeated after an unknown outcome without a second effect.
    """

    number: int
    name: str
    since: tuple[int, int]
    target: Target
    args: tuple[Argument, ...]
    local: bool
    operation: str
    step: Step
    init: int
    effect: Effect
    repeat: bool


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a parameter structure.

    Attributes:
        kind: How it is laid out in C and travels.
        name: Its name in C.
        out: Whether the token may write it.
        count: Elements of `bytes` and `ulongs`; of `string_sized`, a constant length in bytes, or 0 if another member says it.
        shape: The number of the shape of `struct`, `pointer` and `array`.
        length: The name of the member that tells the length, or an empty string; a leading `^` means one of the
            enclosing structure.
        selector: The name of the member that decides what a `choice` is.
        choices: For a `choice`: value of the selector and number of the shape; other values mean bytes.
    """

    kind: MemberKind
    name: str
    out: bool = False
    count: int = 0
    shape: int = 0
    length: str = ""
    selector: str = ""
    choices: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """A structure that a mechanism parameter may have, or that such a structure contains.

    Attributes:
        id: Its number on the wire.
        name: The structure's name in C.
        members: In the order of the declaration.
        out: Whether it, or a structure in it, has members that the token writes.
    """

    id: int
    name: str
    members: tuple[Member, ...]
    out: bool
