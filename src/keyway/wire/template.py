"""Templates, queries and answers (docs/wire.md, section 4.2)."""

from collections.abc import Callable
from enum import Enum
from typing import Final

from keyway.cryptoki.values import (
    Attribute,
    AttributeValue,
    LengthAttributes,
    LengthNumbers,
    Null,
    NumberArray,
    RoomBytes,
    RoomNumbers,
    Template,
    Unavailable,
)
from keyway.wire.basic import array, data, put_array, put_data
from keyway.wire.cursor import NULL_MARK, Reader, Writer, wrong
from keyway.wire.errors import EncodeError
from keyway.wire.header import MAX_ATTRIBUTES
from keyway.wire.level import deeper

TEMPLATE_TAG: Final = 4
ROOM_TEMPLATE_TAG: Final = 7


class Form(Enum):
    """The three forms of a template, and the tags that each allows."""

    TEMPLATE = frozenset({0, 1, 2, 3, 4})
    QUERY = frozenset({0, 5, 6, 7})
    ANSWER = frozenset({0, 1, 2, 3, 4, 8, 9, 255})


_TAKE: Final[dict[int, Callable[[Reader], AttributeValue]]] = {
    0: lambda r: Null(r.u64()),
    1: data,
    2: Reader.u64,
    3: lambda r: NumberArray(array(r)),
    5: lambda r: RoomBytes(r.u64()),
    6: lambda r: RoomNumbers(r.u64()),
    8: lambda r: LengthNumbers(r.u64()),
    9: lambda r: LengthAttributes(r.u64()),
    255: lambda r: Unavailable(),
}


def put_template(w: Writer, form: Form, value: object, level: int) -> None:
    """Append a template; the answer to a NULL query carries no count.

    Args:
        w: Where to.
        form: Which of the three forms.
        value: A `Template`.
        level: How many levels are around it.
    """
    if isinstance(value, Null):
        w.u32(NULL_MARK)
        if form is not Form.ANSWER:
            w.u64(value.length)
    else:
        _put_attributes(w, form, value, level)


def template(r: Reader, form: Form, level: int) -> Template:
    """Take a template; see `put_template`."""
    count = r.u32()
    if count != NULL_MARK:
        return _attributes(r, form, count, level)
    return Null() if form is Form.ANSWER else Null(r.u64())


def _put_attributes(w: Writer, form: Form, attributes: object, level: int) -> None:
    if not isinstance(attributes, tuple):
        raise wrong("a tuple of attributes", attributes)
    level = deeper(level, EncodeError)
    w.count(len(attributes), MAX_ATTRIBUTES)
    for attribute in attributes:
        if not isinstance(attribute, Attribute):
            raise wrong("an Attribute", attribute)
        w.u64(attribute.type)
        _put_value(w, form, attribute.value, level)


def _put_value(w: Writer, form: Form, value: object, level: int) -> None:
    def tag(number: int) -> None:
        if number not in form.value:
            raise EncodeError(f"a value of type {type(value).__name__} has no place in a {form.name.lower()}")
        w.u8(number)

    match value:
        case Null(number):
            tag(0)
            w.u64(number)
        case bytes():
            tag(1)
            put_data(w, value)
        case int():
            tag(2)
            w.u64(value)
        case NumberArray(numbers):
            tag(3)
            put_array(w, numbers)
        case tuple():
            tag(ROOM_TEMPLATE_TAG if form is Form.QUERY else TEMPLATE_TAG)
            _put_attributes(w, form, value, level)
        case RoomBytes(number):
            tag(5)
            w.u64(number)
        case RoomNumbers(number):
            tag(6)
            w.u64(number)
        case LengthNumbers(number):
            tag(8)
            w.u64(number)
        case LengthAttributes(number):
            tag(9)
            w.u64(number)
        case Unavailable():
            tag(255)
        case _:
            raise wrong("the value of an attribute", value)


def _attributes(r: Reader, form: Form, count: int, level: int) -> tuple[Attribute, ...]:
    level = deeper(level)
    r.count(count, MAX_ATTRIBUTES)
    # A list that grows with what is there: a count alone reserves nothing.
    attributes: list[Attribute] = []
    for _ in range(count):
        type_ = r.u64()
        tag = r.u8()
        if tag not in form.value:
            raise r.unknown(tag)
        nested = tag in (TEMPLATE_TAG, ROOM_TEMPLATE_TAG)
        value = _attributes(r, form, r.u32(), level) if nested else _TAKE[tag](r)
        attributes.append(Attribute(type_, value))
    return tuple(attributes)
