"""What one role says of one thing, and why. What an identity may do is what one of its roles says yes to in everything (`keyway.access.policy`)."""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from keyway.access.calls import ADMINISTRATION, EXPORTS, FREE, STARTS, UNJUDGED, number_of
from keyway.access.made import COPIES, MAKES, exports, made, puts_on_token
from keyway.access.mechanisms import PADDING_ORACLES, UNPADS
from keyway.access.role import ObjectFacts, Role
from keyway.cryptoki import RV, SECRET_ATTRIBUTES, Template
from keyway.cryptoki.constants import (
    CKF_RW_SESSION,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_DOMAIN_PARAMETERS,
    CKO_HW_FEATURE,
    CKO_MECHANISM,
    CKO_PROFILE,
    CKO_PUBLIC_KEY,
    CKO_TRUST,
    CKO_VALIDATION,
    CKU_SO,
)

__all__ = ["CHANGES", "Finding", "call", "changes", "login", "making", "mechanism", "opening", "reading", "sight"]

CHANGES: Final = frozenset(map(number_of, ("C_SetAttributeValue", "C_DestroyObject")))
"""Calls that change or destroy an object."""
_OPEN_CLASSES: Final = frozenset(
    {
        CKO_CERTIFICATE,
        CKO_DATA,
        CKO_DOMAIN_PARAMETERS,
        CKO_HW_FEATURE,
        CKO_MECHANISM,
        CKO_PROFILE,
        CKO_PUBLIC_KEY,
        CKO_TRUST,
        CKO_VALIDATION,
    }
)
"""Objects whose CKA_VALUE is no key."""


class Finding(NamedTuple):
    """What a role says.

    Attributes:
        rv: The CK_RV that refuses; None if the role allows it.
        option: The option of [role.NAME] that decides; empty if none does.
        why: The reason, to be read behind the name of the option.
    """

    rv: int | None
    option: str
    why: str


def call(role: Role, number: int) -> Finding:
    """Judge a call, whatever its arguments."""
    if number in FREE:
        return Finding(None, "", "it uses no key, and whoever sees the token may call it")
    if number in ADMINISTRATION:
        return _administration(role)
    if number in UNJUDGED:
        if role.is_unlimited:
            return Finding(None, "", "the role is limited in nothing")
        return Finding(
            RV.CKR_FUNCTION_NOT_SUPPORTED, "", "nobody can tell what it goes on with, and the role is limited"
        )
    starts = STARTS.get(number)
    if starts is None:
        return Finding(RV.CKR_FUNCTION_NOT_SUPPORTED, "", "no rule knows the call")
    if role.functions is not None and not starts <= role.functions:
        return Finding(RV.CKR_FUNCTION_NOT_SUPPORTED, "functions", "does not name it")
    if number in EXPORTS and not role.export:
        return Finding(RV.CKR_ACTION_PROHIBITED, "export", f"is off: {EXPORTS[number]}")
    if role.functions is None:
        return Finding(None, "functions", "is not given, so all are allowed")
    return Finding(None, "functions", "names it")


def _administration(role: Role) -> Finding:
    if role.read_only:
        return Finding(RV.CKR_TOKEN_WRITE_PROTECTED, "read_only", "is on")
    if not role.administration:
        return Finding(RV.CKR_FUNCTION_NOT_SUPPORTED, "administration", "is off")
    return Finding(None, "administration", "is on")


def opening(role: Role, flags: int) -> Finding:
    """Judge C_OpenSession by its flags."""
    if role.read_only and flags & CKF_RW_SESSION:
        return Finding(RV.CKR_TOKEN_WRITE_PROTECTED, "read_only", "is on, and the session is a read-write one")
    return Finding(None, "read_only", "does not forbid the session")


def login(role: Role, user_type: int) -> Finding:
    """Judge C_Login and C_LoginUser by who logs in: wrong PINs of the security officer lock more than a key."""
    if user_type == CKU_SO and not role.administration:
        return Finding(RV.CKR_USER_TYPE_INVALID, "administration", "is off, and this is the security officer")
    return Finding(None, "administration", "does not forbid the login")


