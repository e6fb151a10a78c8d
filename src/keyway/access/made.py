"""What templates say of the objects that they make, and what mechanism parameters hold of interest."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

from keyway.access.calls import number_of
from keyway.access.role import ObjectFacts
from keyway.cryptoki import Attribute, Mechanism, Null, Structured, Template
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_SENSITIVE,
    CKA_TOKEN,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)

__all__ = ["COPIES", "MAKES", "exports", "inner_mechanisms", "inner_templates", "made", "puts_on_token"]

COPIES: Final = frozenset(map(number_of, ("C_CopyObject", "C_SetAttributeValue")))
"""Calls whose template changes what an object has."""

MAKES: Final[Mapping[int, tuple[int | None, ...]]] = {
    **dict.fromkeys(COPIES, (None,)),
    number_of("C_CreateObject"): (None,),
    number_of("C_GenerateKey"): (CKO_SECRET_KEY,),
    number_of("C_GenerateKeyPair"): (CKO_PUBLIC_KEY, CKO_PRIVATE_KEY),
    number_of("C_UnwrapKey"): (None,),
    number_of("C_UnwrapKeyAuthenticated"): (None,),
    number_of("C_DeriveKey"): (CKO_SECRET_KEY,),
    number_of("C_EncapsulateKey"): (CKO_SECRET_KEY,),
    number_of("C_DecapsulateKey"): (CKO_SECRET_KEY,),
}
"""Calls that make or change objects: the class that each of their templates has when it names none."""


def made(number: int, place: int, template: Template, base: ObjectFacts) -> ObjectFacts | None:
    """Return what a made object will be known by; None if the template says it in no clear way.

    Args:
        number: One of `MAKES`.
        place: Which of its templates, from 0. Those in a mechanism's parameter come after them.
        template: The template.
        base: What is changed or copied; of no meaning for other calls.
    """
    classes = MAKES[number]
    if number not in COPIES:
        base = ObjectFacts(class_=classes[min(place, len(classes) - 1)], on_token=False)
    given: dict[str, Any] = {}
    for attribute in _attributes(template):
        field = _FIELDS.get(attribute.type)
        if field is None:
            continue
        name, kind = field
        if name in given or not isinstance(attribute.value, kind):
            return None  # Which of the two counts, or what it means, is up to the token.
        given[name] = attribute.value
    return base._replace(**given, on_token=puts_on_token(template, base))


def puts_on_token(template: Template, base: ObjectFacts) -> bool:
    """Tell whether what is made may stay on the token; `base` is what it is a copy of."""
    said = [not _is(attribute, is_true=False) for attribute in _attributes(template) if attribute.type == CKA_TOKEN]
    return any(said) if said else base.on_token


def exports(template: Template) -> bool:
    """Tell whether a template, or one within it, lets a key leave the token: it is to be extractable, or not sensitive."""
    return any(
        (attribute.type == CKA_EXTRACTABLE and not _is(attribute, is_true=False))
        or (attribute.type == CKA_SENSITIVE and not _is(attribute, is_true=True))
        or (isinstance(attribute.value, tuple) and exports(attribute.value))
        for attribute in _attributes(template)
    )


def inner_mechanisms(mechanism: Mechanism | None) -> Iterator[int]:
    """Yield the mechanisms within the parameter of a mechanism."""
    return (each.type for each in _walk(mechanism and mechanism.parameter) if isinstance(each, Mechanism))


def inner_templates(mechanism: Mechanism | None) -> Iterator[Template]:
    """Yield the templates within the parameter of a mechanism, of further keys that it makes."""
    return (each for each in _walk(mechanism and mechanism.parameter) if _is_template(each))


_FIELDS: Final[Mapping[int, tuple[str, type]]] = {
    CKA_CLASS: ("class_", int),
    CKA_KEY_TYPE: ("key_type", int),
    CKA_LABEL: ("label", bytes),
    CKA_ID: ("id", bytes),
}


def _attributes(template: Template) -> tuple[Attribute, ...]:
    return () if isinstance(template, Null) else template


def _is(attribute: Attribute, *, is_true: bool) -> bool:
    """Tell whether an attribute is this CK_BBOOL without doubt."""
    value = attribute.value
    return isinstance(value, bytes) and len(value) == 1 and bool(value[0]) is is_true


def _is_template(value: object) -> TypeGuard[tuple[Attribute, ...]]:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], Attribute)


def _walk(value: object) -> Iterator[object]:
    match value:
        case Mechanism(parameter=inner):
            yield value
            yield from _walk(inner)
        case Structured(members=members):
            yield from _walk(members)
        case tuple():
            yield value
            for each in value:
                yield from _walk(each)
