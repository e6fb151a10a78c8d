"""What charon will think of a certificate in a token."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["Seen", "ec_text", "public_text", "rsa_text", "seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What matters of a certificate.

    Attributes:
        subject: Its subject (RFC 4514).
        public: Its public key, as `public_text` has it.
        may_sign: Whether it may be used for signatures: its key usage says digitalSignature or nonRepudiation, or nothing at all.
        begin: When it becomes valid.
        end: When it no longer is.
    """

    subject: str
    public: str
    may_sign: bool
    begin: datetime
    end: datetime


def seen(der: bytes) -> Seen:
    """Look at a certificate.

    Raises:
        ValueError: It is none.
    """
    certificate = x509.load_der_x509_certificate(der)
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        may_sign = usage.digital_signature or usage.content_commitment
    except x509.ExtensionNotFound:
        may_sign = True
    return Seen(
        subject=certificate.subject.rfc4514_string(),
        public=public_text(certificate),
        may_sign=may_sign,
        begin=certificate.not_valid_before_utc,
        end=certificate.not_valid_after_utc,
    )


def public_text(certificate: x509.Certificate) -> str:
    """Return the public key of a certificate as text; equal keys give equal texts. Empty for kinds that charon can't use in a token."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return rsa_text(numbers.n, numbers.e)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return ec_text(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    return ""


def rsa_text(modulus: int, exponent: int) -> str:
    """Return an RSA public key as text."""
    return f"rsa:{modulus:x}:{exponent:x}"


def ec_text(point: bytes) -> str:
    """Return a point of an elliptic curve as text.

    Args:
        point: The point, uncompressed, perhaps in a DER octet string (CKA_EC_POINT).
    """
    for header in (2, 3):  # Tag and length; long forms of the length have one byte more up to 255 bytes of content.
        if (
            len(point) > header
            and point[0] == 0x04
            and point[header - 1] == len(point) - header
            and point[header] == 0x04
        ):
            return f"ec:{point[header:].hex()}"
    return f"ec:{point.hex()}"
