"""The client: a method for each thing that the API does."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec

from keyway.client.carriers import Carrier, HttpCarrier, SocketCarrier
from keyway.client.errors import ClientError
from keyway.provision.dispatch import Incoming
from keyway.provision.models import (
    CertificateAnswer,
    CertificateList,
    CsrAnswer,
    KeyAnswer,
    KeyList,
    PinAnswer,
    TokenAnswer,
    TokenList,
)

__all__ = ["DEFAULT_ADDRESS", "Client"]

DEFAULT_ADDRESS: Final = "unix:/run/keyway/keyway.sock"

Model = TypeVar("Model")


class Client:
    """Tokens, key pairs, certificate requests and certificates behind a gateway; a context manager that closes it.

    Tokens and keys are named by their labels, or by PKCS #11 URIs (RFC 7512). Wherever there is a `pin`, the name of one that stays in the gateway may be given as `pin_ref` instead,
    or neither, if the gateway has one for that token. All methods block, and raise `ClientError` when a request is refused, OSError when nobody answers.
    Not for several threads at a time, and with a socket not inside a running event loop.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        bearer: str = "",
        ca: Path | str | None = None,
        certificate: Path | str | None = None,
        key: Path | str | None = None,
        kerberos: bool = False,
        timeout: float = 300.0,
    ) -> None:
        """Describe where the gateway is; it is connected to when something is asked for.

        Args:
            address: `http://host:port` or `https://host:port` of `keyway api`; or `unix:/path` or a path, the daemon's own socket, with no API between.
            bearer: The caller's bearer token, for HTTP.
            ca: File with the CAs that the server's certificate may come from, for https. None: those of the system.
            certificate: File with a client certificate, for https.
            key: File with its private key.
            kerberos: Whether to show a Kerberos ticket for HTTP at the host with each request, for HTTP. The server then has to prove who it is.
            timeout: Seconds that an answer may take, for HTTP. Making a large RSA key may take minutes.

        Raises:
            ValueError: It is no address, or bearer and kerberos are both there, or the library for Kerberos is missing.
            OSError: A file can't be read.
        """
        self._carrier: Carrier
        if address.startswith(("http:", "https:")):
            tls = None
            if address.startswith("https:"):
                tls = ssl.create_default_context(cafile=None if ca is None else str(ca))
                if certificate is not None:
                    tls.load_cert_chain(certificate, key)
            if bearer and kerberos:
                raise ValueError("a bearer token and a Kerberos ticket do not go together")
            self._carrier = HttpCarrier(address, bearer, tls, timeout, kerberos=kerberos)
        else:
            path = address.removeprefix("unix:")
            if not path.startswith("/"):
                raise ValueError(f"{address}: must be http://, https:// or unix:/path")
            self._carrier = SocketCarrier(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._carrier.close()

    # Tokens

    def tokens(self) -> tuple[TokenAnswer, ...]:
        """Return all tokens, those that are not initialised among them."""
        return self._get("/v1/tokens", TokenList).tokens

    def token(self, token: str) -> TokenAnswer:
        """Return a token."""
        return self._get(_path("tokens", token), TokenAnswer)

    def init_token(
        self,
        label: str,
        *,
        so_pin: str = "",
        pin: str = "",
        so_pin_ref: str = "",
        pin_ref: str = "",
        slot: int | None = None,
    ) -> TokenAnswer:
        """Initialise a token, unless there is one with this label, and return it.

        Args:
            label: The label, up to 32 bytes.
            so_pin: PIN of the security officer, who is the one to set user PINs.
            pin: The user PIN.
            so_pin_ref: Name of a PIN in the gateway, instead.
            pin_ref: The same for the user PIN.
            slot: The slot; None: the first that has a token to initialise.
        """
        asked = _given(label=label, so_pin=so_pin, pin=pin, so_pin_ref=so_pin_ref, pin_ref=pin_ref, slot=slot)
        return self._send("POST", "/v1/tokens", asked, TokenAnswer)

    def set_pin(
        self,
        token: str,
        new_pin: str,
        *,
        pin: str = "",
        pin_ref: str = "",
        so_pin: str = "",
        so_pin_ref: str = "",
    ) -> None:
        """Set the user PIN, as the user (with `pin`) or as the security officer (with `so_pin`)."""
        asked = _given(new_pin=new_pin, pin=pin, pin_ref=pin_ref, so_pin=so_pin, so_pin_ref=so_pin_ref)
        self._send("PUT", _path("tokens", token, "pin"), asked, PinAnswer)

    # Keys

    def keys(self, token: str, *, pin: str = "", pin_ref: str = "") -> tuple[KeyAnswer, ...]:
        """Return the key pairs of a token. Without a PIN: what its public keys tell."""
        return self._get(_path("tokens", token, "keys"), KeyList, pin, pin_ref).keys

    def key(self, token: str, key: str, *, pin: str = "", pin_ref: str = "") -> KeyAnswer:
        """Return a key pair: its public key as PEM and JWK, among other things."""
        return self._get(_path("tokens", token, "keys", key), KeyAnswer, pin, pin_ref)

    def create_key(
        self,
        token: str,
        label: str,
        kind: str,
        *,
        id: str = "",  # noqa: A002 (CKA_ID)
        usage: Sequence[str] = ("sign",),
        extractable: bool = False,
        pin: str = "",
        pin_ref: str = "",
    ) -> KeyAnswer:
        """Make a key pair, unless there is one with this label and type, and return it.

        Args:
            token: The token.
            label: CKA_LABEL.
            kind: rsa:2048, rsa:3072, rsa:4096, EC:prime256v1, EC:secp384r1, EC:secp521r1 or Ed25519.
            id: CKA_ID in hexadecimal; empty: one that is made from the label.
            usage: What it is for: sign, decrypt, unwrap (RSA), derive (EC).
            extractable: Whether the private key may leave the token, wrapped.
            pin: The user PIN.
            pin_ref: Name of one that stays in the gateway, instead.
        """
        asked = _given(
            label=label, type=kind, id=id, usage=list(usage), extractable=extractable, pin=pin, pin_ref=pin_ref
        )
        return self._send("POST", _path("tokens", token, "keys"), asked, KeyAnswer)

    def delete_key(self, token: str, key: str, *, pin: str = "", pin_ref: str = "") -> None:
        """Delete a key pair. Its certificates stay."""
        self._delete(_path("tokens", token, "keys", key), pin, pin_ref)

    def csr(
        self,
        token: str,
        key: str,
        subject: str = "",
        *,
        names: Sequence[str] = (),
        key_usage: Sequence[str] = (),
        extended_key_usage: Sequence[str] = (),
        padding: str = "",
        hash: str = "",  # noqa: A002 (the API's own name)
        pin: str = "",
        pin_ref: str = "",
    ) -> str:
        """Return a certificate request as PEM, which the token has signed.

        Args:
            token: The token.
            key: The key pair.
            subject: `CN=node-1,O=Example` or `/O=Example/CN=node-1`; may be empty beside `names`.
            names: Subject alternative names: `dns:`, `ip:`, `email:` or `uri:` and a value.
            key_usage: digitalSignature and so on.
            extended_key_usage: serverAuth, clientAuth, ipsecIKE and so on, or dotted numbers.
            padding: RSA: pkcs1, which is what empty means, or pss.
            hash: sha256, sha384, sha512; empty: sha256, or what fits the curve.
            pin: The user PIN.
            pin_ref: Name of one that stays in the gateway, instead.
        """
        asked = _given(
            subject=subject,
            names=list(names),
            key_usage=list(key_usage),
            extended_key_usage=list(extended_key_usage),
            padding=padding,
            hash=hash,
            pin=pin,
            pin_ref=pin_ref,
        )
        return self._send("POST", _path("tokens", token, "keys", key, "csrs"), asked, CsrAnswer).pem

    # Certificates

    def certificates(self, token: str, *, pin: str = "", pin_ref: str = "") -> tuple[CertificateAnswer, ...]:
        """Return the certificates of a token."""
        return self._get(_path("tokens", token, "certificates"), CertificateList, pin, pin_ref).certificates

    def certificate(self, token: str, sha256: str, *, pin: str = "", pin_ref: str = "") -> CertificateAnswer:
        """Return the certificate with a fingerprint."""
        return self._get(_path("tokens", token, "certificates", sha256), CertificateAnswer, pin, pin_ref)

    def import_certificate(
        self, token: str, key: str, pem: str, *, pin: str = "", pin_ref: str = ""
    ) -> CertificateAnswer:
        """Put a certificate, perhaps with its chain behind it, beside a key pair that has none yet, and return it."""
        asked = _given(key=key, pem=pem, pin=pin, pin_ref=pin_ref)
        return self._send("POST", _path("tokens", token, "certificates"), asked, CertificateAnswer)

    def replace_certificate(
        self, token: str, key: str, pem: str, *, pin: str = "", pin_ref: str = ""
    ) -> CertificateAnswer:
        """Put a certificate beside a key pair in place of those that it has, and return it. There is one at any time."""
        asked = _given(pem=pem, pin=pin, pin_ref=pin_ref)
        return self._send("PUT", _path("tokens", token, "keys", key, "certificate"), asked, CertificateAnswer)

    def delete_certificate(self, token: str, sha256: str, *, pin: str = "", pin_ref: str = "") -> None:
        """Delete the certificate with a fingerprint."""
        self._delete(_path("tokens", token, "certificates", sha256), pin, pin_ref)

    # How

    def _get(self, path: str, kind: type[Model], pin: str = "", pin_ref: str = "") -> Model:
        return _read(self._ask("GET", path, _headers(pin, pin_ref)), kind)

    def _send(self, method: str, path: str, asked: dict[str, Any], kind: type[Model]) -> Model:
        headers = {"content-type": "application/json", "idempotency-key": str(uuid4())}
        return _read(self._ask(method, path, headers, json.dumps(asked).encode()), kind)

    def _delete(self, path: str, pin: str, pin_ref: str) -> None:
        self._ask("DELETE", path, {**_headers(pin, pin_ref), "idempotency-key": str(uuid4())})

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
        status, answer = self._carrier.carry(Incoming(method, path, headers, body))
        if status >= 400:
            try:
                document = json.loads(answer)
            except ValueError:
                document = None
            raise ClientError.of(document, status)
        return answer


def _headers(pin: str, pin_ref: str) -> dict[str, str]:
    made = {"keyway-pin": quote(pin, safe="")} if pin else {}
    return {**made, **({"keyway-pin-ref": pin_ref} if pin_ref else {})}


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _given(**values: Any) -> dict[str, Any]:
    """Return what was given: an empty text means the same as none."""
    return {name: value for name, value in values.items() if value not in ("", None)}


def _read(answer: bytes, kind: type[Model]) -> Model:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.DecodeError:
        raise ClientError("malformed-answer", 0, "the answer is none of this API") from None
