"""What requests and answers hold, as types; OpenAPI's schemas are made from these."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from keyway.cryptoki.values import Opaque
from keyway.provision.problems import Problem

__all__ = [
    "CertificateAnswer",
    "CertificateImport",
    "CertificateList",
    "CertificateReplacement",
    "CompatibleRequest",
    "CompatibleToken",
    "CsrAnswer",
    "CsrRequest",
    "KeyAnswer",
    "KeyList",
    "KeyRequest",
    "Pin",
    "PinAnswer",
    "PinRequest",
    "ProblemAnswer",
    "TokenAnswer",
    "TokenList",
    "TokenRequest",
    "convert",
    "schema_hook",
]

MAX_PIN: Final = 255
"""Bytes of a PIN."""

Model = TypeVar("Model")


class Pin(Opaque):
    """A PIN, in UTF-8. It never shows."""

    __slots__ = ()

    @classmethod
    def of(cls, text: str) -> Pin:
        """Return a PIN.

        Raises:
            Problem: `pin-invalid`.
        """
        data = text.encode()
        if not 0 < len(data) <= MAX_PIN or b"\0" in data:
            raise Problem("pin-invalid", f"a PIN has 1 to {MAX_PIN} bytes, and no zeros")
        return cls(data)


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Lenient(Struct, frozen=True, kw_only=True):
    pass


class _Answer(Struct, frozen=True, kw_only=True):
    pass


_PinText = Annotated[
    Pin | None, Meta(description="The user PIN. Without it and pin_ref: the gateway's own for this token.")
]
_PinRef = Annotated[str, Meta(description="Name of a PIN that stays in the gateway ([api.pin.NAME]).")]
_SoPinText = Annotated[Pin | None, Meta(description="PIN of the security officer.")]
_Texts = Annotated[tuple[str, ...], Meta(max_length=64)]
_Slot = Annotated[int, Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]
_Pem = Annotated[
    str,
    Meta(
        description="The certificate; those behind it are its chain, each the issuer of the one before. PEM, base64 of a PEM file, or base64 of DER."
    ),
]


class TokenRequest(_Strict, frozen=True):
    """A token to initialise."""

    label: Annotated[str, Meta(description="Up to 32 bytes.")]
    slot: Annotated[
        _Slot | None, Meta(description="The slot. Without it: the first that has a token to initialise.")
    ] = None
    so_pin: _SoPinText = None
    so_pin_ref: _PinRef = ""
    pin: _PinText = None
    pin_ref: _PinRef = ""


class PinRequest(_Strict, frozen=True):
    """A user PIN to set: by the user, who knows the present one, or by the security officer."""

    new_pin: Annotated[Pin, Meta(description="What the user PIN shall be.")]
    pin: _PinText = None
    pin_ref: _PinRef = ""
    so_pin: _SoPinText = None
    so_pin_ref: _PinRef = ""


class KeyRequest(_Strict, frozen=True):
    """A key pair to make."""

    label: Annotated[str, Meta(description="CKA_LABEL, up to 255 bytes. A pair that is there is used.")]
    type: Annotated[
        str, Meta(description="rsa:2048, rsa:3072, rsa:4096, EC:prime256v1, EC:secp384r1, EC:secp521r1 or Ed25519.")
    ]
    id: Annotated[str, Meta(description="CKA_ID in hexadecimal. Without it: one that is made from the label.")] = ""
    usage: Annotated[_Texts, Meta(description="Of sign, decrypt, unwrap (RSA), derive (EC).")] = ("sign",)
    extractable: Annotated[bool, Meta(description="Whether the private key may leave the token, wrapped.")] = False
    pin: _PinText = None
    pin_ref: _PinRef = ""


class CsrRequest(_Strict, frozen=True):
    """A certificate request to make and sign."""

    subject: Annotated[
        str, Meta(description="CN=node-1,O=Example or /O=Example/CN=node-1. May be empty beside names.")
    ] = ""
    names: Annotated[_Texts, Meta(description="Subject alternative names: dns:, ip:, email: or uri: and a value.")] = ()
    key_usage: Annotated[_Texts, Meta(description="digitalSignature, keyEncipherment and so on (RFC 5280).")] = ()
    extended_key_usage: Annotated[
        _Texts, Meta(description="serverAuth, clientAuth, ipsecIKE and so on, or dotted numbers.")
    ] = ()
    padding: Annotated[
        Literal["", "pkcs1", "pss"], Meta(description="RSA keys: pkcs1 (as for an empty text) or pss.")
    ] = ""
    hash: Annotated[
        Literal["", "sha256", "sha384", "sha512"], Meta(description="Empty: sha256, or what fits the curve.")
    ] = ""
    pin: _PinText = None
    pin_ref: _PinRef = ""


class CertificateImport(_Strict, frozen=True):
    """A certificate to put beside a key pair."""

    key: Annotated[str, Meta(description="The key pair: its label, or a PKCS #11 URI.")]
    pem: _Pem
    pin: _PinText = None
    pin_ref: _PinRef = ""


class CertificateReplacement(_Strict, frozen=True):
    """A certificate that takes the place of those that a key pair has."""

    pem: _Pem
    pin: _PinText = None
    pin_ref: _PinRef = ""


class CompatibleToken(_Lenient, frozen=True):
    """The token, as existing callers describe it. What is empty has its default."""

    label: str = ""
    slot: _Slot = 0
    so_pin: str = ""
    pin: str = ""

    def __repr__(self) -> str:
        return "<a token and its PINs>"


class CompatibleKeyPair(_Lenient, frozen=True):
    """The key pair, as existing callers describe it."""

    label: str
    key_type: str = "rsa:2048"
    id: str = ""


class CompatibleCertificate(_Lenient, frozen=True):
    """What existing callers ask for."""

    key_pair: CompatibleKeyPair
    subject: str = ""
    pem: str = ""


class CompatibleRequest(_Lenient, frozen=True):
    """A request of existing callers."""

    cert: CompatibleCertificate
    token: CompatibleToken | None = None


class TokenAnswer(_Answer, frozen=True):
    """A token."""

    label: str
    serial_number: str
    model: str
    manufacturer: str
    slot: int
    initialized: bool
    user_pin_set: bool
    user_pin_locked: bool
    write_protected: bool


class TokenList(_Answer, frozen=True):
    """The tokens."""

    tokens: tuple[TokenAnswer, ...]


class PinAnswer(_Answer, frozen=True):
    """A token whose user PIN was set."""

    token: str


class KeyAnswer(_Answer, frozen=True):
    """A key pair."""

    label: str
    id: str
    type: str
    public_key_pem: str
    public_key_jwk: dict[str, str]
    thumbprint: Annotated[str, Meta(description="Of the JWK, with SHA-256 (RFC 7638).")]
    has_private_key: Annotated[bool, Meta(description="Whether the private key was seen. Without a PIN it rarely is.")]


class KeyList(_Answer, frozen=True):
    """The key pairs of a token."""

    keys: tuple[KeyAnswer, ...]


class CsrAnswer(_Answer, frozen=True):
    """A certificate request."""

    pem: str
    public_key_thumbprint: str


class CertificateAnswer(_Answer, frozen=True):
    """A certificate on a token."""

    label: str
    id: str
    sha256: Annotated[str, Meta(description="Fingerprint of the DER, in hexadecimal.")]
    subject: str
    issuer: str
    serial_number: str
    not_before: str
    not_after: str
    pem: str


class CertificateList(_Answer, frozen=True):
    """The certificates of a token."""

    certificates: tuple[CertificateAnswer, ...]


class ProblemAnswer(_Answer, frozen=True):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    rv: Annotated[str, Meta(description="Name of the CK_RV, if a token had a part in it.")] = ""


def convert(value: Any, kind: type[Model]) -> Model:
    """Return what a JSON value means.

    Args:
        value: As `parse_json` gives it.
        kind: The type.

    Raises:
        Problem: `bad-member`; the detail says where and why, and no value.
    """
    try:
        return msgspec.convert(value, kind, dec_hook=_from_json)
    except msgspec.ValidationError as error:
        text = str(error)
        # The one message that quotes a value.
        if text.startswith("Invalid enum value"):
            _, _, where = text.rpartition(" - at ")
            text = f"Not one of the values that there are - at {where}"
        raise Problem("bad-member", text) from None


def _from_json(kind: type, value: Any) -> Any:
    if kind is not Pin:
        raise NotImplementedError
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Pin.of(value)


def schema_hook(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a type that is none of msgspec's."""
    if kind is Pin:
        return {"type": "string", "format": "password", "minLength": 1, "maxLength": MAX_PIN}
    raise NotImplementedError
