"""The values of Cryptoki calls: what arguments, attributes, mechanism parameters and structures hold.

Absent, empty and present are three different things everywhere: a pointer that may be NULL is `X | Null` where a length came with it and
`X | None` where nothing did, so `b""` and `Null(0)` are different values. Nothing here checks ranges; the codecs do.

Contents of byte strings are never part of a repr: they may be PINs, keys or plaintext.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple, TypeAlias

__all__ = [
    "Attribute",
    "AttributeValue",
    "ByteString",
    "Fill",
    "Info",
    "LengthAttributes",
    "LengthNumbers",
    "Mechanism",
    "MechanismInfo",
    "MemberValue",
    "ModuleInfo",
    "Null",
    "NumberArray",
    "Numbers",
    "ObjectsRoom",
    "Opaque",
    "Output",
    "Parameter",
    "Room",
    "RoomBytes",
    "RoomNumbers",
    "SessionInfo",
    "SlotInfo",
    "Structured",
    "Template",
    "TokenInfo",
    "Unavailable",
    "Unchanged",
    "Value",
    "Version",
]


class Opaque(bytes):
    """Bytes that do not show what they are: PINs, data, keys. Equal to the same `bytes`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        inner = ", ".join(map(_shown, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


class _Concealed:
    """A dataclass whose repr tells lengths instead of bytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        inner = ", ".join(f"{f.name}={_shown(getattr(self, f.name))}" for f in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({inner})"


@dataclass(frozen=True, slots=True)
class Null:
    """A NULL pointer, and the length or count argument that came with it."""

    length: int = 0


ByteString: TypeAlias = bytes | Null


@dataclass(frozen=True, slots=True)
class Room:
    """An output buffer or array as the caller offers it.

    Attributes:
        length: What the length pointer points to (bytes, or elements for arrays); None if that pointer is NULL.
        has_buffer: Whether the buffer pointer is not NULL.
    """

    length: int | None
    has_buffer: bool


@dataclass(frozen=True, slots=True)
class ObjectsRoom:
    """The output array of C_FindObjects, whose size is an argument of its own.

    Attributes:
        maximum: The maximum argument: how many handles the array can hold.
        has_count: Whether the pointer to the count is not NULL.
        has_buffer: Whether the pointer to the array is not NULL.
    """

    maximum: int
    has_count: bool
    has_buffer: bool


@dataclass(frozen=True, slots=True, repr=False)
class Output(_Concealed):
    """What became of an output buffer.

    Attributes:
        length: The length in bytes as the module left it; None if the request had no length pointer.
        data: The data, if it was written.
    """

    length: int | None
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """What became of an output array of numbers (slots, mechanisms, object handles).

    Attributes:
        count: The count as the module left it; None if the request had no count pointer.
        data: The numbers, if they were written.
    """

    count: int | None
    data: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Fill:
    """A buffer that a call fills wholly (C_GenerateRandom).

    Attributes:
        has_buffer: Whether the pointer is not NULL.
        length: The length argument in bytes.
    """

    has_buffer: bool
    length: int


@dataclass(frozen=True, slots=True)
class Unchanged:
    """In replies: a mechanism parameter to which the token wrote nothing that the caller could see."""


@dataclass(frozen=True, slots=True, repr=False)
class Structured(_Concealed):
    """A mechanism parameter that is a structure of a known shape.

    Attributes:
        shape: Number of the shape (spec/mechanisms.toml).
        members: One value for each member that travels, in the order of the shape.
    """

    shape: int
    members: tuple[MemberValue, ...]


Parameter: TypeAlias = Null | bytes | Structured | Unchanged
"""A mechanism parameter: NULL, flat bytes, a structure, or (in replies) unchanged."""


@dataclass(frozen=True, slots=True, repr=False)
class Mechanism(_Concealed):
    """CK_MECHANISM.

    Attributes:
        type: CK_MECHANISM_TYPE; unknown ones are as good as known ones.
        parameter: The parameter.
    """

    type: int
    parameter: Parameter = Null()


@dataclass(frozen=True, slots=True)
class NumberArray:
    """The value of an attribute that is an array of CK_ULONG, such as CKA_ALLOWED_MECHANISMS."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RoomBytes:
    """In a query: room for a value of so many bytes."""

    capacity: int


@dataclass(frozen=True, slots=True)
class RoomNumbers:
    """In a query: room for so many CK_ULONG."""

    capacity: int


@dataclass(frozen=True, slots=True)
class LengthNumbers:
    """In an answer: only the length of the value, as a count of CK_ULONG."""

    count: int


@dataclass(frozen=True, slots=True)
class LengthAttributes:
    """In an answer: only the length of the value, as a count of CK_ATTRIBUTE."""

    count: int


@dataclass(frozen=True, slots=True)
class Unavailable:
    """In an answer: ulValueLen is CK_UNAVAILABLE_INFORMATION."""


@dataclass(frozen=True, slots=True, repr=False)
class Attribute(_Concealed):
    """CK_ATTRIBUTE.

    Attributes:
        type: CK_ATTRIBUTE_TYPE; unknown ones are as good as known ones.
        value: The value by kind.
    """

    type: int
    value: AttributeValue


AttributeValue: TypeAlias = (
    Null
    | bytes
    | int
    | NumberArray
    | tuple[Attribute, ...]
    | RoomBytes
    | RoomNumbers
    | LengthNumbers
    | LengthAttributes
    | Unavailable
)
"""An attribute's value; in C_GetAttributeValue also the room for one and what became of it. `Null` in an answer is a length in bytes."""

Template: TypeAlias = tuple[Attribute, ...] | Null
"""The attributes, or NULL with the count that came with it."""


class Version(NamedTuple):
    """CK_VERSION."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


MemberValue: TypeAlias = (
    "int | bytes | Null | tuple[int, ...] | tuple[MemberValue, ...] | Template | Mechanism | Parameter | Version | None"
)
"""A member of a parameter structure; which of these it is follows from the shape."""


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """CK_INFO."""

    cryptoki_version: Version
    manufacturer_id: bytes
    flags: int
    library_description: bytes
    library_version: Version


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """CK_SLOT_INFO."""

    slot_description: bytes
    manufacturer_id: bytes
    flags: int
    hardware_version: Version
    firmware_version: Version


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """CK_TOKEN_INFO."""

    label: bytes
    manufacturer_id: bytes
    model: bytes
    serial_number: bytes
    flags: int
    max_session_count: int
    session_count: int
    max_rw_session_count: int
    rw_session_count: int
    max_pin_len: int
    min_pin_len: int
    total_public_memory: int
    free_public_memory: int
    total_private_memory: int
    free_private_memory: int
    hardware_version: Version
    firmware_version: Version
    utc_time: bytes


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """CK_SESSION_INFO."""

    slot: int
    state: int
    flags: int
    device_error: int


@dataclass(frozen=True, slots=True)
class MechanismInfo:
    """CK_MECHANISM_INFO. Key sizes are in bits or bytes, as the mechanism says."""

    min_key_size: int
    max_key_size: int
    flags: int


Info: TypeAlias = ModuleInfo | SlotInfo | TokenInfo | SessionInfo | MechanismInfo

Value: TypeAlias = (
    int
    | bool
    | bytes
    | Null
    | Mechanism
    | Parameter
    | Template
    | Room
    | ObjectsRoom
    | Output
    | Numbers
    | Fill
    | ModuleInfo
    | SlotInfo
    | TokenInfo
    | SessionInfo
    | MechanismInfo
    | None
)
"""An argument of a call or of its reply; which of these it is follows from the argument's kind:

`ulong`, `bool`, `object`: int. `bytes`, `pin`, `name`: bytes or `Null`. `label`: 32 bytes or None. `mechanism`: `Mechanism` or None, in a
reply `Parameter`. `parameter`: `Parameter`. `template`, `template_out`: `Template`. `buffer`: `Room`, then `Output`. `ulongs_out`:
`Room`, then `Numbers`. `objects_out`: `ObjectsRoom`, then `Numbers`. `fill`: `Fill`, then bytes or `Null`. `bytes_out`: bytes or `Null`. `ulong_out`, `object_out`,
`session_out`: the number in the cell, None for a NULL pointer. Structures: whether the pointer is not NULL, then the structure or None.
`async_data_out`, `reserved`: whether the pointer is not NULL.
"""