def mechanism(role: Role, number: int, mechanisms: Collection[int]) -> Finding:
    """Judge mechanisms for a call.

    Args:
        role: The role.
        number: The call.
        mechanisms: The mechanism, and those in its parameter.
    """
    if role.mechanisms is not None and not role.mechanisms.issuperset(mechanisms):
        return Finding(RV.CKR_MECHANISM_INVALID, "mechanisms", "does not name it")
    if role.no_padding_oracles and number in UNPADS:
        for each in mechanisms:
            if each in PADDING_ORACLES:
                return Finding(RV.CKR_MECHANISM_INVALID, "no_padding_oracles", f"is on: {PADDING_ORACLES[each]}")
    if role.mechanisms is None:
        return Finding(None, "mechanisms", "is not given, so all are allowed")
    return Finding(None, "mechanisms", "names it")


def sight(role: Role, facts: ObjectFacts) -> Finding:
    """Judge whether an object is there for a role."""
    if role.objects is None:
        return Finding(None, "objects", "is not given, so all are visible")
    for place, rule in enumerate(role.objects, 1):
        if rule.matches(facts):
            return Finding(None, "objects", f"has rule {place}, which matches it")
    return Finding(RV.CKR_OBJECT_HANDLE_INVALID, "objects", "has no rule that matches it")


def reading(role: Role, facts: ObjectFacts, attributes: Collection[int]) -> Finding:
    """Judge C_GetAttributeValue by the attributes that are asked for."""
    if role.export or facts.class_ in _OPEN_CLASSES or SECRET_ATTRIBUTES.isdisjoint(attributes):
        return Finding(None, "export", "does not forbid what is read")
    return Finding(RV.CKR_ATTRIBUTE_SENSITIVE, "export", "is off, and this reads the key itself")


def changes(role: Role, number: int, objects: Sequence[ObjectFacts], *, read_write: bool) -> Finding:
    """Judge whether a call may change or destroy objects. In a read-only session the token itself sees to those on it."""
    if role.read_only and read_write and number in CHANGES and any(facts.on_token for facts in objects):
        return Finding(RV.CKR_SESSION_READ_ONLY, "read_only", "is on, and the object is on the token")
    return Finding(None, "read_only", "does not forbid the change")


def making(
    role: Role, number: int, templates: Sequence[Template], base: ObjectFacts, *, read_write: bool = True
) -> Finding:
    """Judge what a call makes.

    Args:
        role: The role.
        number: The call.
        templates: Its templates.
        base: What C_CopyObject and C_SetAttributeValue begin with.
        read_write: Whether the session is a read-write one.
    """
    if number not in MAKES:
        return Finding(None, "", "nothing is made")
    if not role.export and any(map(exports, templates)):
        return Finding(
            RV.CKR_ACTION_PROHIBITED, "export", "is off, and the template makes a key extractable or not sensitive"
        )
    if role.read_only and _stays(number, templates, base, read_write=read_write):
        return Finding(RV.CKR_SESSION_READ_ONLY, "read_only", "is on, and the template makes something on the token")
    if role.objects is not None:
        for place, template in enumerate(templates):
            facts = made(number, place, template, base)
            if facts is None:
                return Finding(RV.CKR_TEMPLATE_INCONSISTENT, "objects", "can't be compared with an unclear template")
            if not role.sees(facts):
                return Finding(RV.CKR_ACTION_PROHIBITED, "objects", "has no rule that matches what would be made")
    return Finding(None, "objects", "does not forbid what would be made")


def _stays(number: int, templates: Sequence[Template], base: ObjectFacts, *, read_write: bool) -> bool:
    # What a copy inherits without a word is the token's to judge in a read-only session.
    inherited = base if number in COPIES and read_write else base._replace(on_token=False)
    return any(puts_on_token(template, inherited) for template in templates)
