"""Public keys as text: PEM, and JWK (RFC 7517, RFC 8037)."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from json import dumps

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyway.provision.keytypes import PublicKey

__all__ = ["der_of", "jwk_of", "pem_of", "thumbprint_of"]

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def der_of(key: PublicKey) -> bytes:
    """Return the SubjectPublicKeyInfo: two keys are the same if these are."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem_of(key: PublicKey) -> str:
    """Return the PEM text."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk_of(key: PublicKey) -> dict[str, str]:
    """Return the JSON Web Key, with nothing but what makes it up."""
    match key:
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        case ec.EllipticCurvePublicKey():
            point = key.public_numbers()
            size = (key.key_size + 7) // 8
            return {
                "kty": "EC",
                "crv": _CURVES[key.curve.name],
                "x": _text(point.x.to_bytes(size, "big")),
                "y": _text(point.y.to_bytes(size, "big")),
            }
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": _text(raw)}


def thumbprint_of(key: PublicKey) -> str:
    """Return the thumbprint of the JSON Web Key with SHA-256 (RFC 7638)."""
    return _text(sha256(dumps(jwk_of(key), sort_keys=True, separators=(",", ":")).encode()).digest())


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
