"""What tells objects apart on every member of a pool, and the names that are made from it.

A handle means nothing outside the token that gave it. So clients of a pool see names: numbers made from what identifies the object
everywhere, which are the same on every member and after a restart.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from keyway.cryptoki import Attribute
from keyway.cryptoki.constants import (
    CKA_CHECK_VALUE,
    CKA_CLASS,
    CKA_EC_POINT,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_PRIVATE,
    CKA_TOKEN,
    CKK_EC,
    CKK_EC_EDWARDS,
    CKK_EC_MONTGOMERY,
    CKK_RSA,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)

__all__ = [
    "FIRST_NAME",
    "FIRST_SESSION_OBJECT",
    "IDENTITY_QUERY",
    "Facts",
    "Identity",
    "alias",
    "facts_of",
    "identities",
    "is_alone",
    "names",
    "wants_value",
]

FIRST_NAME: Final = 1 << 32
"""The lowest name: well above the handles that tokens give, so that the two are not mistaken for one another."""

FIRST_SESSION_OBJECT: Final = 1 << 62
"""Bit 62 is set in the names of session objects, which are counted and not derived. Names of token objects are lower."""

IDENTITY_QUERY: Final[tuple[int, ...]] = (
    CKA_CLASS,
    CKA_TOKEN,
    CKA_PRIVATE,
    CKA_KEY_TYPE,
    CKA_ID,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_EC_POINT,
    CKA_CHECK_VALUE,
)
"""The attributes to ask of every object. None of them is secret in any class of objects."""

_WITH_POINT: Final = frozenset({CKK_EC, CKK_EC_EDWARDS, CKK_EC_MONTGOMERY})
_DIGEST_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an object of one member.

    Attributes:
        object_class: CKA_CLASS; None if the token does not tell.
        key_type: CKA_KEY_TYPE; None if it has none.
        id: CKA_ID; empty if it has none.
        label: CKA_LABEL; empty if it has none.
        is_token: CKA_TOKEN.
        is_private: CKA_PRIVATE.
        public: A digest of the public key or the public value, of a secret key that of its check value; empty if the object itself
            reveals none.
    """

    object_class: int | None
    key_type: int | None
    id: bytes = field(repr=False)
    label: bytes = field(repr=False)
    is_token: bool
    is_private: bool
    public: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What is the same for an object on every member. Attributes are those of `Facts`.

    Attributes:
        object_class: The class.
        key_type: The key type.
        id: CKA_ID.
        label: CKA_LABEL.
        public_digest: `Facts.public`, for a private key that does not reveal it that of the public key beside it. Empty for a secret key: some
            tokens have no check value of a key that was imported.
    """

    object_class: int | None
    key_type: int | None
    id: bytes = field(repr=False)
    label: bytes = field(repr=False)
    public_digest: bytes = field(repr=False)


def wants_value(facts: Facts) -> bool:
    """Tell whether CKA_VALUE is needed too, and is nothing secret: certificates, public data, and public keys that are told there.

    Args:
        facts: What the answer to `IDENTITY_QUERY` told.
    """
    if facts.object_class == CKO_DATA:
        return not facts.is_private
    if facts.object_class == CKO_PUBLIC_KEY:
        return facts.key_type is not None and facts.key_type != CKK_RSA and facts.key_type not in _WITH_POINT
    return facts.object_class == CKO_CERTIFICATE


def facts_of(answer: Sequence[Attribute], value: bytes | None = None) -> Facts:
    """Return the facts of an object.

    Args:
        answer: What C_GetAttributeValue answered to `IDENTITY_QUERY`; what the object lacks is unavailable in it, or left out.
        value: CKA_VALUE, if `wants_value`.
    """
    given = {attribute.type: attribute.value for attribute in answer}

    def number(type_: int) -> int | None:
        found = given.get(type_)
        return found if isinstance(found, int) else None

    def data(type_: int) -> bytes:
        found = given.get(type_)
        return found if isinstance(found, bytes) else b""

    object_class, key_type = number(CKA_CLASS), number(CKA_KEY_TYPE)
    if object_class == CKO_SECRET_KEY:
        public = data(CKA_CHECK_VALUE)
    elif value is not None:
        # Some tokens give numbers a leading zero. No public key that is not a number loses what it is by this.
        public = value.lstrip(b"\0") if object_class == CKO_PUBLIC_KEY else value
    elif key_type == CKK_RSA:
        public = data(CKA_MODULUS).lstrip(b"\0")
    else:
        public = _point(data(CKA_EC_POINT), key_type) if key_type in _WITH_POINT else b""
    return Facts(
        object_class,
        key_type,
        data(CKA_ID),
        data(CKA_LABEL),
        any(data(CKA_TOKEN)),
        any(data(CKA_PRIVATE)),
        blake2b(public, digest_size=_DIGEST_SIZE).digest() if public else b"",
    )


def identities(listing: Mapping[int, Facts]) -> dict[int, Identity]:
    """Return what identifies each object of a member.

    A private key that does not reveal its public key has that of the public key with the same key type and CKA_ID; if there
    are several, of the one with the same label. A certificate is not asked: it may hold another key.

    Args:
        listing: The facts of all objects by handle.
    """
    beside: defaultdict[tuple[bool, int | None, bytes], dict[bytes, set[bytes]]] = defaultdict(dict)
    for facts in listing.values():
        if facts.object_class == CKO_PUBLIC_KEY and facts.public:
            labels = beside[facts.is_token, facts.key_type, facts.id]
            labels.setdefault(facts.label, set()).add(facts.public)
    return {
        handle: Identity(
            facts.object_class,
            facts.key_type,
            facts.id,
            facts.label,
            _public_of(facts, beside.get((facts.is_token, facts.key_type, facts.id), {})),
        )
        for handle, facts in listing.items()
    }


def is_alone(listing: Mapping[int, Facts], handle: int) -> bool:
    """Tell whether an object is told from all others on the token.

    Twins that have a public key or a public value are the same thing twice, and it does not matter which of them is used. Those that have none may be
    different, and then each member may take another one for the first.

    Args:
        listing: The facts of all objects of a member by handle.
        handle: The object, which is listed.
    """
    found = identities({each: facts for each, facts in listing.items() if facts.is_token == listing[handle].is_token})
    identity = found.pop(handle)
    return bool(identity.public_digest) or identity not in found.values()


def names(listing: Mapping[int, Facts]) -> dict[int, int]:
    """Return the name of each object of a member, by handle.

    Twins, which nothing tells apart, are counted in the order of their handles: token objects first, and of them those that are seen without
    a login, so that nobody's name changes when more objects come into sight.

    Args:
        listing: The facts of all objects by handle.
    """
    twins: defaultdict[Identity, list[int]] = defaultdict(list)
    for handle, identity in identities(listing).items():
        twins[identity].append(handle)
    return {
        handle: _name(identity, ordinal)
        for identity, found in twins.items()
        for ordinal, handle in enumerate(sorted(found, key=lambda handle: _rank(listing[handle], handle)))
    }


def alias(name: int) -> int:
    """Return another name for an object, which is no other object's."""
    return _in_range(blake2b(b"alias" + name.to_bytes(8, "big"), digest_size=16).digest())


