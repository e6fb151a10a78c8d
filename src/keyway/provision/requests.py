"""Certificate requests (PKCS #10, RFC 2986) that a token signs.

`cryptography` builds a request with a private key at hand. Here the key is on a token, and the answer takes its time; so a request is built twice: first with a key that
only notes what is to be signed, then, when the token has signed, with one that knows the signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, NoReturn
from unicodedata import category

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from keyway.provision.keytypes import PublicKey
from keyway.provision.problems import Problem

__all__ = [
    "EXTENDED_KEY_USAGES",
    "HASHES",
    "KEY_USAGES",
    "PADDINGS",
    "Draft",
    "Extensions",
    "Scheme",
    "draft",
    "scheme_of",
]

MAX_NAMES: Final = 64
"""Subject alternative names of one request."""

KEY_USAGES: Final[Mapping[str, str]] = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}
"""Bits of KeyUsage (RFC 5280, section 4.2.1.3), and what `cryptography` calls them."""

EXTENDED_KEY_USAGES: Final[Mapping[str, x509.ObjectIdentifier]] = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
    "ipsecIKE": ExtendedKeyUsageOID.IPSEC_IKE,
    "ikeIntermediate": x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2"),
}
"""Purposes by name; others are written as dotted numbers."""

HASHES: Final[Mapping[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
PADDINGS: Final = ("pkcs1", "pss")

_HASH_OF: Final = {"EC:prime256v1": "sha256", "EC:secp384r1": "sha384", "EC:secp521r1": "sha512"}


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a request is signed.

    Attributes:
        kind: pkcs1, pss, ecdsa or ed25519.
        hash: One of `HASHES`; empty for ed25519.
    """

    kind: str
    hash: str = ""


def scheme_of(kind: str, padding_name: str = "", hash_name: str = "") -> Scheme:
    """Return how a key signs.

    Args:
        kind: Name of the key's type.
        padding_name: pkcs1 or pss; empty: pkcs1. For RSA only.
        hash_name: One of `HASHES`; empty: what fits the key.

    Raises:
        Problem: `bad-member`.
    """
    if kind.startswith("rsa:"):
        return Scheme(padding_name or "pkcs1", hash_name or "sha256")
    if padding_name:
        raise Problem("bad-member", "padding is for RSA keys only")
    if kind in _HASH_OF:
        return Scheme("ecdsa", hash_name or _HASH_OF[kind])
    if hash_name:
        raise Problem("bad-member", "hash is not for Ed25519 keys")
    return Scheme("ed25519")


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a request asks to be in the certificate.

    Attributes:
        names: Subject alternative names.
        key_usage: Bits of KeyUsage; None for no such extension.
        purposes: Extended key usage; empty for no such extension.
    """

    names: tuple[x509.GeneralName, ...] = ()
    key_usage: x509.KeyUsage | None = None
    purposes: tuple[x509.ObjectIdentifier, ...] = ()

    @classmethod
    def parse(cls, names: Sequence[str], key_usage: Sequence[str], purposes: Sequence[str]) -> Extensions:
        """Read the extensions as callers write them.

        Args:
            names: Each `dns:`, `ip:`, `email:` or `uri:` with a value behind it.
            key_usage: Names of `KEY_USAGES`.
            purposes: Names of `EXTENDED_KEY_USAGES`, or dotted numbers.

        Raises:
            Problem: `bad-extension`.
        """
        if len(names) > MAX_NAMES or len(purposes) > MAX_NAMES:
            raise Problem("bad-extension", f"more than {MAX_NAMES} names or purposes")
        return cls(
            tuple(dict.fromkeys(map(_name, names))),
            _key_usage(key_usage) if key_usage else None,
            tuple(dict.fromkeys(map(_purpose, purposes))),
        )


def _name(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    if not value or any(each == " " or category(each) in ("Cc", "Cs") for each in value):
        raise Problem("bad-extension", "a subject alternative name is dns:, ip:, email: or uri: and a value")
    try:
        match kind.lower():
            case "dns":
                return x509.DNSName(value)
            case "ip":
                return x509.IPAddress(ip_address(value))
            case "email":
                return x509.RFC822Name(value)
            case "uri":
                return x509.UniformResourceIdentifier(value)
    except ValueError:
        raise Problem("bad-extension", f"a subject alternative name of the kind {kind.lower()} can't be this") from None
    raise Problem("bad-extension", "a subject alternative name is dns:, ip:, email: or uri: and a value")


def _key_usage(bits: Sequence[str]) -> x509.KeyUsage:
    for each in bits:
        if each not in KEY_USAGES:
            raise Problem("bad-extension", f"key usage is of {', '.join(KEY_USAGES)}")
    try:
        return x509.KeyUsage(**{theirs: ours in bits for ours, theirs in KEY_USAGES.items()})
    except ValueError:
        raise Problem("bad-extension", "encipherOnly and decipherOnly go with keyAgreement") from None


def _purpose(text: str) -> x509.ObjectIdentifier:
    if (known := EXTENDED_KEY_USAGES.get(text)) is not None:
        return known
    try:
        if not text.isascii():
            raise ValueError
        return x509.ObjectIdentifier(text)
    except ValueError:
        names = ", ".join(EXTENDED_KEY_USAGES)
        raise Problem("bad-extension", f"extended key usage is of {names}, or a dotted number") from None


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that is not signed yet.

    Attributes:
        scheme: How it shall be signed.
        to_sign: What the signature is of, before it is hashed.
    """

    scheme: Scheme
    to_sign: bytes
    _key: PublicKey
    _builder: x509.CertificateSigningRequestBuilder

    def signed(self, signature: bytes) -> str:
        """Return the request as PEM.

        Args:
            signature: In the form that X.509 has: a DER sequence for ECDSA.

        Raises:
            Problem: `key-pair-mismatch`: the signature is not of the key that the request is for.
        """
        request = _built(self._builder, self.scheme, self._key, lambda _: signature)
        if not request.is_signature_valid:
            raise Problem("key-pair-mismatch", "the token's signature does not fit the public key")
        return request.public_bytes(Encoding.PEM).decode()


