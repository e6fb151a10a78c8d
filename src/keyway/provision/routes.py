"""The table of routes: it is what answers requests, and what the OpenAPI document is made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from msgspec import Struct

from keyway.provision import models
from keyway.provision.compatible import Compatible
from keyway.provision.models import Pin
from keyway.provision.problems import Problem
from keyway.provision.references import KeyRef, TokenRef
from keyway.provision.service import Service, UserPin

__all__ = ["COMPATIBLE", "MAX_FINGERPRINT", "ROUTES", "Answer", "Asked", "Places", "Route", "find_route"]

COMPATIBLE: Final = "/pkcs11/"
"""What the paths of the compatible API begin with."""
MAX_FINGERPRINT: Final = 64
"""Hexadecimal digits of a certificate's SHA-256."""


class Places(NamedTuple):
    """What does the work.

    Attributes:
        service: For `/v1`.
        compatible: For `/pkcs11`.
    """

    service: Service
    compatible: Compatible


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a route.

    Attributes:
        values: What stands in the places of the path.
        body: The body, as the route's model; None if it has none.
        caller: Who asks.
        pin: The PIN of the header.
        pin_ref: The reference of the header.
    """

    values: Mapping[str, str]
    body: Any
    caller: str
    pin: Pin | None = field(default=None, repr=False)
    pin_ref: str = ""

    @property
    def token(self) -> TokenRef:
        """The token of the path."""
        return TokenRef.parse(self.values["token"])

    @property
    def key(self) -> KeyRef:
        """The key pair of the path."""
        return KeyRef.parse(self.values["key"])

    @property
    def fingerprint(self) -> str:
        """The certificate of the path."""
        text = self.values["sha256"].lower()
        if len(text) != MAX_FINGERPRINT or not set(text) <= set("0123456789abcdef"):
            raise Problem("bad-reference", "a certificate is named by the SHA-256 of its DER, 64 hexadecimal digits")
        return text

    @property
    def user_pin(self) -> UserPin:
        """The user PIN, of the body if there is one, else of the headers."""
        if self.body is None:
            return UserPin(self.pin, self.pin_ref, self.caller)
        if self.pin is not None or self.pin_ref:
            raise Problem("bad-member", "a PIN goes into the body, where there is one")
        return UserPin(self.body.pin, self.body.pin_ref, self.caller)


class Answer(NamedTuple):
    """What a route answers.

    Attributes:
        status: The HTTP status.
        body: A model, a text, or nothing.
    """

    status: HTTPStatus
    body: Struct | str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A method of a path.

    Attributes:
        method: The HTTP method.
        path: The path; places in braces.
        name: What the operation is called.
        summary: What it does, in a line.
        answers: The model, or the media type, of each status.
        run: Does it.
        body: The model of the body; None if there is none.
        problems: Codes that are its own, besides those that every route may answer.
    """

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[int, Any]
    run: Callable[[Places, Asked], Awaitable[Answer]]
    body: type[Struct] | None = None
    problems: tuple[str, ...] = ()

    @property
    def is_compatible(self) -> bool:
        """Whether it belongs to the compatible API."""
        return self.path.startswith(COMPATIBLE)


async def _csr(places: Places, asked: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.compatible.csr(asked.body, asked.caller))


async def _cert(places: Places, asked: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.compatible.cert(asked.body, asked.caller))


async def _list_tokens(places: Places, _: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.service.list_tokens())


async def _initialize_token(places: Places, asked: Asked) -> Answer:
    return _made(*await places.service.initialize_token(asked.body, asked.caller))


async def _show_token(places: Places, asked: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.service.show_token(asked.token))


async def _set_pin(places: Places, asked: Asked) -> Answer:
    body: models.PinRequest = asked.body
    await places.service.set_pin(asked.token, body.new_pin, asked.user_pin, body.so_pin, body.so_pin_ref)
    return Answer(HTTPStatus.OK, models.PinAnswer(token=asked.values["token"]))


async def _list_keys(places: Places, asked: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.service.list_keys(asked.token, asked.user_pin))


async def _create_key(places: Places, asked: Asked) -> Answer:
    return _made(*await places.service.create_key(asked.token, asked.body, asked.user_pin))


async def _show_key(places: Places, asked: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.service.show_key(asked.token, asked.key, asked.user_pin))


