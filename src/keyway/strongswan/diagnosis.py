"""What is wrong with a set-up: a pure function over what was found.

Each trap here has cost somebody an evening: charon says "no private key found", or nothing, for all of them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from keyway.strongswan.certificates import Seen, seen
from keyway.strongswan.facts import Facts, SeenObject, SeenSlot
from keyway.strongswan.options import Setup
from keyway.strongswan.read import Reference
from keyway.strongswan.safety import is_hex_id

__all__ = ["Finding", "Weight", "diagnosis"]

_DECIMAL: Final = re.compile(r"[0-9]+")
_SLOT: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]+")
_SWANCTL_ID: Final = re.compile(r"(?:0x)?(?:[0-9A-Fa-f]{2}:?)+")


class Weight(StrEnum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        code: A name for it that does not change.
        where: File and place, or the thing itself.
        what: What is wrong, and what to do.
        weight: How bad it is.
    """

    code: str
    where: str
    what: str
    weight: Weight = Weight.ERROR


def diagnosis(setup: Setup, references: Iterable[Reference], facts: Facts, now: datetime) -> tuple[Finding, ...]:
    """Return all that is wrong, each thing once.

    Args:
        setup: What charon is to do, with all slots known that can be.
        references: The objects that it, or strongSwan's own files, name.
        facts: What was found.
        now: The time, with its zone.
    """
    found: dict[Finding, None] = {}
    for finding in [*_surroundings(setup, facts), *_all(setup, references, facts, now)]:
        found[finding] = None
    return tuple(found)


def _surroundings(setup: Setup, facts: Facts) -> Iterator[Finding]:
    module = setup.module
    if facts.failure:
        yield Finding("module-unusable", str(module.path), facts.failure)
    charon = facts.charon
    if charon is None:
        yield Finding(
            "charon-absent",
            "charon",
            "does not run and has no unit file, so its environment is not known",
            Weight.WARNING,
        )
    elif not charon.environment.get(module.variable):
        if module.is_p11_kit or module.address or not facts.has_own_file:
            yield Finding(
                "environment",
                charon.name,
                f"{module.variable} is not in its environment; the module asks nobody else where the gateway is, and swanctl's environment does not count",
                Weight.ERROR if module.is_p11_kit or module.address else Weight.WARNING,
            )
    elif module.address and charon.environment[module.variable] != module.address:
        yield Finding("environment", charon.name, f"{module.variable} is not what module.address says")
    for engine in facts.engines:
        yield Finding(
            "engine",
            engine,
            "charon's openssl plugin tries this engine when a key is not found in the token, which hides the reason and costs a second login "
            "with the same PIN: remove the package (Debian: libengine-pkcs11-openssl) where charon runs",
            Weight.WARNING,
        )
    for name, reason in facts.pin_files.items():
        yield Finding("pin-file", f"token.{name}.pin_file", reason)


def _all(setup: Setup, references: Iterable[Reference], facts: Facts, now: datetime) -> Iterator[Finding]:
    for reference in references:
        if reference.form == "setup" and not _DECIMAL.fullmatch(reference.slot):
            if not facts.failure:
                tokens = _shown(facts)
                what = f"the module has no token with the label {reference.slot}; it has: {tokens}"
                yield Finding("token-unknown", reference.where, what)
            continue
        wrong = list(_form(reference, setup))
        yield from wrong
        if facts.failure or any(each.weight is Weight.ERROR for each in wrong):
            continue
        yield from _in_token(reference, facts, now)


def _form(reference: Reference, setup: Setup) -> Iterator[Finding]:
    """Look at how an object is named."""
    if reference.form == "ipsec":
        good_slot, good_id = _DECIMAL, is_hex_id(reference.handle)
        slot_rule, id_rule = "must be decimal here", "two digits for each byte, without 0x and colons"
    else:
        good_slot, good_id = _SLOT, _SWANCTL_ID.fullmatch(reference.handle) is not None
        slot_rule, id_rule = "must be a decimal or 0x number", "two digits for each byte"
    if reference.slot and not good_slot.fullmatch(reference.slot):
        yield Finding("slot-form", reference.where, f"slot {reference.slot}: {slot_rule}")
        return
    if not good_id:
        yield Finding(
            "handle-form",
            reference.where,
            f"the handle must be the whole CKA_ID in hexadecimal, {id_rule}; never a label",
        )
    if reference.module and not reference.slot:
        yield Finding(
            "slot-missing",
            reference.where,
            "charon ignores a module that is given without a slot, and takes the first token that fits",
        )
    if reference.module and reference.module != setup.module.name:
        yield Finding(
            "module-unknown", reference.where, f"module {reference.module}: charon is told of {setup.module.name} only"
        )


