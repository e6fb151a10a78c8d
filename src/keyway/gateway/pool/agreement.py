"""Whether the members of a pool have the same objects."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from keyway.cryptoki.constants import (
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_DOMAIN_PARAMETERS,
    CKO_HW_FEATURE,
    CKO_MECHANISM,
    CKO_OTP_KEY,
    CKO_PRIVATE_KEY,
    CKO_PROFILE,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
    CKO_TRUST,
    CKO_VALIDATION,
)
from keyway.gateway.pool.identity import Facts, Identity, identities

__all__ = ["Disagreement", "compare"]

Kind: TypeAlias = Literal["missing", "different", "twins"]

_WORDS: Final = {
    CKO_DATA: "data object",
    CKO_CERTIFICATE: "certificate",
    CKO_PUBLIC_KEY: "public key",
    CKO_PRIVATE_KEY: "private key",
    CKO_SECRET_KEY: "secret key",
    CKO_HW_FEATURE: "hardware feature",
    CKO_DOMAIN_PARAMETERS: "domain parameters",
    CKO_MECHANISM: "mechanism object",
    CKO_OTP_KEY: "OTP key",
    CKO_PROFILE: "profile",
    CKO_VALIDATION: "validation object",
    CKO_TRUST: "trust object",
}


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Something in which the members differ, or which can't be told apart on one.

    Attributes:
        kind: `missing`: some members lack the object. `different`: an object of the same class, label and CKA_ID has another public key, or another check
            value, on some members, so these are tokens with different keys. `twins`: a member has objects that nothing tells apart.
        what: The object, in words.
        members: The members that lack it; else those that have it.
    """

    kind: Kind
    what: str
    members: tuple[str, ...]


@dataclass(slots=True)
class _Alike:
    """What one member has of objects with one class, label and CKA_ID.

    Attributes:
        counts: How many there are of each identity.
        proofs: Digests of public keys, public values and check values, as far as they are known.
    """

    counts: Counter[Identity] = field(default_factory=Counter)
    proofs: set[bytes] = field(default_factory=set)


def compare(members: Mapping[str, Mapping[int, Facts]]) -> list[Disagreement]:
    """Return what the members disagree in. Only token objects count.

    Args:
        members: The listing of each member.
    """
    found: dict[tuple[int | None, bytes, bytes], dict[str, _Alike]] = {}
    for member, listing in members.items():
        of_token = {handle: facts for handle, facts in listing.items() if facts.is_token}
        for handle, identity in identities(of_token).items():
            key = (identity.object_class, identity.label, identity.id)
            alike = found.setdefault(key, {}).setdefault(member, _Alike())
            alike.counts[identity] += 1
            alike.proofs.update(filter(None, [identity.public_digest or of_token[handle].public]))
    disagreements = [
        Disagreement(kind, _words(*key), concerned)
        for key, alike in found.items()
        for kind, concerned in (*_differences(alike, tuple(members)), *_twins(alike))
    ]
    return sorted(disagreements, key=lambda each: (each.what, each.kind, each.members))


_Found: TypeAlias = tuple[Kind, tuple[str, ...]]


def _differences(alike: Mapping[str, _Alike], members: tuple[str, ...]) -> Iterator[_Found]:
    """Tell of objects with one class, label and CKA_ID.

    Args:
        alike: What each member has that has any.
        members: All members.
    """
    if _has_strangers([has.proofs for has in alike.values() if has.proofs]):
        yield "different", tuple(alike)
        lacking = [tuple(member for member in members if member not in alike)]
    else:
        every = {identity for has in alike.values() for identity in has.counts}
        # A private key whose public key is not there is no other key, but it has another name: it is as good as missing.
        known = {identity for identity in every if identity.public_digest} or every
        lacking = [
            tuple(member for member in members if member not in alike or identity not in alike[member].counts)
            for identity in known
        ]
    for without in dict.fromkeys(lacking):
        if without:
            yield "missing", without


def _twins(alike: Mapping[str, _Alike]) -> Iterator[_Found]:
    having = tuple(member for member, has in alike.items() if max(has.counts.values()) > 1)
    if having:
        yield "twins", having


def _has_strangers(proofs: list[set[bytes]]) -> bool:
    """Tell whether two members have nothing in common."""
    return any(one.isdisjoint(other) for at, one in enumerate(proofs) for other in proofs[:at])


def _words(object_class: int | None, label: bytes, id_: bytes) -> str:
    words = ["object"] if object_class is None else [_WORDS.get(object_class, f"object of class 0x{object_class:x}")]
    if label:
        # Whatever is in a label, it stays in its line.
        words.append(repr(label.decode("utf-8", "replace")))
    if id_:
        words.append(f"with CKA_ID {id_.hex()}")
    return " ".join(words)
