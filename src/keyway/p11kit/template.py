"""Templates with values (docs/p11-kit-wire.md, section 5)."""

from typing import Final

from keyway.cryptoki._generated import ATTRIBUTE_KINDS
from keyway.cryptoki.constants import CK_UNAVAILABLE_INFORMATION, RV
from keyway.cryptoki.table import AttributeKind
from keyway.cryptoki.values import Attribute, AttributeValue, Null, NumberArray, Opaque, Template
from keyway.p11kit.attributes import Form
from keyway.p11kit.cursor import MAX_U32, MAX_U64, Reader, Writer, checked, wrong
from keyway.p11kit.dialect import Dialect
from keyway.p11kit.errors import DecodeError, EncodeError, NotCarried
from keyway.p11kit.limits import MAX_ATTRIBUTES, MAX_NUMBERS, deeper

__all__ = [
    "ATTRIBUTE_SIZE",
    "ULONG_SIZE",
    "is_template",
    "put_template",
    "put_type",
    "put_value",
    "template",
    "value_of",
]

ULONG_SIZE: Final = 8
NARROW_SIZE: Final = 4
"""A CK_ULONG of a peer with 32 bits, or of one on Windows."""
ATTRIBUTE_SIZE: Final = 3 * ULONG_SIZE
"""A CK_ATTRIBUTE: the unit in which the length of a template is told."""


def put_template(w: Writer, dialect: Dialect, value: object) -> None:
    """Append a template.

    Raises:
        NotCarried: It holds a value for which there is no form.
    """
    if isinstance(value, Null):
        if value.length:
            raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL template with a count")
        w.u32(0)
        return
    _put_attributes(w, dialect, value, 0)


def template(r: Reader, dialect: Dialect) -> Template:
    """Take a template."""
    return _attributes(r, dialect, 0)


def put_type(w: Writer, type_: int) -> None:
    """Append the type of an attribute."""
    if checked(type_, MAX_U64) > MAX_U32:
        raise NotCarried(RV.CKR_ATTRIBUTE_TYPE_INVALID, "a type of more than 32 bits")
    w.u32(type_)


def put_value(w: Writer, dialect: Dialect, type_: int, value: object, ulong_size: int = ULONG_SIZE) -> None:
    """Append validity, length and value of an attribute, but for a nested template."""
    if value == Null(CK_UNAVAILABLE_INFORMATION):
        w.present(False)
        return
    w.present(True)
    match dialect.form(type_):
        case Form.BYTE:
            data = _exact(value, (0, 1))
            w.u32(len(data))
            w.u8(data[0] if data else 0)
        case Form.ULONG:
            _put_ulong(w, dialect, value, ulong_size)
        case Form.MECHANISMS:
            numbers = value.numbers if isinstance(value, NumberArray) else ()
            if not isinstance(value, NumberArray):
                _exact(value, (0,))
            w.u32(len(numbers) * ulong_size)
            w.numbers(numbers, MAX_NUMBERS)
        case Form.DATE:
            data = _exact(value, (0, 8))
            w.u32(len(data))
            w.data(data or None)
        case _:
            if is_template(dialect, type_) and isinstance(value, bytes | int | NumberArray) and value != b"":
                raise NotCarried(RV.CKR_ATTRIBUTE_VALUE_INVALID, "memory of a template holds pointers")
            _put_bytes(w, dialect, value)


def is_template(dialect: Dialect, type_: int) -> bool:
    """Whether the value of an attribute is a template, for the peer's protocol or for its module."""
    return dialect.form(type_) is Form.TEMPLATE or ATTRIBUTE_KINDS.get(type_) is AttributeKind.TEMPLATE


def value_of(r: Reader, dialect: Dialect, type_: int, length: int) -> AttributeValue:
    """Take the value of an attribute behind its length, but for a nested template."""
    kind = ATTRIBUTE_KINDS.get(type_, AttributeKind.BYTES)
    match dialect.form(type_):
        case Form.BYTE:
            byte = r.u8()
            return Opaque((byte,)) if _told(length, (0, 1)) else Null()
        case Form.ULONG:
            number = r.u64()
            if not _told(length, (0, NARROW_SIZE, ULONG_SIZE)):
                return Null()
            return number if kind is AttributeKind.ULONG else Opaque(number.to_bytes(ULONG_SIZE, dialect.order))
        case Form.MECHANISMS:
            return NumberArray(r.numbers(r.u32(), MAX_NUMBERS))
        case _:
            data = r.data()
            return Null() if data is None else _from_memory(data, kind, dialect)


