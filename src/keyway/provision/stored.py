"""Certificates on a token: stored, replaced, listed and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from keyway.cryptoki import Attribute
from keyway.cryptoki.constants import (
    CKA_CERTIFICATE_TYPE,
    CKA_CLASS,
    CKA_ID,
    CKA_ISSUER,
    CKA_LABEL,
    CKA_PRIVATE,
    CKA_SERIAL_NUMBER,
    CKA_SUBJECT,
    CKA_TOKEN,
    CKA_VALUE,
    CKC_X_509,
    CKO_CERTIFICATE,
)
from keyway.provision.certificates import key_identifier, key_of, read_der, tell
from keyway.provision.keys import KeyPair
from keyway.provision.labels import MAX_OBJECT_LABEL
from keyway.provision.models import CertificateAnswer
from keyway.provision.problems import Problem
from keyway.provision.publickey import der_of
from keyway.provision.session import Session

__all__ = ["Stored", "answer_of", "delete_certificate", "find_certificate", "list_certificates", "store"]

_CERTIFICATE: Final = (Attribute(CKA_CLASS, CKO_CERTIFICATE), Attribute(CKA_CERTIFICATE_TYPE, CKC_X_509))


@dataclass(frozen=True, slots=True)
class Stored:
    """A certificate on a token.

    Attributes:
        handle: Its handle.
        label: CKA_LABEL.
        id: CKA_ID.
        certificate: What it is.
    """

    handle: int
    label: str
    id: bytes
    certificate: x509.Certificate


async def store(
    session: Session, pair: KeyPair, certificates: Sequence[x509.Certificate], *, replaces: bool
) -> tuple[Stored, bool]:
    """Put a certificate beside its key, and its chain onto the token. Return it, and whether it was not there before.

    It gets label and CKA_ID of the key. What it replaces is deleted when it is there, so there is a certificate at any time; should that be interrupted, a retry goes on.

    Args:
        session: Logged in, and may write.
        pair: The key pair.
        certificates: The certificate, then its chain; they have been checked.
        replaces: Whether it takes the place of other certificates of this key.

    Raises:
        Problem: `certificate-exists`: there is another one, and it shall not be replaced.
        CkError: The token refuses.
    """
    own, *chain = certificates
    present = await list_certificates(session, Attribute(CKA_ID, pair.id))
    # Several pairs may have the same CKA_ID; then only those of this key are meant.
    of_key = [each for each in present if key_of(each.certificate) == der_of(pair.key)]
    same = [each for each in of_key if each.certificate == own]
    others = [each for each in of_key if each.certificate != own]
    if others and not same and not replaces:
        raise Problem("certificate-exists", f"{pair.label!r} has a certificate already")
    for each in chain:
        value = each.public_bytes(Encoding.DER)
        if not await session.find(*_CERTIFICATE, Attribute(CKA_VALUE, value)):
            await session.create(*_template(each, _name_of(each), key_identifier(each)))
    if not same:
        handle = await session.create(*_template(own, pair.label, pair.id))
        same = [Stored(handle, pair.label, pair.id, own)]
        is_new = True
    else:
        is_new = False
    if replaces:
        # Twins of the new one are left of nothing that happens here; what is superfluous goes with the old ones.
        for old in (*others, *same[1:]):
            await session.destroy(old.handle)
    return same[0], is_new


def _template(certificate: x509.Certificate, label: str, id_: bytes) -> tuple[Attribute, ...]:
    return (
        *_CERTIFICATE,
        Attribute(CKA_TOKEN, b"\1"),
        Attribute(CKA_PRIVATE, b"\0"),
        Attribute(CKA_LABEL, label.encode()),
        Attribute(CKA_ID, id_),
        Attribute(CKA_SUBJECT, certificate.subject.public_bytes()),
        Attribute(CKA_ISSUER, certificate.issuer.public_bytes()),
        Attribute(CKA_SERIAL_NUMBER, _integer(certificate.serial_number)),
        Attribute(CKA_VALUE, certificate.public_bytes(Encoding.DER)),
    )


def _integer(value: int) -> bytes:
    """Return the DER encoding of a serial number, which has 20 bytes at most (RFC 5280), or somewhat more."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return b"\x02" + (bytes([len(data)]) if len(data) < 0x80 else bytes([0x82, *len(data).to_bytes(2, "big")])) + data


def _name_of(certificate: x509.Certificate) -> str:
    """Return what a certificate of a CA is called: its common name, or else all of its name."""
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(common[0].value) if common else certificate.subject.rfc4514_string()
    return text.encode()[:MAX_OBJECT_LABEL].decode("utf-8", "ignore")


async def list_certificates(session: Session, *wanted: Attribute) -> list[Stored]:
    """Return the X.509 certificates that have these attributes; those that can't be read are left out.

    Raises:
        CkError: The token refuses.
    """
    found: list[Stored] = []
    for handle in await session.find(*_CERTIFICATE, *wanted):
        told = await session.attributes(handle, CKA_LABEL, CKA_ID, CKA_VALUE)
        label, id_, value = (told.get(each) for each in (CKA_LABEL, CKA_ID, CKA_VALUE))
        if isinstance(value, bytes) and (certificate := read_der(value)) is not None:
            found.append(
                Stored(
                    handle,
                    label.decode("utf-8", "replace") if isinstance(label, bytes) else "",
                    id_ if isinstance(id_, bytes) else b"",
                    certificate,
                )
            )
    return found


async def find_certificate(session: Session, fingerprint: str) -> list[Stored]:
    """Return the objects with a certificate; several, if it is there several times.

    Args:
        session: The session.
        fingerprint: SHA-256 of the DER, in hexadecimal, in small letters.

    Raises:
        Problem: `certificate-missing`.
        CkError: The token refuses.
    """
    found = [each for each in await list_certificates(session) if _fingerprint(each.certificate) == fingerprint]
    if not found:
        raise Problem("certificate-missing", f"no certificate has the fingerprint {fingerprint}")
    return found


async def delete_certificate(session: Session, fingerprint: str) -> None:
    """Delete a certificate, however often it is there.

    Raises:
        Problem: `certificate-missing`.
        CkError: The token refuses.
    """
    for each in await find_certificate(session, fingerprint):
        await session.destroy(each.handle)


def answer_of(stored: Stored) -> CertificateAnswer:
    """Return what callers are told of a certificate."""
    told = tell(stored.certificate)
    return CertificateAnswer(
        label=stored.label,
        id=stored.id.hex(),
        sha256=_fingerprint(stored.certificate),
        pem=stored.certificate.public_bytes(Encoding.PEM).decode(),
        **told._asdict(),
    )


def _fingerprint(certificate: x509.Certificate) -> str:
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
