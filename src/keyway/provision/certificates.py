"""Certificates as callers send them, and whether one may stand beside a key."""

from base64 import b64decode
from binascii import Error as Base64Error
from datetime import datetime, timedelta
from hashlib import sha1
from itertools import pairwise
from typing import Final, NamedTuple
from warnings import catch_warnings, simplefilter

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keyway.provision.keytypes import PublicKey
from keyway.provision.problems import Problem
from keyway.provision.publickey import der_of

__all__ = ["MAX_CERTIFICATES", "Told", "check", "key_identifier", "key_of", "read_certificates", "read_der", "tell"]

MAX_CERTIFICATES: Final = 16
"""Certificates in one text."""
MAX_DER: Final = 32_768
"""Bytes of one certificate."""
SKEW: Final = timedelta(minutes=5)
"""How far the clocks of CA and gateway may be apart."""

_BEGIN: Final = "-----BEGIN "
_END: Final = "-----END "
_DASHES: Final = "-----"
_LABELS: Final = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})

# What reading a certificate, or what is in it, may raise.
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)


def read_certificates(text: str) -> tuple[x509.Certificate, ...]:
    """Read certificates in any of the forms that callers use.

    Args:
        text: PEM with real line ends or with a backslash and an n for each, its base64 wrapped or not; base64 of a PEM file; or base64 of DER.
            Several PEM certificates are a chain.

    Raises:
        Problem: `malformed-pem` or `private-key-sent`.
    """
    if _BEGIN not in text:
        data = _base64(text)
        if _BEGIN.encode() not in data:
            return (_certificate(data),)
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError:
            raise _malformed("the PEM file is not ASCII") from None
    ders = _blocks(text.replace("\\r", "").replace("\\n", "\n"))
    if not ders:
        raise _malformed("there is no certificate in it")
    return tuple(map(_certificate, ders))


def _blocks(text: str) -> list[bytes]:
    """Return what is in the PEM blocks; text around them does not count (RFC 7468, section 2)."""
    found: list[bytes] = []
    at = 0
    while (begin := text.find(_BEGIN, at)) >= 0:
        begin += len(_BEGIN)
        head = text.find(_DASHES, begin)
        label = text[begin:head] if head >= 0 else ""
        if "PRIVATE KEY" in label:
            raise Problem("private-key-sent", "a private key has no place in a request; take it for known to others")
        if label not in _LABELS:
            raise _malformed("a block is no certificate")
        end = text.find(f"{_END}{label}{_DASHES}", head)
        if end < 0:
            raise _malformed("a block has no end")
        if len(found) == MAX_CERTIFICATES:
            raise _malformed(f"more than {MAX_CERTIFICATES} certificates")
        found.append(_base64(text[head + len(_DASHES) : end]))
        at = end + len(_END)
    return found


def _base64(text: str) -> bytes:
    try:
        data = b64decode("".join(text.split()).encode("ascii"), validate=True)
    except (Base64Error, UnicodeEncodeError, ValueError):
        raise _malformed("it is neither PEM nor base64") from None
    if not data:
        raise _malformed("it is empty")
    return data


def _certificate(der: bytes) -> x509.Certificate:
    if len(der) > MAX_DER:
        raise _malformed(f"a certificate has {len(der)} bytes, {MAX_DER} at most")
    if (certificate := read_der(der)) is None:
        raise _malformed("a certificate can't be read")
    return certificate


def read_der(der: bytes) -> x509.Certificate | None:
    """Return a certificate, None if it can't be read."""
    try:
        with catch_warnings():
            # Certificates that are read all the same: serial numbers that should not be negative, and the like.
            simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            # These are read when they are asked for; later is too late.
            for name in (
                "extensions",
                "subject",
                "issuer",
                "not_valid_after_utc",
                "not_valid_before_utc",
                "serial_number",
            ):
                getattr(certificate, name)
            certificate.subject.rfc4514_string()
    except _UNREADABLE:
        return None
    return certificate


def check(certificates: tuple[x509.Certificate, ...], key: PublicKey, now: datetime) -> None:
    """Check that the first certificate may stand beside a key, and that each of the others has issued the one before it.

    Args:
        certificates: At least one.
        key: The key on the token.
        now: The time, with its zone.

    Raises:
        Problem: `certificate-does-not-match`, `certificate-expired`, `certificate-not-yet-valid`, `no-digital-signature`,
            `unknown-critical-extension` or `chain-broken`.
    """
    first = certificates[0]
    if key_of(first) != der_of(key):
        raise Problem("certificate-does-not-match", "its public key is not the one on the token")
    if first.not_valid_after_utc < now:
        raise Problem("certificate-expired", f"it was valid until {first.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")
    if first.not_valid_before_utc > now + SKEW:
        raise Problem(
            "certificate-not-yet-valid", f"it is valid from {first.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC on"
        )
    for extension in first.extensions:
        if isinstance(extension.value, x509.KeyUsage) and not extension.value.digital_signature:
            raise Problem("no-digital-signature", "IKE peers would refuse it")
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise Problem("unknown-critical-extension", f"{extension.oid.dotted_string}: programs would refuse it")
    for number, (issued, issuer) in enumerate(pairwise(certificates), 2):
        try:
            issued.verify_directly_issued_by(issuer)
        except (InvalidSignature, *_UNREADABLE):
            raise Problem("chain-broken", f"certificate {number} has not issued the one before it") from None


def key_of(certificate: x509.Certificate) -> bytes:
    """Return the SubjectPublicKeyInfo of a certificate; nothing, if it is of a kind that there is not here."""
    try:
        key = certificate.public_key()
    except _UNREADABLE:
        return b""
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return der_of(key)
    return b""


def key_identifier(certificate: x509.Certificate) -> bytes:
    """Return what a certificate says its key is called, else the usual name of it (RFC 5280, section 4.2.1.2, method 1)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        pass
    try:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    except _UNREADABLE:
        return sha1(certificate.tbs_certificate_bytes, usedforsecurity=False).digest()


class Told(NamedTuple):
    """What can be read in a certificate, for people.

    Attributes:
        subject: As RFC 4514 writes it.
        issuer: The same.
        serial_number: In hexadecimal.
        not_before: ISO 8601.
        not_after: ISO 8601.
    """

    subject: str
    issuer: str
    serial_number: str
    not_before: str
    not_after: str


def tell(certificate: x509.Certificate) -> Told:
    """Return what can be read in a certificate."""
    return Told(
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        f"{certificate.serial_number:x}",
        certificate.not_valid_before_utc.isoformat(),
        certificate.not_valid_after_utc.isoformat(),
    )


def _malformed(detail: str) -> Problem:
    return Problem("malformed-pem", detail)