def _rank(facts: Facts, handle: int) -> tuple[bool, bool, int]:
    return not facts.is_token, facts.is_private, handle


def _public_of(facts: Facts, labels: Mapping[bytes, set[bytes]]) -> bytes:
    if facts.object_class == CKO_SECRET_KEY:
        return b""
    if facts.public or facts.object_class != CKO_PRIVATE_KEY:
        return facts.public
    every = {digest for digests in labels.values() for digest in digests}
    found = every if len(every) == 1 else labels.get(facts.label, set())
    return next(iter(found)) if len(found) == 1 else b""


def _name(identity: Identity, ordinal: int) -> int:
    # Two objects of 100,000 have the same name with a probability of one in a billion; then one of them is not seen.
    digest = blake2b(digest_size=16)
    for part in (
        _encoded(identity.object_class),
        _encoded(identity.key_type),
        identity.id,
        identity.label,
        identity.public_digest,
        _encoded(ordinal),
    ):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return _in_range(digest.digest())


def _in_range(digest: bytes) -> int:
    return FIRST_NAME + int.from_bytes(digest, "big") % (FIRST_SESSION_OBJECT - FIRST_NAME)


def _encoded(number: int | None) -> bytes:
    return b"" if number is None else number.to_bytes(8, "big")


def _point(value: bytes, key_type: int | None) -> bytes:
    """Return the point in a CKA_EC_POINT: some tokens give it in a DER OCTET STRING, as the standard says, some as it is."""
    head = value[:3]
    if head[:1] != b"\x04":
        return value
    if head[1:] and head[1] == len(value) - 2 < 0x80:
        inner = value[2:]
    elif head[1:2] == b"\x81" and head[2:] and head[2] == len(value) - 3:
        inner = value[3:]
    else:
        return value
    # An uncompressed point begins with the same byte as an OCTET STRING. Within one there must be a point again.
    return inner if key_type != CKK_EC or inner[:1] in (b"\x02", b"\x03", b"\x04") else value
