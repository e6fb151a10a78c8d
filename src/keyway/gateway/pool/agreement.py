"""Whether the members of a pool have the same objects."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

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
        kind: `missing`: some members lack the object. `different`: an object of the same class, label and CKA_ID has another public key on
            some members, so these are tokens with different keys. `twins`: a member has objects that nothing tells apart.
        what: The object, in words.
        members: The members that lack it; else those that have it.
    """

    kind: Literal["missing", "different", "twins"]
    what: str
    members: tuple[str, ...]


def compare(members: Mapping[str, Mapping[int, Facts]]) -> list[Disagreement]:
    """Return what the members disagree in. Only token objects count.

    Args:
        members: The listing of each member.
    """
    counts = {
        member: Counter(identities({handle: facts for handle, facts in listing.items() if facts.is_token}).values())
        for member, listing in members.items()
    }
    found: dict[tuple[int | None, bytes, bytes], dict[str, set[Identity]]] = {}
    for member, count in counts.items():
        for identity in count:
            alike = found.setdefault((identity.object_class, identity.label, identity.id), {})
            alike.setdefault(member, set()).add(identity)
    disagreements = [
        each for alike in found.values() for each in (*_differences(alike, counts), *_twins(alike, counts))
    ]
    return sorted(disagreements, key=lambda each: (each.what, each.kind, each.members))


def _differences(alike: Mapping[str, set[Identity]], counts: Mapping[str, Counter[Identity]]) -> Iterable[Disagreement]:
    """Tell of objects with one class, label and CKA_ID.

    Args:
        alike: What each member has that has any.
        counts: What each member has of all objects.
    """
    every = {identity for has in alike.values() for identity in has}
    # A private key whose public key is not there is not another key, but can't be named: it counts as missing.
    known = {identity for identity in every if identity.public_digest} or every
    what = _words(min(every, key=repr))
    if _has_strangers([has & known for has in alike.values()]):
        yield Disagreement("different", what, tuple(alike))
        lacking = [tuple(member for member in counts if member not in alike)]
    else:
        lacking = [tuple(member for member in counts if identity not in alike.get(member, ())) for identity in known]
    for without in dict.fromkeys(lacking):
        if without:
            yield Disagreement("missing", what, without)


def _twins(alike: Mapping[str, set[Identity]], counts: Mapping[str, Counter[Identity]]) -> Iterable[Disagreement]:
    having = tuple(member for member, has in alike.items() if any(counts[member][identity] > 1 for identity in has))
    if having:
        yield Disagreement("twins", _words(min(alike[having[0]], key=repr)), having)


def _has_strangers(each: list[set[Identity]]) -> bool:
    """Tell whether two members have something each, and nothing in common."""
    some = [has for has in each if has]
    return any(one.isdisjoint(other) for at, one in enumerate(some) for other in some[:at])


def _words(identity: Identity) -> str:
    class_ = identity.object_class
    words = ["object"] if class_ is None else [_WORDS.get(class_, f"object of class 0x{class_:x}")]
    if identity.label:
        # Whatever is in a label, it stays in its line.
        words.append(repr(identity.label.decode("utf-8", "replace")))
    if identity.id:
        words.append(f"with CKA_ID {identity.id.hex()}")
    return " ".join(words)
