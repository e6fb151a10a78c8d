"""Templates as text: values of attributes that never hold a secret, and the lengths of all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from keyway.cryptoki import (
    SECRET_ATTRIBUTES,
    Attribute,
    LengthAttributes,
    LengthNumbers,
    Null,
    NumberArray,
    RoomBytes,
    RoomNumbers,
    Unavailable,
    attribute_name,
    mechanism_name,
)
from keyway.cryptoki.constants import CKA_ALLOWED_MECHANISMS, NAMES
from keyway.observe.show.text import LISTED, Shown, concealed, count_of, decimal, listed, named, prefix, quoted

__all__ = ["BOOLEANS", "attributes"]

_ATTRIBUTE_NUMBERS: Final[dict[str, Callable[[int], str]]] = {
    "CKA_CLASS": named("object_class"),
    "CKA_KEY_TYPE": named("key_type"),
    "CKA_CERTIFICATE_TYPE": named("certificate_type"),
    "CKA_CERTIFICATE_CATEGORY": named("certificate_category"),
    "CKA_JAVA_MIDP_SECURITY_DOMAIN": named("security_domain"),
    "CKA_HW_FEATURE_TYPE": named("hardware_feature"),
    "CKA_PROFILE_ID": named("profile"),
    "CKA_KEY_GEN_MECHANISM": mechanism_name,
    "CKA_MECHANISM_TYPE": mechanism_name,
    "CKA_NAME_HASH_ALGORITHM": mechanism_name,
}


_PUBLIC: Final = NAMES["attribute"].keys() - SECRET_ATTRIBUTES
"""Attributes whose values may be shown. Those of vendors may not: nobody knows what they hold."""
BOOLEANS: Final = frozenset(
    {
        "CKA_ALWAYS_AUTHENTICATE",
        "CKA_ALWAYS_SENSITIVE",
        "CKA_COLOR",
        "CKA_COPYABLE",
        "CKA_DECAPSULATE",
        "CKA_DECRYPT",
        "CKA_DERIVE",
        "CKA_DESTROYABLE",
        "CKA_ENCAPSULATE",
        "CKA_ENCRYPT",
        "CKA_EXTRACTABLE",
        "CKA_HAS_RESET",
        "CKA_LOCAL",
        "CKA_MODIFIABLE",
        "CKA_NEVER_EXTRACTABLE",
        "CKA_OTP_USER_FRIENDLY_MODE",
        "CKA_PRIVATE",
        "CKA_RESET_ON_INIT",
        "CKA_SECONDARY_AUTH",
        "CKA_SENSITIVE",
        "CKA_SIGN",
        "CKA_SIGN_RECOVER",
        "CKA_TOKEN",
        "CKA_TRUSTED",
        "CKA_UNWRAP",
        "CKA_VERIFY",
        "CKA_VERIFY_RECOVER",
        "CKA_WRAP",
        "CKA_WRAP_WITH_TRUSTED",
        "CKA_X2RATCHET_BOBS1STMSG",
        "CKA_X2RATCHET_ISALICE",
    }
)
"""Attributes of kind bool (spec/attributes.toml)."""
_TEXTS: Final = frozenset({"CKA_APPLICATION", "CKA_LABEL", "CKA_UNIQUE_ID", "CKA_URL"})


def attributes(name: str, value: tuple[Attribute, ...] | Null, *, shows_bytes: bool, is_answer: bool = False) -> Shown:
    """Show a template, a query or an answer.

    Args:
        name: Of the argument.
        value: The attributes.
        shows_bytes: Whether values that are bytes may be shown; numbers and booleans are in any case.
        is_answer: Whether it is an answer, where the length that goes with NULL is that of the value.
    """
    if isinstance(value, Null):
        return Shown(name, concealed(value))
    parts = [_attribute(each, shows_bytes, is_answer) for each in value[:LISTED]]
    if len(value) > LISTED:
        parts.append(Shown(f"{len(value) - LISTED} more", ""))
    return Shown(name, count_of(len(value), "attribute"), tuple(parts))


def _attribute(attribute: Attribute, shows_bytes: bool, is_answer: bool) -> Shown:
    name = attribute_name(attribute.type)
    is_public = attribute.type in _PUBLIC
    match attribute.value:
        case tuple() as nested:
            return attributes(name, nested, shows_bytes=shows_bytes and is_public, is_answer=is_answer)
        case bytes() as data:
            return Shown(name, _attribute_bytes(name, data, is_public, shows_bytes))
        case int() as number:
            return Shown(name, _ATTRIBUTE_NUMBERS.get(name, decimal)(number) if is_public else "a number")
        case NumberArray(numbers):
            show = mechanism_name if attribute.type == CKA_ALLOWED_MECHANISMS else decimal
            return Shown(name, listed(numbers, show) if is_public else count_of(len(numbers), "number"))
        case RoomBytes(capacity):
            return Shown(name, f"room for {count_of(capacity)}")
        case RoomNumbers(capacity):
            return Shown(name, f"room for {count_of(capacity, 'number')}")
        case LengthNumbers(count):
            return Shown(name, f"length {count_of(count, 'number')}")
        case LengthAttributes(count):
            return Shown(name, f"length {count_of(count, 'attribute')}")
        case Unavailable():
            return Shown(name, "unavailable")
        case Null(length) if is_answer:
            return Shown(name, f"length {count_of(length)}")
        case Null() as null:
            return Shown(name, concealed(null))


def _attribute_bytes(name: str, data: bytes, is_public: bool, shows_bytes: bool) -> str:
    if is_public and name in BOOLEANS and data in {b"\0", b"\1"}:
        return "true" if data == b"\1" else "false"
    if not is_public or not shows_bytes:
        return concealed(data)
    return quoted(data) if name in _TEXTS else prefix(data)
