"""Pools: several tokens with the same keys that clients see as one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from keyway.config.errors import Wrong
from keyway.config.options import BackendOptions, Config, TokenOptions
from keyway.config.reader import NAME_RULE, is_name
from keyway.config.uris import token_uri
from keyway.cryptoki import RV, Uri

__all__ = ["MemberOptions", "check_error_classes", "error_classes_of", "members_of", "pool", "shown"]

_QUERY: Final = ("backend", "name", "weight", "standby")
_OF_TOKENS: Final = ("backend", "uri", "backend_slot", "label", "serial", "slot", "pin_file")
_NOT_OF_POOLS: Final = ("backend", "uri", "backend_slot", "views")
_CLASSES: Final = ("lost", "session", "busy", "caller")
_MAX_WEIGHT: Final = 1000
_MAX_RV: Final = 0xFFFF_FFFF_FFFF_FFFF
_LABEL_ROOM: Final = 32
_SERIAL_ROOM: Final = 16
"""Bytes that CK_TOKEN_INFO has for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberOptions:
    """A token of a pool.

    Attributes:
        name: What it is called; no other member of the pool is called so.
        backend: Name of its backend.
        uri: What the token must match, without the query.
        weight: Its share of the calls.
        is_standby: Whether it serves only when no other member can.
    """

    name: str
    backend: str
    uri: Uri
    weight: int = 1
    is_standby: bool = False


def members_of(token: TokenOptions, config: Config) -> tuple[MemberOptions, ...]:
    """Return the members of a pool in the order of the file; none for a plain token.

    Args:
        token: A section of the configuration.
        config: The configuration.

    Raises:
        ValueError: A URI can't be used. Never of a configuration that was loaded.
    """
    return tuple(_member(text, config.backends) for text in token.members)


def error_classes_of(backend: BackendOptions) -> Mapping[int, str]:
    """Return what CK_RVs of a backend mean to a pool, where it is not what the standard says.

    Raises:
        ValueError: A key is no CK_RV. Never of a configuration that was loaded.
    """
    return MappingProxyType({_rv(key): value for key, value in backend.error_classes.items()})


def check_error_classes(backend: BackendOptions, path: tuple[str, ...], wrong: Wrong) -> None:
    """Check `error_classes` of a backend."""
    seen: dict[int, str] = {}
    for key, value in backend.error_classes.items():
        where = (*path, "error_classes", key)
        if value not in _CLASSES:
            wrong(where, f"must be one of: {', '.join(_CLASSES)}")
        try:
            rv = _rv(key)
        except ValueError as error:
            wrong(where, str(error))
            continue
        if rv in seen:
            wrong(where, f"is the same as {seen[rv]}")
        seen[rv] = key


def pool(name: str, token: TokenOptions, config: Config, wrong: Wrong) -> TokenOptions:
    """Check a token for what pools and plain tokens must not have, and return it with what a pool shows filled in.

    Args:
        name: The token's name.
        token: Its section.
        config: The configuration.
        wrong: Told what is wrong.
    """
    path = ("token", name)
    for each in dataclasses.fields(TokenOptions):
        is_given = getattr(token, each.name) != each.default
        if is_given and token.is_pool and each.name in _NOT_OF_POOLS:
            wrong((*path, each.name), "is not for a pool")
        elif is_given and not token.is_pool and each.name not in _OF_TOKENS:
            wrong((*path, each.name), "is for a pool only, a token with members")
    if not token.is_pool:
        if token.pin_file is not None and not config.identities:
            wrong(
                (*path, "pin_file"),
                "is for pools, or for identities to log in with; there is no section [identity.NAME]",
            )
        return token
    if token.quorum > len(token.members):
        wrong((*path, "quorum"), f"is more than the {len(token.members)} members")
    if token.wrapping_key and token.writes != "all":
        wrong((*path, "wrapping_key"), 'is for writes = "all" only')
    _check_members(token, config, (*path, "members"), wrong)
    return shown(name, token, wrong)


def shown(name: str, token: TokenOptions, wrong: Wrong) -> TokenOptions:
    """Return a token that the gateway describes itself, with its label and serial number filled in.

    Args:
        name: The token's name.
        token: Its section.
        wrong: Told what is wrong.
    """
    path = ("token", name)
    label, serial = token.label or name, token.serial or _serial(name)
    for key, text, room in (("label", label, _LABEL_ROOM), ("serial", serial, _SERIAL_ROOM)):
        if len(text.encode()) <= room:
            continue
        if getattr(token, key):
            wrong((*path, key), f"is longer than {room} bytes")
        else:
            wrong(path, f"{key} is missing, and the name is longer than {room} bytes")
    return dataclasses.replace(token, label=label, serial=serial)


def _check_members(token: TokenOptions, config: Config, path: tuple[str, ...], wrong: Wrong) -> None:
    members: dict[str, MemberOptions] = {}
    for number, text in enumerate(token.members, 1):
        try:
            member = _member(text, config.backends)
        except ValueError as error:
            wrong(path, f"member {number}: {error}")
            continue
        for other in members.values():
            if (other.backend, other.uri) == (member.backend, member.uri):
                wrong(path, f"member {number}: is the same token as {other.name}")
                break
        else:
            if member.name in members:
                wrong(path, f"member {number}: there is another {member.name}; give each a name=")
        members.setdefault(member.name, member)
    if len(members) == len(token.members) and all(each.is_standby for each in members.values()):
        wrong(path, "all are standbys; one must serve")


def _member(text: str, backends: Mapping[str, BackendOptions]) -> MemberOptions:
    uri = token_uri(text, _QUERY)
    if uri.vendor:
        raise ValueError(
            f"{uri.vendor[0][0]} is not known here; attributes of Keyway's own stand behind a question mark"
        )
    given: dict[str, str] = {}
    for key, value in uri.vendor_query:
        if key in given:
            raise ValueError(f"{key} occurs twice")
        given[key] = value
    backend = given.get("backend") or (next(iter(backends)) if len(backends) == 1 else "")
    if not backend:
        raise ValueError("backend= is missing, and there are several")
    if backend not in backends:
        raise ValueError(f"there is no section [backend.{backend}]")
    name = given.get("name", backend)
    if not is_name(name):
        raise ValueError(NAME_RULE)
    standby = given.get("standby", "no")
    if standby not in ("yes", "no"):
        raise ValueError("standby is yes or no")
    return MemberOptions(
        name=name,
        backend=backend,
        uri=dataclasses.replace(uri, vendor_query=()),
        weight=_weight(given.get("weight", "1")),
        is_standby=standby == "yes",
    )


def _weight(text: str) -> int:
    # No text is long enough for int() to take its time.
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= _MAX_WEIGHT):
        raise ValueError(f"weight is a number from 1 to {_MAX_WEIGHT}")
    return int(text)


def _rv(text: str) -> int:
    if text in RV.__members__:
        rv = int(RV[text])
    else:
        digits, base = (text[2:], 16) if text[:2].lower() == "0x" else (text, 10)
        # int() takes signs, spaces and underscores.
        if not (digits.isascii() and digits.isalnum() and len(digits) <= 20):
            raise ValueError("is no return value: a number, such as 0x80000383, or a name, such as CKR_DEVICE_ERROR")
        try:
            rv = int(digits, base)
        except ValueError:
            raise ValueError("is no return value: a digit is none") from None
    if rv > _MAX_RV:
        raise ValueError("is more than 64 bits")
    if rv == RV.CKR_OK:
        raise ValueError("is CKR_OK, which is no error")
    return rv


def _serial(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:16]
