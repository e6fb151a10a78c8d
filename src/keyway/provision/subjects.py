"""Subjects: distinguished names as text (RFC 4514, and OpenSSL's form with slashes), to `cryptography`'s names."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from re import compile as regex
from typing import Final
from unicodedata import category

from cryptography import x509
from cryptography.x509.oid import NameOID

from keyway.provision.problems import Problem

__all__ = ["ATTRIBUTES", "MAX_PARTS", "parse_subject"]

MAX_PARTS: Final = 64
"""Attributes of one name."""
MAX_VALUE: Final = 1024
"""Characters of one value."""

ATTRIBUTES: Final[Mapping[str, x509.ObjectIdentifier]] = {
    "CN": NameOID.COMMON_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "S": NameOID.STATE_OR_PROVINCE_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "E": NameOID.EMAIL_ADDRESS,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "SN": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME,
    "GIVENNAME": NameOID.GIVEN_NAME,
    "TITLE": NameOID.TITLE,
    "INITIALS": NameOID.INITIALS,
    "PSEUDONYM": NameOID.PSEUDONYM,
    "GENERATIONQUALIFIER": NameOID.GENERATION_QUALIFIER,
    "DNQUALIFIER": NameOID.DN_QUALIFIER,
    "POSTALCODE": NameOID.POSTAL_CODE,
    "ORGANIZATIONIDENTIFIER": NameOID.ORGANIZATION_IDENTIFIER,
    "UNSTRUCTUREDNAME": NameOID.UNSTRUCTURED_NAME,
}
"""Types of attributes by their short names, in capitals. Dotted numbers are taken, too."""

_IA5: Final = frozenset({NameOID.EMAIL_ADDRESS, NameOID.DOMAIN_COMPONENT, NameOID.UNSTRUCTURED_NAME})
_PRINTABLE: Final = frozenset({NameOID.COUNTRY_NAME, NameOID.SERIAL_NUMBER, NameOID.DN_QUALIFIER})
"""Attributes whose strings have no more than ASCII, or less (RFC 5280, appendix A)."""
_PRINTABLE_VALUE: Final = regex(r"[A-Za-z0-9 '()+,\-./:=?]*")

_DOTTED: Final = regex(r"[0-2](?:\.\d{1,10}){1,20}")
_HEX: Final = frozenset("0123456789abcdefABCDEF")


@lru_cache(maxsize=256)
def parse_subject(text: str) -> x509.Name:
    """Read a subject.

    Args:
        text: `CN=node-1,O=Example` (RFC 4514: the most specific part comes first), or `/O=Example/CN=node-1` (as OpenSSL takes it: it comes
            last). In both a backslash takes its meaning from the character behind it, and `+` joins the parts of one RDN. In the first form a backslash
            may be followed by two hexadecimal digits, a byte of UTF-8, and blanks around the parts do not count.

    Raises:
        Problem: `bad-subject`, with the reason.
    """
    is_slashed = text.startswith("/")
    rdns: list[list[x509.NameAttribute[str]]] = [[]]
    parts = _parts(text[1:] if is_slashed else text, "/" if is_slashed else ",", is_slashed=is_slashed)
    for count, (part, separator) in enumerate(parts, 1):
        if count > MAX_PARTS:
            raise _bad(f"more than {MAX_PARTS} attributes")
        rdns[-1].append(_attribute(part, is_slashed=is_slashed))
        if separator not in ("+", ""):
            rdns.append([])
    try:
        names = [x509.RelativeDistinguishedName(rdn) for rdn in rdns]
        return x509.Name(names if is_slashed else reversed(names))
    except ValueError:
        raise _bad("one RDN has an attribute twice") from None


def _parts(text: str, separator: str, *, is_slashed: bool) -> Iterator[tuple[str, str]]:
    """Yield the parts, escapes as they are, each with the separator behind it; the last one with an empty text."""
    start = at = 0
    while at < len(text):
        each = text[at]
        if each == "\\":
            at += 1
            if at == len(text):
                raise _bad("a backslash has nothing behind it")
        elif each in ("+", separator) or (each == ";" and not is_slashed):
            yield text[start:at], each
            start = at + 1
        at += 1
    yield text[start:], ""


def _attribute(part: str, *, is_slashed: bool) -> x509.NameAttribute[str]:
    name, equals, value = part.partition("=")
    if not equals:
        raise _bad("a part is not TYPE=VALUE")
    oid = _type(name if is_slashed else name.strip(" "))
    value = _unescaped(value if is_slashed else _stripped(value), has_bytes=not is_slashed)
    if not value:
        raise _bad(f"{name.strip()[:40]} has no value")
    if len(value) > MAX_VALUE:
        raise _bad(f"the value of {name.strip()[:40]} is longer than {MAX_VALUE} characters")
    # A zero, or a new line, in a name has made others believe half of it.
    if any(category(each) in ("Cc", "Cs") for each in value):
        raise _bad(f"the value of {name.strip()[:40]} holds a control character")
    try:
        if (oid in _IA5 and not value.isascii()) or (oid in _PRINTABLE and not _PRINTABLE_VALUE.fullmatch(value)):
            raise ValueError
        attribute = x509.NameAttribute(oid, value)
        # What the type of string can't hold shows only when it is encoded.
        x509.Name([attribute]).public_bytes()
    except (ValueError, TypeError):
        raise _bad(f"{name.strip()[:40]} can't have this value: its length, or its characters") from None
    return attribute


def _type(name: str) -> x509.ObjectIdentifier:
    if (known := ATTRIBUTES.get(name.upper())) is not None:
        return known
    dotted = name.upper().removeprefix("OID.")
    if not _DOTTED.fullmatch(dotted):
        raise _bad("a part has an unknown type: a short name such as CN, or a dotted number, is needed")
    try:
        return x509.ObjectIdentifier(dotted)
    except ValueError:
        raise _bad("a dotted number is no object identifier") from None


def _stripped(value: str) -> str:
    """Return a value without the blanks around it that are not escaped."""
    value = value.lstrip(" ")
    bare = value.rstrip(" ")
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if backslashes % 2 and len(bare) < len(value) else bare


def _unescaped(value: str, *, has_bytes: bool) -> str:
    if has_bytes and value.startswith("#"):
        raise _bad("values in hexadecimal (#...) are not taken")
    made = bytearray()
    at = 0
    while at < len(value):
        if value[at] != "\\":
            made += value[at].encode("utf-8", "surrogatepass")
            at += 1
        elif has_bytes and len(pair := value[at + 1 : at + 3]) == 2 and _HEX.issuperset(pair):
            made.append(int(pair, 16))
            at += 3
        else:
            made += value[at + 1].encode("utf-8", "surrogatepass")
            at += 2
    try:
        return made.decode()
    except UnicodeDecodeError:
        raise _bad("escaped bytes are no UTF-8") from None


def _bad(detail: str) -> Problem:
    return Problem("bad-subject", detail)