def _put_attributes(w: Writer, dialect: Dialect, attributes: object, level: int) -> None:
    if not isinstance(attributes, tuple):
        raise wrong("a tuple of attributes", attributes)
    level = deeper(level, EncodeError)
    w.count(len(attributes), MAX_ATTRIBUTES)
    for attribute in attributes:
        if not isinstance(attribute, Attribute):
            raise wrong("an Attribute", attribute)
        put_type(w, attribute.type)
        value = attribute.value
        if dialect.form(attribute.type) is not Form.TEMPLATE:
            put_value(w, dialect, attribute.type, value)
        elif not dialect.has_templates:
            raise NotCarried(RV.CKR_ATTRIBUTE_TYPE_INVALID, "the peer takes no nested templates")
        elif value == Null(CK_UNAVAILABLE_INFORMATION):
            w.present(False)
        else:
            nested = value if isinstance(value, tuple) else ()
            if not isinstance(value, tuple):
                _exact(value, (0,))
            w.present(True)
            w.u32(len(nested) * ATTRIBUTE_SIZE)
            _put_attributes(w, dialect, nested, level)


def _attributes(r: Reader, dialect: Dialect, level: int) -> tuple[Attribute, ...]:
    level = deeper(level, DecodeError)
    # A list that grows with what is there: a count alone reserves nothing.
    attributes: list[Attribute] = []
    for _ in range(r.count(r.u32(), MAX_ATTRIBUTES)):
        type_ = r.u32()
        value: AttributeValue
        if not r.is_present():
            value = Null(CK_UNAVAILABLE_INFORMATION)
        else:
            length = r.u32()
            nested = dialect.form(type_) is Form.TEMPLATE
            value = _attributes(r, dialect, level) if nested else value_of(r, dialect, type_, length)
        attributes.append(Attribute(type_, value))
    return tuple(attributes)


def _put_ulong(w: Writer, dialect: Dialect, value: object, ulong_size: int) -> None:
    if isinstance(value, int):
        number, length = value, ulong_size
    else:
        data = _exact(value, (0, ULONG_SIZE))
        number, length = int.from_bytes(data, dialect.order), ulong_size if data else 0
    w.u32(length)
    w.u64(number)


def _put_bytes(w: Writer, dialect: Dialect, value: object) -> None:
    match value:
        case Null(length):
            w.u32(min(length, MAX_U32 - 1))
            w.data(None)
        case bytes():
            w.u32(len(value))
            w.data(value)
        case int():
            w.u32(ULONG_SIZE)
            w.data(checked(value, MAX_U64).to_bytes(ULONG_SIZE, dialect.order))
        case NumberArray(numbers):
            if len(numbers) > MAX_NUMBERS:
                raise EncodeError(f"{len(numbers)} entries are above the limit of {MAX_NUMBERS}")
            w.u32(len(numbers) * ULONG_SIZE)
            w.data(b"".join(checked(number, MAX_U64).to_bytes(ULONG_SIZE, dialect.order) for number in numbers))
        case tuple():
            raise NotCarried(RV.CKR_ATTRIBUTE_TYPE_INVALID, "a template in an attribute that the peer takes for bytes")
        case _:
            raise wrong("the value of an attribute", value)


def _from_memory(data: bytes, kind: AttributeKind, dialect: Dialect) -> AttributeValue:
    """What the protocol takes for bytes may be numbers: then it is the peer's memory."""
    match kind:
        case AttributeKind.ULONG if len(data) in (NARROW_SIZE, ULONG_SIZE):
            return int.from_bytes(data, dialect.order)
        case AttributeKind.ULONGS if data and len(data) % ULONG_SIZE == 0 and len(data) <= MAX_NUMBERS * ULONG_SIZE:
            parts = range(0, len(data), ULONG_SIZE)
            return NumberArray(tuple(int.from_bytes(data[at : at + ULONG_SIZE], dialect.order) for at in parts))
        case AttributeKind.TEMPLATE if data:
            raise DecodeError("a template that came as memory holds pointers", RV.CKR_ATTRIBUTE_TYPE_INVALID)
        case _:
            return data


def _exact(value: object, lengths: tuple[int, ...]) -> bytes:
    """Return the bytes of a value whose form allows certain lengths only; a NULL pointer counts as empty."""
    if isinstance(value, Null) and not value.length:
        return b""
    if not isinstance(value, bytes | Null | int | NumberArray | tuple):
        raise wrong("the value of an attribute", value)
    if not isinstance(value, bytes) or len(value) not in lengths:
        raise NotCarried(RV.CKR_ATTRIBUTE_VALUE_INVALID, "a value of another length than its attribute's")
    return value


def _told(length: int, lengths: tuple[int, ...]) -> int:
    """Return a length that may be told for a value of fixed width."""
    if length not in lengths:
        raise DecodeError(f"a value of {length} bytes", RV.CKR_ATTRIBUTE_VALUE_INVALID)
    return length
