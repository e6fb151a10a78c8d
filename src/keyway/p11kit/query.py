"""What C_GetAttributeValue asks and answers (docs/p11-kit-wire.md, section 5)."""

from typing import Final, NamedTuple

from keyway.cryptoki._generated import ATTRIBUTE_KINDS
from keyway.cryptoki.constants import RV
from keyway.cryptoki.table import AttributeKind
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
from keyway.p11kit.attributes import Form
from keyway.p11kit.cursor import MAX_U32, MAX_U64, NULL_MARK, Reader, Writer, checked, wrong
from keyway.p11kit.dialect import Dialect, Nesting
from keyway.p11kit.errors import DecodeError, EncodeError, NotCarried
from keyway.p11kit.limits import MAX_ATTRIBUTES, MAX_NUMBERS, MAX_OUTPUT, deeper
from keyway.p11kit.template import NARROW_SIZE, ULONG_SIZE, is_template, put_type, put_value, value_of

__all__ = ["WITH_ANSWER", "Asker", "answer", "put_answer", "put_query", "query"]

WITH_ANSWER: Final = frozenset(
    {RV.CKR_OK, RV.CKR_ATTRIBUTE_SENSITIVE, RV.CKR_ATTRIBUTE_TYPE_INVALID, RV.CKR_BUFFER_TOO_SMALL}
)
"""The RVs with which attributes travel; with others there is an error alone."""

_NUMBERS: Final = frozenset({AttributeKind.ULONG, AttributeKind.ULONGS})


class Asker(NamedTuple):
    """What a query tells of the one who asked.

    Attributes:
        ulong_size: The size of its CK_ULONG.
        has_templates: Whether it takes templates in an answer.
    """

    ulong_size: int
    has_templates: bool


def put_query(w: Writer, dialect: Dialect, value: object) -> None:
    """Append a query.

    Raises:
        NotCarried: There is no form for it.
    """
    if isinstance(value, Null):
        # A count of 0 would be answered, and the answer ends p11-kit's own clients.
        raise NotCarried(RV.CKR_ARGUMENTS_BAD, "a NULL template")
    _put_rooms(w, dialect, value, 0)


def query(r: Reader, dialect: Dialect, nesting: Nesting) -> tuple[Template, Asker]:
    """Take a query that is laid out in a certain way."""
    narrow: list[int] = []
    entries = _rooms(r, dialect, nesting, narrow, 0)
    return entries, Asker(NARROW_SIZE if narrow else ULONG_SIZE, dialect.has_templates and nesting is not Nesting.NEVER)


def put_answer(w: Writer, dialect: Dialect, asker: Asker, value: object, rv: int) -> int:
    """Append an answer, and return the RV to send with it: one that fits what the answer holds."""
    lost: list[int] = []
    _put_entries(w, dialect, asker, value, lost, 0)
    return int(RV.CKR_ATTRIBUTE_TYPE_INVALID) if lost and rv == RV.CKR_OK else rv


def answer(r: Reader, dialect: Dialect, asked: Template, *, has_items: bool) -> tuple[Template, bool]:
    """Take the answer to a query, and whether there is a value in it that is too long for its room.

    Args:
        r: Where from.
        dialect: The server's.
        asked: The query.
        has_items: Whether a list of mechanisms whose length alone was asked comes with that many items.
    """
    too_long: list[int] = []
    entries = _entries(r, dialect, asked if isinstance(asked, tuple) else (), too_long, 0, has_items=has_items)
    return entries, bool(too_long)


