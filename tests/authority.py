"""A certificate authority for tests: certificates that are good, expired, of the wrong kind, revoked."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def options(self) -> str:
        """The two as lines of the configuration."""
        return f'certificate = "{self.certificate}"\nkey = "{self.key}"\n'


class Authority:
    """A CA with its files in a directory."""

    def __init__(self, home: Path, name: str = "ca") -> None:
        self._home = home
        self._name = name
        self._ca = trustme.CA(organization_name=name)
        self.file = home / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, stem: str = "", expired: bool = False) -> Pair:
        """Issue a certificate for some names; the files are written anew if they are there."""
        end = datetime.now(UTC) - timedelta(days=1) if expired else None
        leaf = self._ca.issue_cert(*names, common_name=names[0], not_after=end)
        stem = stem or names[0]
        pair = Pair(self._home / f"{self._name}-{stem}.crt", self._home / f"{self._name}-{stem}.key")
        pair.key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(pair.key)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        pair.certificate.write_bytes(chain)
        return pair

    def issue_for_server(self, name: str) -> Pair:
        """Issue a certificate that is good for servers only."""
        pair = self.issue(name, stem=f"{name}-server-only")
        leaf = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        issuer, key = self._signer()
        builder = x509.CertificateBuilder(
            issuer_name=issuer.subject,
            subject_name=leaf.subject,
            public_key=leaf.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=leaf.not_valid_before_utc,
            not_valid_after=leaf.not_valid_after_utc,
        )
        for extension in leaf.extensions:
            if isinstance(extension.value, x509.ExtendedKeyUsage):
                builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
            else:
                builder = builder.add_extension(extension.value, extension.critical)
        pair.certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return pair

    def issue_for(self, stem: str, *names: x509.GeneralName) -> Pair:
        """Issue a certificate whose subject alternative names are these, and whose common name is `stem`."""
        pair = self.issue(f"{stem}.test", stem=stem)
        leaf = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        issuer, key = self._signer()
        subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"), x509.NameAttribute(NameOID.COMMON_NAME, stem)]
        )
        made = (
            x509.CertificateBuilder()
            .issuer_name(issuer.subject)
            .subject_name(subject)
            .public_key(leaf.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(leaf.not_valid_before_utc)
            .not_valid_after(leaf.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        signed = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        pair.certificate.write_bytes(signed)
        return pair

    def issue_as(
        self,
        stem: str,
        *names: x509.GeneralName,
        common_name: str = "",
        days: tuple[int, int] = (-1, 1),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        is_self_signed: bool = False,
    ) -> Pair:
        """Issue a certificate with whatever names, also such as no good authority would give; it is valid from some day to another, counted from now."""
        issuer, signer = self._signer()
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else [])
        begin, end = (datetime.now(UTC) + timedelta(days=each) for each in days)
        by = key if is_self_signed else signer
        builder = (
            x509.CertificateBuilder()
            .issuer_name(subject if is_self_signed else issuer.subject)
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not common_name)
        pair = Pair(self._home / f"{self._name}-{stem}.crt", self._home / f"{self._name}-{stem}.key")
        pem = serialization.Encoding.PEM
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(key.private_bytes(pem, form, plain))
        pair.certificate.write_bytes(builder.sign(by, hashes.SHA256()).public_bytes(pem))
        return pair

    def revoke(self, *pairs: Pair, expired: bool = False) -> Path:
        """Write a revocation list with some certificates, and return its path."""
        issuer, key = self._signer()
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(now - timedelta(days=2))
            .next_update(now + timedelta(days=-1 if expired else 1))
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        for pair in pairs:
            serial = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        path = self._home / f"{self._name}.crl"
        path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _signer(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(self._ca.cert_pem.bytes()), key
