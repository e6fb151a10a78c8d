"""Identities and roles: what their sections must say, and the rules that they make."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, Final

from keyway.access.calls import functions_named
from keyway.access.identity import IdentityRule, covers
from keyway.access.mechanisms import mechanisms_named
from keyway.access.role import ObjectRule, Quota, Role, TokenRule
from keyway.config.errors import Wrong
from keyway.config.options import Config, IdentityOptions, RoleOptions
from keyway.config.uris import token_uri
from keyway.cryptoki import ObjectType, Uri, UriError
from keyway.cryptoki.constants import NAMES
from keyway.cryptoki.uri import OBJECT_CLASSES

__all__ = [
    "check_access",
    "class_named",
    "identity_rules_of",
    "key_type_named",
    "object_rule",
    "roles_of",
    "token_rule",
]

_SCHEME: Final = "pkcs11:"
_DNS: Final = re.compile(r"[A-Za-z0-9_*-]+(?:\.[A-Za-z0-9_*-]+)*")
_EMAIL: Final = re.compile(rf"[!-?A-~]+@{_DNS.pattern}")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_HOST: Final = 3
"""Segments of a URI up to its host."""


def identity_rules_of(config: Config) -> tuple[IdentityRule, ...]:
    """Return the rules for identities in the order of the file; none if nothing is guarded.

    Names of users and groups stand in them as they are in the file (`keyway.config.accounts` turns them into numbers).

    Raises:
        ValueError: A section can't be used. Never of a configuration that was loaded.
    """
    roles = {name: _role(name, options) for name, options in config.roles.items()}
    return tuple(_rule(name, options, roles) for name, options in config.identities.items())


def roles_of(names: Iterable[str], config: Config) -> tuple[Role, ...]:
    """Return roles by the names of their sections.

    Raises:
        ValueError: A section can't be used. Never of a configuration that was loaded.
    """
    return tuple(_role(name, config.roles[name]) for name in names)


def check_access(config: Config, wrong: Wrong) -> None:
    """Check what identities and roles say, of themselves and of one another.

    Args:
        config: Sections that are right each for itself.
        wrong: Told what is not.
    """
    had = {role for each in config.identities.values() for role in each.roles} | {
        role for each in config.views.values() for role in each.roles
    }
    for name, role in config.roles.items():
        _check_role(role, config, ("role", name), wrong)
        if name not in had:
            wrong(("role", name), "no identity has it, and no view")
    earlier: list[IdentityRule] = []
    for name, identity in config.identities.items():
        _check_identity(identity, config, ("identity", name), wrong)
        rule = _rule(name, identity, {})
        if cover := next((each.name for each in earlier if covers(each, rule)), None):
            wrong(("identity", name), f"is never reached: identity.{cover} is for all of these, and comes first")
        earlier.append(rule)


def token_rule(text: str) -> TokenRule:
    """Read one entry of `tokens` of a role.

    Raises:
        ValueError: It is a URI that does not say which token is meant, or says more.
    """
    if not text.lower().startswith(_SCHEME):
        return TokenRule(name=text)
    uri = token_uri(text)
    if uri.vendor or any(each is not None for each in (uri.slot_id, uri.slot_description, uri.slot_manufacturer)):
        raise ValueError("says something that is not of the token: token, manufacturer, model and serial are")
    return TokenRule(uri=uri)


def object_rule(table: Mapping[str, str]) -> ObjectRule:
    """Read one entry of `objects` of a role.

    Raises:
        ValueError: A key is unknown or has a value that it can't have.
    """
    if not table:
        raise ValueError("is empty; leave objects out if all are meant")
    given: dict[str, Any] = {}
    for key, text in table.items():
        if key not in _OBJECT_KEYS:
            raise ValueError(f"{key} is unknown; known here: {', '.join(_OBJECT_KEYS)}")
        field, read = _OBJECT_KEYS[key]
        given[field] = read(text)
    return ObjectRule(**given)


def class_named(text: str) -> int:
    """Return CKA_CLASS by a type of RFC 7512 (private) or a name (CKO_PRIVATE_KEY).

    Raises:
        ValueError: It is neither.
    """
    if text in tuple(ObjectType):
        return OBJECT_CLASSES[ObjectType(text)]
    return _numbered("object_class", text, f"is no class: {', '.join(ObjectType)}, or CKO_...")


def key_type_named(text: str) -> int:
    """Return CKA_KEY_TYPE by a name (CKK_EC).

    Raises:
        ValueError: It is none.
    """
    return _numbered("key_type", text, "is no key type (CKK_...)")


def _numbered(kind: str, text: str, problem: str) -> int:
    for number, name in NAMES[kind].items():
        if name == text:
            return number
    raise ValueError(f"{text} {problem}")


def _id(text: str) -> bytes:
    # fromhex() takes blanks.
    if not re.fullmatch("(?:[0-9A-Fa-f]{2})+", text):
        raise ValueError(f"id {text} is not hexadecimal, two digits for each byte")
    return bytes.fromhex(text)


def _object_uri(text: str) -> Uri:
    try:
        uri = Uri.parse(text)
    except UriError as error:
        raise ValueError(f"no PKCS #11 URI: {error}") from None
    if not uri.names_object or uri != Uri(object=uri.object, type=uri.type, id=uri.id):
        raise ValueError("uri says something that is not of the object: object, type and id are")
    return uri


_OBJECT_KEYS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "class": ("class_", class_named),
    "key_type": ("key_type", key_type_named),
    "label": ("label", str),
    "id": ("id", _id),
    "uri": ("uri", _object_uri),
}


def _role(name: str, options: RoleOptions) -> Role:
    return Role(
        name=name,
        tokens=tuple(map(token_rule, options.tokens)),
        objects=None if options.objects is None else tuple(map(object_rule, options.objects)),
        mechanisms=_all(options.mechanisms, mechanisms_named),
        functions=_all(options.functions, functions_named),
        read_only=options.read_only,
        administration=options.administration,
        export=options.export,
        no_padding_oracles=options.no_padding_oracles,
        quota=Quota(options.sessions, options.operations_per_second, options.bytes_per_second),
    )


def _all(words: Iterable[str] | None, named: Callable[[str], frozenset[int]]) -> frozenset[int] | None:
    return None if words is None else frozenset(chain.from_iterable(map(named, words)))


def _rule(name: str, options: IdentityOptions, roles: Mapping[str, Role]) -> IdentityRule:
    return IdentityRule(
        name=name,
        roles=tuple(roles[each] for each in options.roles) if roles else (),
        users=frozenset(options.user or ()),
        groups=frozenset(options.group or ()),
        dns=frozenset(options.dns or ()),
        uris=frozenset(options.uri or ()),
        emails=frozenset(options.email or ()),
        subjects=frozenset(options.subject or ()),
        principals=frozenset(options.principal or ()),
        listeners=frozenset(options.listener or ()),
        offers=frozenset(options.offer or ()),
        contexts=options.contexts,
    )


def _check_role(role: RoleOptions, config: Config, path: tuple[str, ...], wrong: Wrong) -> None:
    if not role.tokens:
        wrong((*path, "tokens"), 'is empty; "pkcs11:" is all tokens')
    for text in role.tokens:
        _try((*path, "tokens"), text, token_rule, wrong)
        if not text.lower().startswith(_SCHEME) and text not in config.tokens:
            wrong((*path, "tokens"), f"{text} is no PKCS #11 URI, and there is no section [token.{text}]")
    for number, table in enumerate(role.objects or (), 1):
        _try((*path, "objects"), table, object_rule, wrong, f"rule {number}: ")
    for word in role.mechanisms or ():
        _try((*path, "mechanisms"), word, mechanisms_named, wrong)
    for word in role.functions or ():
        _try((*path, "functions"), word, functions_named, wrong)
    if role.read_only and role.administration:
        wrong((*path, "administration"), "is not for read_only = true")


def _try(path: tuple[str, ...], value: Any, read: Callable[[Any], object], wrong: Wrong, place: str = "") -> None:
    try:
        read(value)
    except ValueError as error:
        wrong(path, f"{place}{error}")


def _check_identity(identity: IdentityOptions, config: Config, path: tuple[str, ...], wrong: Wrong) -> None:
    given = [name for name in _CONDITIONS if getattr(identity, name) is not None]
    if identity.anyone and given:
        wrong((*path, "anyone"), f"is not for an identity with conditions: {', '.join(given)}")
    if not identity.anyone and not given:
        wrong(path, f"has no condition: {', '.join(_CONDITIONS)}; or say anyone = true")
    if not identity.roles:
        wrong((*path, "roles"), "is empty")
    for role in identity.roles:
        if role not in config.roles:
            wrong((*path, "roles"), f"there is no section [role.{role}]")
    for name in given:
        for each in getattr(identity, name):
            if problem := _CONDITIONS[name](each):
                wrong((*path, name), f"{each}: {problem}" if each != "" else problem)
    for listener in identity.listener or ():
        if listener and listener not in config.listeners:
            wrong((*path, "listener"), f"there is no section [listener.{listener}]")


def _account(value: int | str) -> str:
    if isinstance(value, int):
        return "" if 0 <= value < 1 << 32 else "is no number of a user or group"
    if not value or value.isdecimal():
        return "is no name; write numbers without quotes"
    return ""


def _dns(text: str) -> str:
    return "" if _DNS.fullmatch(text) else "is no pattern of DNS names: labels of letters, digits, '-', '_' and '*'"


def _email(text: str) -> str:
    return "" if _EMAIL.fullmatch(text) else "is no pattern of email addresses: name@domain"


def _uri(text: str) -> str:
    if not _URI.fullmatch(text):
        return "is no pattern of URIs: scheme:..., without blanks"
    return "a star is for the path, behind the host" if "*" in "".join(text.split("/")[:_HOST]) else ""


def _exact(text: str) -> str:
    return "" if text else "an empty text is no name"


def _listener(_text: str) -> str:
    return ""


_CONDITIONS: Final[Mapping[str, Callable[[Any], str]]] = {
    "user": _account,
    "group": _account,
    "dns": _dns,
    "uri": _uri,
    "email": _email,
    "subject": _exact,
    "principal": _exact,
    "listener": _listener,
    "offer": _exact,
}
"""Conditions of an identity: what is wrong with a value, or an empty text."""