async def _delete_key(places: Places, asked: Asked) -> Answer:
    await places.service.delete_key(asked.token, asked.key, asked.user_pin)
    return Answer(HTTPStatus.NO_CONTENT)


async def _make_csr(places: Places, asked: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.service.make_csr(asked.token, asked.key, asked.body, asked.user_pin))


async def _list_certificates(places: Places, asked: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.service.list_certificates(asked.token, asked.user_pin))


async def _import_certificate(places: Places, asked: Asked) -> Answer:
    body: models.CertificateImport = asked.body
    return _made(
        *await places.service.store_certificate(
            asked.token, KeyRef.parse(body.key), body.pem, asked.user_pin, replaces=False
        )
    )


async def _replace_certificate(places: Places, asked: Asked) -> Answer:
    return _made(
        *await places.service.store_certificate(asked.token, asked.key, asked.body.pem, asked.user_pin, replaces=True)
    )


async def _show_certificate(places: Places, asked: Asked) -> Answer:
    return Answer(HTTPStatus.OK, await places.service.show_certificate(asked.token, asked.fingerprint, asked.user_pin))


async def _delete_certificate(places: Places, asked: Asked) -> Answer:
    await places.service.delete_certificate(asked.token, asked.fingerprint, asked.user_pin)
    return Answer(HTTPStatus.NO_CONTENT)


def _made(body: Struct, is_new: bool) -> Answer:
    return Answer(HTTPStatus.CREATED if is_new else HTTPStatus.OK, body)


_TOKEN = "/v1/tokens/{token}"  # noqa: S105 (a path)
_KEY = f"{_TOKEN}/keys/{{key}}"
_CERTIFICATE = f"{_TOKEN}/certificates/{{sha256}}"

_OF_PIN = (
    "pin-missing",
    "pin-reference-missing",
    "pin-wrong",
    "pin-locked",
    "pin-expired",
    "pin-invalid",
    "pin-not-set",
)
_OF_TOKEN = (
    "bad-label",
    "bad-reference",
    "token-missing",
    "token-ambiguous",
    "token-not-initialized",
    "token-in-use",
    *_OF_PIN,
    "refused-by-token",
    "token-error",
    "backend-down",
    "backend-busy",
    "backend-timeout",
    "session-lost",
)
_OF_KEY = (*_OF_TOKEN, "key-missing", "key-ambiguous", "key-incomplete")
_OF_CHANGES = ("write-protected", "token-full")
_OF_NEW_KEYS = (
    "bad-key-type",
    "bad-id",
    "key-exists-with-other-type",
    "key-type-not-supported",
    *_OF_CHANGES,
)
_OF_SIGNING = ("bad-subject", "key-pair-mismatch", "mechanism-not-supported", "key-use-forbidden")
_OF_CERTIFICATES = (
    "malformed-pem",
    "private-key-sent",
    "certificate-does-not-match",
    "certificate-expired",
    "certificate-not-yet-valid",
    "no-digital-signature",
    "unknown-critical-extension",
    "chain-broken",
    *_OF_CHANGES,
)
_OF_NEW_TOKENS = ("no-free-slot", "slot-occupied", *_OF_CHANGES)