def _put_rooms(w: Writer, dialect: Dialect, entries: object, level: int) -> None:
    if not isinstance(entries, tuple):
        raise wrong("a tuple of attributes", entries)
    level = deeper(level, EncodeError)
    w.count(len(entries), MAX_ATTRIBUTES)
    for entry in entries:
        if not isinstance(entry, Attribute):
            raise wrong("an Attribute", entry)
        put_type(w, entry.type)
        match entry.value:
            case Null():
                w.u32(0)
                if dialect.nesting is Nesting.ALWAYS and dialect.form(entry.type) is Form.TEMPLATE:
                    w.u32(0)
            case RoomBytes() | RoomNumbers() if is_template(dialect, entry.type):
                raise NotCarried(RV.CKR_ATTRIBUTE_TYPE_INVALID, "room for a template that is none")
            case RoomBytes(capacity):
                w.u32(_capped(capacity))
            case RoomNumbers(capacity):
                w.u32(_capped(checked(capacity, MAX_U64) * ULONG_SIZE))
            case tuple() as nested:
                if dialect.nesting is Nesting.NEVER or dialect.form(entry.type) is not Form.TEMPLATE:
                    raise NotCarried(RV.CKR_ATTRIBUTE_TYPE_INVALID, "the peer takes no nested templates")
                w.u32(len(nested) * 3 * ULONG_SIZE)
                if nested or dialect.nesting is Nesting.ALWAYS:
                    _put_rooms(w, dialect, nested, level)
            case other:
                raise wrong("room for the value of an attribute", other)


def _capped(size: int) -> int:
    return min(checked(size, MAX_U64 * ULONG_SIZE), MAX_OUTPUT)


def _rooms(r: Reader, dialect: Dialect, nesting: Nesting, narrow: list[int], level: int) -> tuple[Attribute, ...]:
    level = deeper(level, DecodeError)
    entries: list[Attribute] = []
    for _ in range(r.count(r.u32(), MAX_ATTRIBUTES)):
        type_, size = r.u32(), r.u32()
        if dialect.form(type_) is Form.TEMPLATE:
            # Without the rooms inside there is only the length to tell.
            nested = nesting is Nesting.ALWAYS or (nesting is Nesting.ROOM and size != 0)
            inner = _rooms(r, dialect, nesting, narrow, level) if nested else ()
            entries.append(Attribute(type_, inner if nested and size else Null()))
            continue
        if size == NARROW_SIZE and dialect.form(type_) is Form.ULONG:
            narrow.append(type_)
        entries.append(Attribute(type_, _room(dialect, type_, size)))
    return tuple(entries)


