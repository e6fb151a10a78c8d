"""How a token makes the signatures of requests: mechanisms, what goes in, and what comes out."""

from hashlib import new as new_hash
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from keyway.cryptoki import Mechanism, Structured
from keyway.cryptoki.constants import (
    CKG_MGF1_SHA256,
    CKG_MGF1_SHA384,
    CKG_MGF1_SHA512,
    CKM_ECDSA,
    CKM_EDDSA,
    CKM_RSA_PKCS,
    CKM_RSA_PKCS_PSS,
    CKM_SHA256,
    CKM_SHA256_RSA_PKCS,
    CKM_SHA384,
    CKM_SHA384_RSA_PKCS,
    CKM_SHA512,
    CKM_SHA512_RSA_PKCS,
    RV,
)
from keyway.provision.problems import Problem
from keyway.provision.requests import Scheme

__all__ = ["DIGEST_INFO", "Way", "is_lacking", "signature_of", "ways"]

_PSS_SHAPE: Final = 11
"""CK_RSA_PKCS_PSS_PARAMS (spec/mechanisms.toml)."""

_PSS: Final = {
    "sha256": (CKM_SHA256, CKG_MGF1_SHA256, 32),
    "sha384": (CKM_SHA384, CKG_MGF1_SHA384, 48),
    "sha512": (CKM_SHA512, CKG_MGF1_SHA512, 64),
}
_PKCS1: Final = {"sha256": CKM_SHA256_RSA_PKCS, "sha384": CKM_SHA384_RSA_PKCS, "sha512": CKM_SHA512_RSA_PKCS}
DIGEST_INFO: Final = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
"""What stands before the digest in a DigestInfo (RFC 8017, section 9.2, note 1)."""


class Way(NamedTuple):
    """One way to have something signed.

    Attributes:
        mechanism: For C_SignInit.
        data: For C_Sign.
    """

    mechanism: Mechanism
    data: bytes


def ways(scheme: Scheme, data: bytes) -> tuple[Way, ...]:
    """Return the ways to sign something; the next one is for tokens that do not have the mechanism of the one before it.

    Args:
        scheme: How.
        data: What, before it is hashed.
    """
    match scheme.kind:
        case "ed25519":
            return (Way(Mechanism(CKM_EDDSA), data),)
        case "ecdsa":
            return (Way(Mechanism(CKM_ECDSA), _digest(scheme, data)),)
        case "pss":
            return (Way(Mechanism(CKM_RSA_PKCS_PSS, Structured(_PSS_SHAPE, _PSS[scheme.hash])), _digest(scheme, data)),)
    return (
        Way(Mechanism(_PKCS1[scheme.hash]), data),
        Way(Mechanism(CKM_RSA_PKCS), DIGEST_INFO[scheme.hash] + _digest(scheme, data)),
    )


def signature_of(scheme: Scheme, made: bytes) -> bytes:
    """Return a token's signature in the form that X.509 has: for ECDSA a DER sequence, not two numbers side by side.

    Raises:
        Problem: `token-error`.
    """
    if scheme.kind != "ecdsa":
        return made
    if not made or len(made) % 2:
        raise Problem("token-error", "the token's signature is no pair of numbers")
    half = len(made) // 2
    return encode_dss_signature(int.from_bytes(made[:half], "big"), int.from_bytes(made[half:], "big"))


def _digest(scheme: Scheme, data: bytes) -> bytes:
    return new_hash(scheme.hash, data).digest()


def is_lacking(rv: int) -> bool:
    """Tell whether an RV of C_SignInit says that the token, or the key, does not know the mechanism."""
    return rv in (RV.CKR_MECHANISM_INVALID, RV.CKR_FUNCTION_NOT_SUPPORTED)