ROUTES: Final = (
    Route(
        "POST",
        "/pkcs11/csr",
        "compatibleCsr",
        "Make token and key pair if they are not there, and return a certificate request",
        {200: "text/plain"},
        _csr,
        models.CompatibleRequest,
        (*_OF_KEY, *_OF_NEW_TOKENS, *_OF_NEW_KEYS, *_OF_SIGNING),
    ),
    Route(
        "POST",
        "/pkcs11/cert",
        "compatibleCert",
        "Put a certificate beside its key pair; the answer is the word success",
        {200: "text/plain"},
        _cert,
        models.CompatibleRequest,
        (*_OF_KEY, *_OF_CERTIFICATES),
    ),
    Route("GET", "/v1/tokens", "listTokens", "List the tokens", {200: models.TokenList}, _list_tokens, None, _OF_TOKEN),
    Route(
        "POST",
        "/v1/tokens",
        "initializeToken",
        "Initialise a token, unless there is one with this label",
        {201: models.TokenAnswer, 200: models.TokenAnswer},
        _initialize_token,
        models.TokenRequest,
        (*_OF_TOKEN, *_OF_NEW_TOKENS),
    ),
    Route("GET", _TOKEN, "showToken", "Show a token", {200: models.TokenAnswer}, _show_token, None, _OF_TOKEN),
    Route(
        "PUT",
        f"{_TOKEN}/pin",
        "setPin",
        "Set the user PIN",
        {200: models.PinAnswer},
        _set_pin,
        models.PinRequest,
        (*_OF_TOKEN, "write-protected"),
    ),
    Route(
        "GET", f"{_TOKEN}/keys", "listKeys", "List the key pairs", {200: models.KeyList}, _list_keys, None, _OF_TOKEN
    ),
    Route(
        "POST",
        f"{_TOKEN}/keys",
        "createKey",
        "Make a key pair, unless there is one with this label and type",
        {201: models.KeyAnswer, 200: models.KeyAnswer},
        _create_key,
        models.KeyRequest,
        (*_OF_KEY, *_OF_NEW_KEYS, "bad-usage", "key-exists-with-other-id", "key-id-in-use"),
    ),
    Route("GET", _KEY, "showKey", "Show a key pair", {200: models.KeyAnswer}, _show_key, None, _OF_KEY),
    Route(
        "DELETE",
        _KEY,
        "deleteKey",
        "Delete a key pair",
        {204: None},
        _delete_key,
        None,
        (*_OF_KEY, *_OF_CHANGES),
    ),
    Route(
        "POST",
        f"{_KEY}/csrs",
        "makeCsr",
        "Make a certificate request that the key signs",
        {200: models.CsrAnswer},
        _make_csr,
        models.CsrRequest,
        (*_OF_KEY, *_OF_SIGNING, "bad-extension"),
    ),
    Route(
        "PUT",
        f"{_KEY}/certificate",
        "replaceCertificate",
        "Put a certificate beside a key pair in place of those that it has",
        {201: models.CertificateAnswer, 200: models.CertificateAnswer},
        _replace_certificate,
        models.CertificateReplacement,
        (*_OF_KEY, *_OF_CERTIFICATES),
    ),
    Route(
        "GET",
        f"{_TOKEN}/certificates",
        "listCertificates",
        "List the certificates",
        {200: models.CertificateList},
        _list_certificates,
        None,
        _OF_TOKEN,
    ),
    Route(
        "POST",
        f"{_TOKEN}/certificates",
        "importCertificate",
        "Put a certificate beside a key pair that has none yet",
        {201: models.CertificateAnswer, 200: models.CertificateAnswer},
        _import_certificate,
        models.CertificateImport,
        (*_OF_KEY, *_OF_CERTIFICATES, "certificate-exists"),
    ),
    Route(
        "GET",
        _CERTIFICATE,
        "showCertificate",
        "Show a certificate",
        {200: models.CertificateAnswer},
        _show_certificate,
        None,
        (*_OF_TOKEN, "certificate-missing"),
    ),
    Route(
        "DELETE",
        _CERTIFICATE,
        "deleteCertificate",
        "Delete a certificate",
        {204: None},
        _delete_certificate,
        None,
        (*_OF_TOKEN, *_OF_CHANGES, "certificate-missing"),
    ),
)
"""Every route but that of the OpenAPI document itself."""

_EXACT: Final = {(route.method, route.path): route for route in ROUTES if "{" not in route.path}
_SPLIT: Final = tuple((route, route.path.split("/")) for route in ROUTES)


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """Return the route of a request, and what stands in the places of its path.

    Args:
        method: The HTTP method.
        path: The path as it was sent, percent-encoded.

    Raises:
        Problem: `not-found`, `method-not-allowed` or `bad-reference`.
    """
    if (exact := _EXACT.get((method, path))) is not None:
        return exact, {}
    parts = path.split("/")
    allowed: list[str] = []
    for route, pattern in _SPLIT:
        if len(parts) != len(pattern):
            continue
        if all(sample == part or (sample[:1] == "{" and part) for sample, part in zip(pattern, parts, strict=True)):
            if route.method == method:
                return route, {
                    sample[1:-1]: _decoded(part)
                    for sample, part in zip(pattern, parts, strict=True)
                    if sample[:1] == "{"
                }
            allowed.append(route.method)
    if allowed:
        raise Problem("method-not-allowed", f"there are {', '.join(allowed)}")
    raise Problem("not-found")


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise Problem("bad-reference", "a part of the path is no UTF-8") from None