def draft(subject: x509.Name, extensions: Extensions, key: PublicKey, scheme: Scheme) -> Draft:
    """Return a request for a key.

    Args:
        subject: The subject.
        extensions: What else it asks for. Without any it has no attributes at all.
        key: The public key.
        scheme: How it will be signed.

    Raises:
        Problem: `bad-extension`.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if extensions.names:
        # Without a subject the names are all there is (RFC 5280, section 4.2.1.6).
        builder = builder.add_extension(x509.SubjectAlternativeName(extensions.names), critical=not subject.rdns)
    if extensions.key_usage is not None:
        builder = builder.add_extension(extensions.key_usage, critical=True)
    if extensions.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extensions.purposes), critical=False)
    noted: list[bytes] = []

    def note(data: bytes) -> bytes:
        noted.append(data)
        return b"\0"

    try:
        _built(builder, scheme, key, note)
    except (ValueError, TypeError):
        raise Problem("bad-extension", "the request can't be encoded") from None
    return Draft(scheme, noted[0], key, builder)


def _built(
    builder: x509.CertificateSigningRequestBuilder, scheme: Scheme, key: PublicKey, sign: Any
) -> x509.CertificateSigningRequest:
    algorithm = HASHES.get(scheme.hash)
    signer = _SIGNERS[scheme.kind](key, sign)
    if scheme.kind == "pss":
        assert algorithm is not None
        pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        return builder.sign(signer, algorithm, rsa_padding=pss)
    return builder.sign(signer, algorithm)


class _Signer:
    """What the three classes of keys below have in common: a key that can sign, and nothing else."""

    def __init__(self, key: Any, sign: Any) -> None:
        self._key = key
        self._sign = sign

    def public_key(self) -> Any:
        return self._key

    def sign(self, data: Any, *_: Any, **__: Any) -> bytes:
        made: bytes = self._sign(bytes(data))
        return made

    @property
    def key_size(self) -> int:
        return int(self._key.key_size)

    @property
    def curve(self) -> ec.EllipticCurve:
        found: ec.EllipticCurve = self._key.curve
        return found

    def _cannot(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError("the key is on a token")

    decrypt = exchange = private_numbers = private_bytes = private_bytes_raw = __copy__ = __deepcopy__ = _cannot


class _RsaSigner(_Signer, rsa.RSAPrivateKey):
    pass


class _EcSigner(_Signer, ec.EllipticCurvePrivateKey):
    pass


class _Ed25519Signer(_Signer, ed25519.Ed25519PrivateKey):
    pass


_SIGNERS: Final[Mapping[str, Any]] = {
    "pkcs1": _RsaSigner,
    "pss": _RsaSigner,
    "ecdsa": _EcSigner,
    "ed25519": _Ed25519Signer,
}
