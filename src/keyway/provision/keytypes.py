"""Key types: how they are called, made, read from a token, and used to sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_DERIVE,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_ENCRYPT,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_MODULUS_BITS,
    CKA_PRIVATE,
    CKA_PUBLIC_EXPONENT,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_VERIFY,
    CKA_WRAP,
    CKK_EC,
    CKK_EC_EDWARDS,
    CKK_RSA,
    CKM_EC_EDWARDS_KEY_PAIR_GEN,
    CKM_EC_KEY_PAIR_GEN,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)
from keyway.cryptoki.values import Attribute, Template
from keyway.provision.problems import Problem

__all__ = [
    "KEY_TYPES",
    "PUBLIC_ATTRIBUTES",
    "USAGES",
    "KeyType",
    "PublicKey",
    "parse_key_type",
    "parse_usages",
    "public_key_of",
    "templates",
    "type_of",
]

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
"""The public keys that there are here."""

_EXPONENT: Final = (65537).to_bytes(3, "big")


@dataclass(frozen=True, slots=True)
class KeyType:
    """A type of key pairs.

    Attributes:
        name: How callers write it.
        key_type: CK_KEY_TYPE.
        mechanism: That makes such a pair.
        parameters: Forms of CKA_EC_PARAMS, one of which the token takes. Empty for RSA.
        bits: Of the modulus, for RSA; else 0.
        curve: The curve as `cryptography` calls it; empty for what is not ECDSA.
        usages: What such keys can be used for.
    """

    name: str
    key_type: int
    mechanism: int
    parameters: tuple[bytes, ...] = ()
    bits: int = 0
    curve: str = ""
    usages: tuple[str, ...] = ()


def _rsa(bits: int) -> KeyType:
    usages = ("sign", "decrypt", "unwrap")
    return KeyType(f"rsa:{bits}", CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, bits=bits, usages=usages)


def _ec(name: str, curve: str, oid: str) -> KeyType:
    parameters = (bytes.fromhex(oid),)
    return KeyType(f"EC:{name}", CKK_EC, CKM_EC_KEY_PAIR_GEN, parameters, curve=curve, usages=("sign", "derive"))


_ED25519: Final = KeyType(
    "Ed25519",
    CKK_EC_EDWARDS,
    CKM_EC_EDWARDS_KEY_PAIR_GEN,
    # The object identifier of RFC 8410; then, for older modules, the name that PKCS #11 3.0 has.
    (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519"),
    usages=("sign",),
)

KEY_TYPES: Final[Mapping[str, KeyType]] = {
    each.name.lower(): each
    for each in (
        _rsa(2048),
        _rsa(3072),
        _rsa(4096),
        _ec("prime256v1", "secp256r1", "06082a8648ce3d030107"),
        _ec("secp384r1", "secp384r1", "06052b81040022"),
        _ec("secp521r1", "secp521r1", "06052b81040023"),
        _ED25519,
    )
}
"""The key types, by their names in small letters."""

USAGES: Final = ("sign", "decrypt", "unwrap", "derive")
"""What private keys may be used for. The public key may be used for what undoes it."""

_PRIVATE_USAGES: Final = {"sign": CKA_SIGN, "decrypt": CKA_DECRYPT, "unwrap": CKA_UNWRAP, "derive": CKA_DERIVE}
_PUBLIC_USAGES: Final = {"sign": CKA_VERIFY, "decrypt": CKA_ENCRYPT, "unwrap": CKA_WRAP}

PUBLIC_ATTRIBUTES: Final = (CKA_KEY_TYPE, CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_EC_PARAMS, CKA_EC_POINT)
"""Attributes that tell what a public key is."""


def parse_key_type(text: str) -> KeyType:
    """Return a key type by its name, in letters of any case.

    Raises:
        Problem: `bad-key-type`.
    """
    try:
        return KEY_TYPES[text.lower()]
    except KeyError:
        names = ", ".join(each.name for each in KEY_TYPES.values())
        raise Problem("bad-key-type", f"there are {names}") from None


def parse_usages(kind: KeyType, usages: Sequence[str]) -> frozenset[str]:
    """Return what a key shall be used for.

    Raises:
        Problem: `bad-usage`.
    """
    if not usages:
        raise Problem("bad-usage", "a key that is for nothing")
    for each in usages:
        if each not in kind.usages:
            raise Problem("bad-usage", f"{kind.name} is for {', '.join(kind.usages)}")
    return frozenset(usages)


def templates(
    kind: KeyType, parameters: bytes, label: str, id_: bytes, usages: frozenset[str], *, extractable: bool
) -> tuple[Template, Template]:
    """Return the templates of the public and the private key of a new pair (C_GenerateKeyPair).

    Label and CKA_ID are in both from the beginning: whatever happens after the call, the pair is found by them.

    Args:
        kind: Its type.
        parameters: One of the type's `parameters`; empty for RSA.
        label: CKA_LABEL of both.
        id_: CKA_ID of both.
        usages: What the pair is for.
        extractable: Whether the private key may be wrapped.
    """
    shared = (Attribute(CKA_TOKEN, b"\1"), Attribute(CKA_LABEL, label.encode()), Attribute(CKA_ID, id_))
    if kind.bits:
        made: tuple[Attribute, ...] = (
            Attribute(CKA_MODULUS_BITS, kind.bits),
            Attribute(CKA_PUBLIC_EXPONENT, _EXPONENT),
        )
    else:
        made = (Attribute(CKA_EC_PARAMS, parameters),)
    # What is not asked for is said as well: some modules allow everything that they are not told.
    public = (
        Attribute(CKA_CLASS, CKO_PUBLIC_KEY),
        *shared,
        # charon looks for the public key before it logs in.
        Attribute(CKA_PRIVATE, b"\0"),
        *made,
        *(_flag(_PUBLIC_USAGES[each], each in usages) for each in kind.usages if each in _PUBLIC_USAGES),
    )
    private = (
        Attribute(CKA_CLASS, CKO_PRIVATE_KEY),
        *shared,
        Attribute(CKA_PRIVATE, b"\1"),
        Attribute(CKA_SENSITIVE, b"\1"),
        _flag(CKA_EXTRACTABLE, extractable),
        *(_flag(_PRIVATE_USAGES[each], each in usages) for each in kind.usages),
    )
    return public, private


def public_key_of(attributes: Mapping[int, Any]) -> PublicKey | None:
    """Return the public key that attributes tell, None if they tell none that there is here.

    Args:
        attributes: Of a public key, or of a private RSA key, by their types (`PUBLIC_ATTRIBUTES`); those that the token has.
    """
    try:
        match attributes.get(CKA_KEY_TYPE):
            case number if number == CKK_RSA:
                modulus, exponent = attributes.get(CKA_MODULUS), attributes.get(CKA_PUBLIC_EXPONENT)
                if not modulus or not exponent:
                    return None
                return rsa.RSAPublicNumbers(_number(exponent), _number(modulus)).public_key()
            case number if number == CKK_EC:
                kind = _by_parameters(attributes.get(CKA_EC_PARAMS))
                if kind is None or not kind.curve:
                    return None
                curve = _CURVES[kind.curve]()
                return _from_point(
                    attributes.get(CKA_EC_POINT),
                    lambda point: ec.EllipticCurvePublicKey.from_encoded_point(curve, point),
                )
            case number if number == CKK_EC_EDWARDS:
                if _by_parameters(attributes.get(CKA_EC_PARAMS)) is not _ED25519:
                    return None
                return _from_point(attributes.get(CKA_EC_POINT), ed25519.Ed25519PublicKey.from_public_bytes)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return None


def type_of(key: PublicKey) -> str:
    """Return the name of a public key's type; one that can't be made here has a name of the same form."""
    match key:
        case rsa.RSAPublicKey():
            return f"rsa:{key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"EC:{'prime256v1' if key.curve.name == 'secp256r1' else key.curve.name}"
    return _ED25519.name


_CURVES: Final[Mapping[str, type[ec.EllipticCurve]]] = {
    "secp256r1": ec.SECP256R1,
    "secp384r1": ec.SECP384R1,
    "secp521r1": ec.SECP521R1,
}


def _flag(type_: int, value: bool) -> Attribute:
    return Attribute(type_, b"\1" if value else b"\0")


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _by_parameters(data: bytes | None) -> KeyType | None:
    return next((each for each in KEY_TYPES.values() if data and data in each.parameters), None)


def _from_point(data: bytes | None, make: Any) -> PublicKey | None:
    """Return the key of a CKA_EC_POINT: an OCTET STRING by the standard, its contents by some modules."""
    for point in (_contents(data or b""), data):
        if point:
            try:
                key: PublicKey = make(point)
            except ValueError:
                continue
            return key
    return None


def _contents(data: bytes) -> bytes:
    """Return the contents of a DER OCTET STRING of less than 256 bytes; nothing if it is none."""
    if data[:2] == b"\x04\x81" and len(data) > 3 and data[2] >= 0x80 and data[2] == len(data) - 3:
        return data[3:]
    if data[:1] == b"\x04" and len(data) > 2 and data[1] < 0x80 and data[1] == len(data) - 2:
        return data[2:]
    return b""
