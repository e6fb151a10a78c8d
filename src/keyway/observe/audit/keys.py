"""Signatures of checkpoints, and the public keys that they are checked with."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from keyway.observe.audit.verification import Check

__all__ = ["check_with"]


def check_with(pem: bytes) -> Check:
    """Return what checks signatures with a public key: ECDSA or RSA PKCS #1 v1.5, with SHA-256.

    Args:
        pem: The key.

    Raises:
        ValueError: It is none of these.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no public key in PEM") from None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return lambda message, signature: _ec(key, message, signature)
    if isinstance(key, rsa.RSAPublicKey):
        return lambda message, signature: _rsa(key, message, signature)
    raise ValueError("the key is neither EC nor RSA")


def _ec(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> bool:
    half = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * half:
        return False
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _rsa(key: rsa.RSAPublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, message, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
