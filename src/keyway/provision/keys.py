"""Key pairs on a token: found, made and deleted."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from keyway.cryptoki import RV, Attribute, CkError
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)
from keyway.observe.log import event
from keyway.provision.keytypes import PUBLIC_ATTRIBUTES, KeyType, PublicKey, public_key_of, templates, type_of
from keyway.provision.labels import object_label
from keyway.provision.models import KeyAnswer
from keyway.provision.problems import Problem
from keyway.provision.publickey import der_of, jwk_of, pem_of, thumbprint_of
from keyway.provision.references import KeyRef
from keyway.provision.session import Session

__all__ = ["KeyPair", "answer_of", "create_pair", "delete_pair", "find_pair", "id_of", "list_pairs"]

_ID_BYTES: Final = 8

_NOT_THESE_PARAMETERS: Final = frozenset(
    {
        RV.CKR_ATTRIBUTE_VALUE_INVALID,
        RV.CKR_CURVE_NOT_SUPPORTED,
        RV.CKR_DOMAIN_PARAMS_INVALID,
        RV.CKR_FUNCTION_FAILED,
        RV.CKR_GENERAL_ERROR,
        RV.CKR_TEMPLATE_INCONSISTENT,
    }
)
"""What tokens answer to a form of CKA_EC_PARAMS that they do not know."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair on a token.

    Attributes:
        private: Handle of the private key, 0 if it was not seen.
        public: Handles of its public keys; more than one if others have put a second one there.
        label: CKA_LABEL.
        id: CKA_ID.
        key: The public key.
        type: The name of its type.
    """

    private: int
    public: tuple[int, ...]
    label: str
    id: bytes
    key: PublicKey
    type: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", type_of(self.key))


def id_of(label: str) -> bytes:
    """Return the CKA_ID of a pair whose maker has chosen none. It follows from the label, so that a retry asks for the same."""
    return sha256(b"keyway:" + label.encode()).digest()[:_ID_BYTES]


async def find_pair(session: Session, ref: KeyRef) -> KeyPair:
    """Return the one key pair that is meant.

    Args:
        session: Logged in.
        ref: Which.

    Raises:
        Problem: `key-missing`, `key-ambiguous` or `key-incomplete`.
        CkError: The token refuses.
    """
    privates = await session.find(*_wanted(CKO_PRIVATE_KEY, ref.label, ref.id))
    if not privates:
        raise Problem("key-missing", f"there is no private key {ref.text}")
    if len(privates) > 1:
        raise Problem("key-ambiguous", f"there are {len(privates)} private keys {ref.text}")
    return await _pair(session, privates[0])


async def _pair(session: Session, private: int) -> KeyPair:
    told = await session.attributes(private, CKA_LABEL, CKA_ID, *PUBLIC_ATTRIBUTES)
    label, id_ = _text(told.get(CKA_LABEL)), _bytes(told.get(CKA_ID))
    own = public_key_of(told)
    if not id_ and not label:
        raise Problem("key-incomplete", "the private key has neither label nor CKA_ID, so nobody knows its public key")
    candidates = await _public_keys(session, label if not id_ else None, id_ or None)
    if own is None:
        # The CKA_ID says which public key it is; where several pairs have the same, the label does, too.
        of_type = [each for each in candidates if each.kind == told.get(CKA_KEY_TYPE)]
        named = [each for each in of_type if each.label == label] or of_type
        keys = {der_of(each.key): each.key for each in named}
        if not keys:
            raise Problem("key-incomplete", f"there is no public key with the CKA_ID of {label!r}")
        if len(keys) > 1:
            raise Problem("key-ambiguous", f"there are {len(keys)} public keys with label and CKA_ID of {label!r}")
        ((_, own),) = keys.items()
    der = der_of(own)
    return KeyPair(private, tuple(each.handle for each in candidates if der_of(each.key) == der), label, id_, own)


@dataclass(frozen=True, slots=True)
class _Public:
    handle: int
    kind: Any
    label: str
    id: bytes
    key: PublicKey


async def _public_keys(session: Session, label: str | None, id_: bytes | None) -> list[_Public]:
    found = []
    for handle in await session.find(*_wanted(CKO_PUBLIC_KEY, label, id_)):
        told = await session.attributes(handle, CKA_LABEL, CKA_ID, *PUBLIC_ATTRIBUTES)
        if (key := public_key_of(told)) is not None:
            found.append(_Public(handle, told[CKA_KEY_TYPE], _text(told.get(CKA_LABEL)), _bytes(told.get(CKA_ID)), key))
    return found


async def list_pairs(session: Session) -> list[KeyPair]:
    """Return all key pairs that are seen: without a login, what the public keys tell.

    Raises:
        CkError: The token refuses.
    """
    pairs: list[KeyPair] = []
    for handle in await session.find(Attribute(CKA_CLASS, CKO_PRIVATE_KEY)):
        try:
            pairs.append(await _pair(session, handle))
        except Problem:
            continue  # Of a type that there is not here, or without a public key.
    known = {handle for pair in pairs for handle in pair.public}
    pairs += [
        KeyPair(0, (each.handle,), each.label, each.id, each.key)
        for each in await _public_keys(session, None, None)
        if each.handle not in known
    ]
    return sorted(pairs, key=lambda pair: (pair.label, pair.id))


async def create_pair(
    session: Session,
    kind: KeyType,
    label: str,
    id_: bytes,
    usages: frozenset[str],
    *,
    extractable: bool = False,
    shares_id: bool = False,
) -> tuple[KeyPair, bool]:
    """Return the key pair with a label, and whether it was made now. One that is there is used.

    The caller sees to it that nobody else in this process does the same meanwhile.

    Args:
        session: Logged in, and may write.
        kind: The type.
        label: CKA_LABEL.
        id_: CKA_ID of a new one; empty: one that is made from the label.
        usages: What a new one is for.
        extractable: Whether the private key of a new one may be wrapped.
        shares_id: Whether another pair may have this CKA_ID.

    Raises:
        Problem: `key-exists-with-other-type`, `key-id-in-use`, `key-type-not-supported`, or what `find_pair` raises.
        CkError: The token refuses.
    """
    ref = KeyRef(label, object_label(label))
    try:
        pair = await find_pair(session, ref)
    except Problem as problem:
        if problem.code != "key-missing":
            raise
    else:
        if pair.type != kind.name:
            raise Problem("key-exists-with-other-type", f"{label!r} is {pair.type}, not {kind.name}")
        return pair, False
    id_ = id_ or id_of(label)
    if not shares_id and await session.find(*_wanted(CKO_PRIVATE_KEY, None, id_)):
        raise Problem("key-id-in-use", f"a private key with another label has the CKA_ID {id_.hex()}")
    await _clear_remainder(session, label, id_)
    await _generate(session, kind, label, id_, usages, extractable=extractable)
    return await find_pair(session, ref), True


async def _clear_remainder(session: Session, label: str, id_: bytes) -> None:
    """Delete what is left of a pair that was being made when its module died: a public key with this label and CKA_ID whose private key never came to be."""
    if await session.find(*_wanted(CKO_PRIVATE_KEY, None, id_)):
        return
    for handle in await session.find(*_wanted(CKO_PUBLIC_KEY, label, id_)):
        await session.destroy(handle)
        event(logging.WARNING, "public key without private key deleted", label=label, id=id_.hex())


async def _generate(
    session: Session, kind: KeyType, label: str, id_: bytes, usages: frozenset[str], *, extractable: bool
) -> None:
    forms = kind.parameters or (b"",)
    for parameters in forms:
        public, private = templates(kind, parameters, label, id_, usages, extractable=extractable)
        try:
            await session.generate_pair(kind.mechanism, public, private)
        except CkError as error:
            if error.rv in _NOT_THESE_PARAMETERS and parameters != forms[-1]:
                continue
            if error.rv == RV.CKR_MECHANISM_INVALID:
                raise Problem("key-type-not-supported", kind.name, rv=error.rv) from None
            raise
        return


async def delete_pair(session: Session, ref: KeyRef) -> None:
    """Delete a key pair, or what an interrupted deletion has left of it.

    Args:
        session: Logged in, and may write.
        ref: Which.

    Raises:
        Problem: `key-missing` or `key-ambiguous`.
        CkError: The token refuses.
    """
    privates = await session.find(*_wanted(CKO_PRIVATE_KEY, ref.label, ref.id))
    if len(privates) > 1:
        raise Problem("key-ambiguous", f"there are {len(privates)} private keys {ref.text}")
    label, id_ = ref.label, ref.id
    if privates:
        told = await session.attributes(privates[0], CKA_LABEL, CKA_ID)
        label, id_ = _text(told.get(CKA_LABEL)), _bytes(told.get(CKA_ID))
    publics = await session.find(*_wanted(CKO_PUBLIC_KEY, label, id_))
    if not privates and not publics:
        raise Problem("key-missing", f"there is no key pair {ref.text}")
    for handle in (*privates, *publics):
        await session.destroy(handle)


def answer_of(pair: KeyPair) -> KeyAnswer:
    """Return what callers are told of a key pair."""
    return KeyAnswer(
        label=pair.label,
        id=pair.id.hex(),
        type=pair.type,
        public_key_pem=pem_of(pair.key),
        public_key_jwk=jwk_of(pair.key),
        thumbprint=thumbprint_of(pair.key),
        has_private_key=bool(pair.private),
    )


def _wanted(class_: int, label: str | None, id_: bytes | None) -> tuple[Attribute, ...]:
    return (
        Attribute(CKA_CLASS, class_),
        *(() if label is None else (Attribute(CKA_LABEL, label.encode()),)),
        *(() if id_ is None else (Attribute(CKA_ID, id_),)),
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b""