def _in_token(reference: Reference, facts: Facts, now: datetime) -> Iterator[Finding]:
    """Look for what an object's name leads to."""
    handle = reference.handle.lower().removeprefix("0x").replace(":", "")
    where = reference.where
    fitting = [slot for slot in facts.slots if any(each.id == handle for each in (*slot.objects, *slot.private))]
    if not reference.slot:
        if len(fitting) > 1:
            numbers = ", ".join(f"{each.number} ({each.label})" for each in fitting)
            yield Finding(
                "id-twice",
                where,
                f"CKA_ID {handle} is in several tokens, slots {numbers}; charon takes the first: give slot and module",
            )
        if not fitting:
            yield Finding(
                "key-missing", where, f"no token has an object with CKA_ID {handle} that can be read without login"
            )
            return
        slot = fitting[0]
    else:
        number = int(reference.slot, 0 if reference.slot[:2].lower() == "0x" else 10)
        at = next((each for each in facts.slots if each.number == number), None)
        if at is None:
            yield Finding(
                "slot-unknown",
                where,
                f"the module has no slot {number}; slots with tokens: {_shown(facts)}. A slot is named by its number, not by its place",
            )
            return
        slot = at
    if not slot.is_initialised:
        yield Finding("token-empty", where, f"the token in slot {slot.number} is not initialised")
        return
    if slot.login not in {"", "CKR_OK"}:
        yield Finding("login", where, f"slot {slot.number} refuses the PIN: {slot.login}")
    yield from _objects(handle, where, slot, now, elsewhere=[each for each in fitting if each is not slot])


def _shown(facts: Facts) -> str:
    return ", ".join(f"{each.number} ({each.label})" for each in facts.slots) or "none"


def _objects(handle: str, where: str, slot: SeenSlot, now: datetime, elsewhere: list[SeenSlot]) -> Iterator[Finding]:
    of_id = [each for each in slot.objects if each.id == handle]
    hidden = [each for each in slot.private if each.id == handle and each not in of_id]
    keys = [each for each in of_id if each.kind == "public"]
    certificates = [each for each in of_id if each.kind == "certificate"]
    if not of_id:
        if any(each.kind != "private" for each in hidden):
            yield Finding(
                "public-hidden",
                where,
                f"the public key or certificate with CKA_ID {handle} can be read after login only (CKA_PRIVATE); charon looks for it without login",
            )
        else:
            has = ", ".join(sorted({each.id for each in slot.objects if each.kind != "private"})) or "none"
            hint = f"; slot {elsewhere[0].number} has it" if elsewhere else ""
            yield Finding(
                "key-missing",
                where,
                f"slot {slot.number} has no object with CKA_ID {handle} that can be read without login (it has: {has}){hint}",
            )
        return
    if slot.login == "CKR_OK" and not any(each.kind == "private" and each.id == handle for each in slot.private):
        yield Finding("private-missing", where, f"slot {slot.number} has no private key with CKA_ID {handle}")
    if not certificates:
        yield Finding("certificate-missing", where, f"slot {slot.number} has no certificate with CKA_ID {handle}")
    if len(certificates) > 1:
        yield Finding(
            "certificate-twice",
            where,
            f"slot {slot.number} has {len(certificates)} certificates with CKA_ID {handle}; charon takes the first",
            Weight.WARNING,
        )
    public = next((each.public for each in keys if each.public), "")
    for each in certificates:
        yield from _certificate(each, where, public, now)


def _certificate(found: SeenObject, where: str, public: str, now: datetime) -> Iterator[Finding]:
    try:
        certificate: Seen = seen(found.certificate)
    except ValueError:
        yield Finding("certificate-malformed", where, f"the certificate {found.label} is none")
        return
    who = f"the certificate of {certificate.subject}"
    if public and certificate.public != public:
        yield Finding(
            "certificate-other-key",
            where,
            f"{who} is of another key; charon will say that it finds no private key for it",
        )
    if not certificate.may_sign:
        yield Finding(
            "certificate-usage",
            where,
            f"{who} has a key usage without digitalSignature and nonRepudiation, and peers reject it",
        )
    if now < certificate.begin:
        yield Finding("certificate-early", where, f"{who} is not valid before {certificate.begin:%Y-%m-%d %H:%M} UTC")
    if now > certificate.end:
        yield Finding(
            "certificate-expired", where, f"{who} has not been valid since {certificate.end:%Y-%m-%d %H:%M} UTC"
        )
