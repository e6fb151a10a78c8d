"""PKCS #11 URIs (RFC 7512): parse, format, and tell what they match.

A PIN in a URI never gets into a repr, a message or, unless asked for, a formatted URI.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, unquote_to_bytes

from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_ID,
    CKA_LABEL,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)
from keyway.cryptoki.text import stripped
from keyway.cryptoki.values import Attribute, ModuleInfo, Opaque, SlotInfo, TokenInfo, Version

_From = TypeVar("_From")
_To = TypeVar("_To")


class UriError(ValueError):
    """A text that is no PKCS #11 URI. The message names the attribute at fault, never its value."""


class ObjectType(StrEnum):
    """The values of the attribute `type`."""

    PUBLIC = "public"
    PRIVATE = "private"
    CERT = "cert"
    SECRET_KEY = "secret-key"  # noqa: S105 (a class of objects)
    DATA = "data"


OBJECT_CLASSES: Final = {
    ObjectType.PUBLIC: CKO_PUBLIC_KEY,
    ObjectType.PRIVATE: CKO_PRIVATE_KEY,
    ObjectType.CERT: CKO_CERTIFICATE,
    ObjectType.SECRET_KEY: CKO_SECRET_KEY,
    ObjectType.DATA: CKO_DATA,
}
"""CKA_CLASS by type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uri:
    """A PKCS #11 URI. An attribute that is None is absent, which is not the same as empty.

    Attributes:
        token: Label of the token.
        manufacturer: Manufacturer of the token.
        serial: Serial number of the token.
        model: Model of the token.
        library_manufacturer: Manufacturer of the module.
        library_description: Description of the module.
        library_version: Version of the module.
        object: CKA_LABEL of the object.
        type: Class of the object.
        id: CKA_ID of the object.
        slot_description: Description of the slot.
        slot_manufacturer: Manufacturer of the slot.
        slot_id: CK_SLOT_ID.
        vendor: Other attributes of the path with their values. Nobody knows what they mean, so a URI with any matches nothing.
        pin_source: Where the PIN is found.
        pin_value: The PIN.
        module_name: Name of the module.
        module_path: Absolute path of the module.
        vendor_query: Other attributes of the query with their values; a name may occur several times.

    Raises:
        UriError: An attribute has a value that can't be written, or both PIN attributes are there.
    """

    token: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    library_manufacturer: str | None = None
    library_description: str | None = None
    library_version: Version | None = None
    object: str | None = None
    type: ObjectType | None = None
    id: bytes | None = None
    slot_description: str | None = None
    slot_manufacturer: str | None = None
    slot_id: int | None = None
    vendor: tuple[tuple[str, str], ...] = ()
    pin_source: str | None = field(default=None, repr=False)
    pin_value: bytes | None = field(default=None, repr=False)
    module_name: str | None = None
    module_path: str | None = None
    vendor_query: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name, attribute in (_PATH | _QUERY).items():
            value = getattr(self, _member(name))
            if value is not None:
                _checked(name, attribute.write, value)
        for name, value in self.vendor + self.vendor_query:
            _check_vendor_name(name)
            _checked(name, str.encode, value)
        _check_unique(name for name, _ in self.vendor)
        if self.pin_source is not None and self.pin_value is not None:
            raise UriError("pin-source and pin-value exclude one another")
        if self.module_path is not None and not self.module_path.startswith("/"):
            raise UriError("module-path is not absolute")

    @classmethod
    def parse(cls, text: str) -> "Uri":
        """Read a URI.

        Raises:
            UriError: It is none.
        """
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() != "pkcs11":
            raise UriError("a PKCS #11 URI starts with pkcs11:")
        path, _, query = rest.partition("?")
        members: dict[str, Any] = {}
        for component, known, vendor in (
            (_Component(path, ";", _PATH_TEXT), _PATH, "vendor"),
            (_Component(query, "&", _QUERY_TEXT), _QUERY, "vendor_query"),
        ):
            others: list[tuple[str, str]] = []
            for name, value in component.attributes():
                if name not in known:
                    others.append((name, _checked(name, _read_text, value)))
                elif _member(name) in members:
                    raise UriError(f"{name} occurs twice")
                else:
                    members[_member(name)] = _checked(name, known[name].read, value)
            members[vendor] = tuple(others)
        return cls(**members)

    def format(self, *, with_pin: bool = False) -> str:
        """Return the URI as a text.

        Args:
            with_pin: Whether pin-source and pin-value are written too.
        """
        path = [*self._written(_PATH), *(f"{name}={quote(value, safe=_PATH_SAFE)}" for name, value in self.vendor)]
        query = [
            *(part for part in self._written(_QUERY) if with_pin or not part.startswith("pin-")),
            *(f"{name}={quote(value, safe=_QUERY_SAFE)}" for name, value in self.vendor_query),
        ]
        return "pkcs11:" + ";".join(path) + ("?" + "&".join(query) if query else "")

    def __str__(self) -> str:
        return self.format()

    def _written(self, attributes: "dict[str, _Attribute]") -> Iterator[str]:
        for name, attribute in attributes.items():
            value = getattr(self, _member(name))
            if value is not None:
                yield f"{name}={attribute.write(value)}"

    @property
    def names_object(self) -> bool:
        """Whether the URI says anything about an object."""
        return self.object is not None or self.type is not None or self.id is not None

    def matches_library(self, info: ModuleInfo) -> bool:
        """Tell whether a module is one that the URI speaks of."""
        return (
            not self.vendor
            and _same(self.library_manufacturer, info.manufacturer_id)
            and _same(self.library_description, info.library_description)
            and self.library_version in (None, info.library_version)
        )

    def matches_slot(self, slot: int, info: SlotInfo) -> bool:
        """Tell whether a slot is one that the URI speaks of."""
        return (
            not self.vendor
            and self.slot_id in (None, slot)
            and _same(self.slot_description, info.slot_description)
            and _same(self.slot_manufacturer, info.manufacturer_id)
        )

    def matches_token(self, info: TokenInfo) -> bool:
        """Tell whether a token is one that the URI speaks of."""
        return (
            not self.vendor
            and _same(self.token, info.label)
            and _same(self.manufacturer, info.manufacturer_id)
            and _same(self.model, info.model)
            and _same(self.serial, info.serial_number)
        )

    def matches_object(self, object_class: int, label: bytes | None, id_: bytes | None) -> bool:
        """Tell whether an object is one that the URI speaks of.

        Args:
            object_class: CKA_CLASS.
            label: CKA_LABEL, None if the object has none.
            id_: CKA_ID, None if the object has none.
        """
        return (
            not self.vendor
            and (self.type is None or OBJECT_CLASSES[self.type] == object_class)
            and (self.object is None or self.object.encode() == label)
            and self.id in (None, id_)
        )

    def object_template(self) -> tuple[Attribute, ...]:
        """Return the template for C_FindObjectsInit that finds the objects which the URI speaks of."""
        template: list[Attribute] = []
        if self.type is not None:
            template.append(Attribute(CKA_CLASS, OBJECT_CLASSES[self.type]))
        if self.object is not None:
            template.append(Attribute(CKA_LABEL, self.object.encode()))
        if self.id is not None:
            template.append(Attribute(CKA_ID, self.id))
        return tuple(template)


class _Attribute(NamedTuple):
    """How the value of an attribute is read from a URI and written into one."""

    read: Callable[[str], object]
    write: Callable[[Any], str]


_SAFE: Final = ":[]@!$'()*+,="
_PATH_SAFE: Final = _SAFE + "&"
_QUERY_SAFE: Final = _SAFE + "/?|"


def _pattern(safe: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[A-Za-z0-9\-._~{re.escape(safe)}]|%[0-9A-Fa-f]{{2}})*")


_PATH_TEXT: Final = _pattern(_PATH_SAFE)
_QUERY_TEXT: Final = _pattern(_QUERY_SAFE)
_VENDOR_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_VERSION: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


def _read_text(value: str) -> str:
    return unquote_to_bytes(value).decode()


def _text(safe: str) -> _Attribute:
    return _Attribute(_read_text, lambda value: quote(value, safe=safe))


def _read_version(value: str) -> Version:
    match = _VERSION.fullmatch(value)
    if match is None:
        raise ValueError
    return Version(int(match[1]), int(match[2] or "0"))


def _write_version(value: Version) -> str:
    if not (0 <= value.major <= 255 and 0 <= value.minor <= 255):
        raise ValueError
    return str(value)


def _read_number(value: str) -> int:
    if not value.isascii() or not value.isdecimal():
        raise ValueError
    return int(value)


def _write_number(value: int) -> str:
    if not 0 <= value < 1 << 64:
        raise ValueError
    return str(value)


_PATH: Final[dict[str, _Attribute]] = {
    **dict.fromkeys(("token", "manufacturer", "serial", "model"), _text(_PATH_SAFE)),
    **dict.fromkeys(("library-manufacturer", "library-description"), _text(_PATH_SAFE)),
    "library-version": _Attribute(_read_version, _write_version),
    "object": _text(_PATH_SAFE),
    "type": _Attribute(ObjectType, str),
    # All of an id is percent-encoded, so that it reads the same whatever its bytes mean as characters.
    "id": _Attribute(unquote_to_bytes, lambda value: "".join(f"%{byte:02X}" for byte in value)),
    **dict.fromkeys(("slot-description", "slot-manufacturer"), _text(_PATH_SAFE)),
    "slot-id": _Attribute(_read_number, _write_number),
}

_QUERY: Final[dict[str, _Attribute]] = {
    "pin-source": _text(_QUERY_SAFE),
    "pin-value": _Attribute(
        lambda value: Opaque(unquote_to_bytes(value)), lambda value: quote(value, safe=_QUERY_SAFE)
    ),
    "module-name": _text(_QUERY_SAFE),
    "module-path": _text(_QUERY_SAFE),
}


class _Component(NamedTuple):
    """The path or the query of a URI."""

    text: str
    delimiter: str
    allowed: re.Pattern[str]

    def attributes(self) -> Iterator[tuple[str, str]]:
        if not self.text:
            return
        for part in self.text.split(self.delimiter):
            name, equals, value = part.partition("=")
            if not equals:
                raise UriError("an attribute has no value")
            if name not in _PATH and name not in _QUERY:
                _check_vendor_name(name)
            elif (name in _PATH) != (self.delimiter == ";"):
                raise UriError(f"{name} is in the wrong component")
            if not self.allowed.fullmatch(value):
                raise UriError(f"{name} holds a character that must be percent-encoded")
            yield name, value


def _member(name: str) -> str:
    return name.replace("-", "_")


def _checked(name: str, convert: Callable[[_From], _To], value: _From) -> _To:
    try:
        return convert(value)
    except ValueError:
        # Without the cause: it would quote the value.
        raise UriError(f"{name} has a value that it can't have") from None


def _check_vendor_name(name: str) -> None:
    if not _VENDOR_NAME.fullmatch(name):
        raise UriError("the name of an attribute holds a character that it can't have")
    if name in _PATH or name in _QUERY:
        raise UriError(f"{name} is no vendor's attribute")


def _check_unique(names: Iterator[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UriError(f"{name} occurs twice")
        seen.add(name)


def _same(wanted: str | None, padded: bytes) -> bool:
    return wanted is None or stripped(wanted.encode()) == stripped(padded)
