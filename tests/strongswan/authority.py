"""A CA for IPsec peers: certificates for keys that are in tokens, and what it has revoked."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class IkeAuthority:
    """Issues certificates.

    Attributes:
        file: Its own certificate, as PEM.
    """

    def __init__(self, home: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab CA")])
        self._revoked: list[int] = []
        self.file = home / "ca.pem"
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = self._builder(self._name, self._key.public_key(), usage, path=0)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        public: bytes,
        *,
        digital_signature: bool = True,
        begin: timedelta = -DAY,
        end: timedelta = 365 * DAY,
    ) -> bytes:
        """Issue a certificate and return it as DER.

        Args:
            name: Common name of the subject.
            public: The public key, as DER (SubjectPublicKeyInfo).
            digital_signature: Whether its key may sign; else it may decipher keys.
            begin: When it becomes valid, from now.
            end: When it no longer is.
        """
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _usage(digital_signature=digital_signature, key_encipherment=not digital_signature)
        builder = self._builder(subject, load_der_public_key(public), usage, path=None, begin=begin, end=end)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def revoke(self, der: bytes) -> bytes:
        """Revoke a certificate and return the list of all that are revoked, as DER."""
        self._revoked.append(x509.load_der_x509_certificate(der).serial_number)
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - DAY)
            .next_update(now + DAY)
        )
        for serial in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        builder = builder.add_extension(x509.CRLNumber(len(self._revoked)), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _builder(self, subject, public, usage, path, begin=-DAY, end=365 * DAY) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(self._name)
            .subject_name(subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin)
            .not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(path is not None, path), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _usage(**usages: bool) -> x509.KeyUsage:
    names = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(**{name: usages.get(name, False) for name in names})