def _room(dialect: Dialect, type_: int, size: int) -> AttributeValue:
    kind = ATTRIBUTE_KINDS.get(type_, AttributeKind.BYTES)
    if size == 0 or kind is AttributeKind.TEMPLATE:
        return Null()
    if kind in _NUMBERS:
        if size == NARROW_SIZE and dialect.form(type_) is Form.ULONG:
            return RoomNumbers(1)
        if size % ULONG_SIZE == 0:
            return RoomNumbers(min(size // ULONG_SIZE, MAX_NUMBERS))
    return RoomBytes(min(size, MAX_OUTPUT))


def _put_entries(w: Writer, dialect: Dialect, asker: Asker, entries: object, lost: list[int], level: int) -> None:
    if not isinstance(entries, tuple):
        raise wrong("a tuple of attributes", entries)
    level = deeper(level, EncodeError)
    w.count(len(entries), MAX_ATTRIBUTES)
    for entry in entries:
        if not isinstance(entry, Attribute):
            raise wrong("an Attribute", entry)
        put_type(w, entry.type)
        form = dialect.form(entry.type)
        value = entry.value
        length = _length_alone(value, asker.ulong_size)
        start = len(w.body)
        if isinstance(value, Unavailable) or (form is Form.TEMPLATE and not asker.has_templates):
            w.present(False)
            lost.append(entry.type)
        elif form is Form.TEMPLATE and isinstance(value, tuple):
            w.present(True)
            w.u32(len(value) * 3 * asker.ulong_size)
            _put_entries(w, dialect, asker, value, lost, level)
        elif length is not None and (length > MAX_OUTPUT or not _put_length(w, form, length, asker)):
            w.present(False)
            lost.append(entry.type)
        elif length is None:
            try:
                put_value(w, dialect, entry.type, value, asker.ulong_size)
            except NotCarried:
                # The module answers an attribute in another length than its own: the others must not be lost for that.
                del w.body[start:]
                w.present(False)
                lost.append(entry.type)


def _length_alone(value: object, ulong_size: int) -> int | None:
    match value:
        case Null(length):
            return checked(length, MAX_U64)
        case LengthNumbers(count):
            return checked(count, MAX_U64) * ulong_size
        case LengthAttributes(count):
            return checked(count, MAX_U64) * 3 * ulong_size
        case _:
            return None


def _put_length(w: Writer, form: Form, length: int, asker: Asker) -> bool:
    """Append validity and length, and in the place of the value what decoders expect there."""
    items = length // asker.ulong_size
    if form is Form.MECHANISMS and items > MAX_NUMBERS:
        return False
    w.present(True)
    w.u32(length)
    match form:
        case Form.BYTE:
            w.u8(0)
        case Form.ULONG:
            w.u64(0)
        case Form.MECHANISMS:
            # Every decoder reads as many items as the count says, also where the stock server sends none.
            w.u32(items)
            w.put(bytes(8 * items))
        case Form.TEMPLATE:
            w.u32(0)
        case _:
            w.u32(NULL_MARK)
    return True


def _entries(
    r: Reader,
    dialect: Dialect,
    asked: tuple[Attribute, ...],
    too_long: list[int],
    level: int,
    *,
    has_items: bool,
) -> tuple[Attribute, ...]:
    level = deeper(level, DecodeError)
    count = r.count(r.u32(), MAX_ATTRIBUTES)
    if level == 1 and count != len(asked):
        raise DecodeError(f"{count} attributes are answered where {len(asked)} were asked")
    entries: list[Attribute] = []
    for index in range(count):
        type_ = r.u32()
        room = asked[index].value if index < len(asked) else Null()
        # The types in a nested template are the token's to tell.
        if level == 1 and type_ != asked[index].type:
            raise DecodeError(f"attribute {index} of the answer is not the one that was asked")
        if not r.is_present():
            entries.append(Attribute(type_, Unavailable()))
            continue
        length = r.u32()
        is_length = isinstance(room, Null)
        if length > MAX_U32 - 1:
            raise DecodeError(f"the length before byte {r.at} has no meaning")
        if dialect.form(type_) is Form.TEMPLATE:
            inner = room if isinstance(room, tuple) else ()
            nested = _entries(r, dialect, inner, too_long, level, has_items=has_items)
            is_whole = isinstance(room, tuple) and len(nested) == length // (3 * ULONG_SIZE)
            value: AttributeValue = nested if is_whole else LengthAttributes(length // (3 * ULONG_SIZE))
            if not is_whole and not is_length:
                too_long.append(type_)
        elif is_length and dialect.form(type_) is Form.MECHANISMS and not has_items:
            r.u32()
            value = _length(type_, length)
        elif is_length:
            _skip(r, dialect, type_)
            value = _length(type_, length)
        else:
            value = value_of(r, dialect, type_, length)
            if isinstance(value, Null) or _size(value) > _capacity(room):
                # Some servers tell the length of the encoded value: what counts is the value, where there is one.
                value = _length(type_, length if isinstance(value, Null) else _size(value))
                if value not in (Null(), LengthNumbers(0)):
                    too_long.append(type_)
        entries.append(Attribute(type_, value))
    return tuple(entries)


def _skip(r: Reader, dialect: Dialect, type_: int) -> None:
    match dialect.form(type_):
        case Form.BYTE:
            r.u8()
        case Form.ULONG:
            r.u64()
        case Form.MECHANISMS:
            r.numbers(r.u32(), MAX_NUMBERS)
        case _:
            r.data()


def _length(type_: int, length: int) -> AttributeValue:
    match ATTRIBUTE_KINDS.get(type_):
        case AttributeKind.ULONG | AttributeKind.ULONGS:
            return LengthNumbers(length // ULONG_SIZE)
        case AttributeKind.TEMPLATE:
            return LengthAttributes(length // (3 * ULONG_SIZE))
        case _:
            return Null(length)


def _size(value: AttributeValue) -> int:
    match value:
        case bytes():
            return len(value)
        case int():
            return ULONG_SIZE
        case NumberArray(numbers):
            return len(numbers) * ULONG_SIZE
        case _:
            return 0


def _capacity(room: AttributeValue) -> int:
    match room:
        case RoomBytes(capacity):
            return capacity
        case RoomNumbers(capacity):
            return capacity * ULONG_SIZE
        case _:
            return 0
