"""How tokens and key pairs are named in paths: by label, or by a PKCS #11 URI (RFC 7512)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from keyway.cryptoki import TokenInfo, Uri, UriError, stripped
from keyway.cryptoki.constants import CKF_TOKEN_INITIALIZED
from keyway.provision.labels import object_label, token_label
from keyway.provision.problems import Problem

__all__ = ["KeyRef", "TokenRef"]

_SCHEME: Final = "pkcs11:"


@dataclass(frozen=True, slots=True)
class TokenRef:
    """Which token is meant.

    Attributes:
        text: As it was written.
        uri: What the token must match.
    """

    text: str
    uri: Uri

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> TokenRef:
        """Read one.

        Args:
            text: A label, or a URI that starts with `pkcs11:`.

        Raises:
            Problem: `bad-label` or `bad-reference`.
        """
        if not text.startswith(_SCHEME):
            return cls(text, Uri(token=token_label(text)))
        uri = _uri(text)
        if uri.names_object:
            raise Problem("bad-reference", "the URI names an object, not a token")
        return cls(text, uri)

    def matches(self, info: TokenInfo) -> bool:
        """Tell whether a token is the one meant."""
        if not info.flags & CKF_TOKEN_INITIALIZED:
            return False
        # Labels of tokens are compared without their padding, so no URI is needed for what happens at each request.
        if self.uri.token is not None and stripped(info.label) != self.uri.token.encode():
            return False
        return self.uri.matches_token(info)

    @property
    def label(self) -> str:
        """The label that the token must have; empty if any will do."""
        return self.uri.token or ""


@dataclass(frozen=True, slots=True)
class KeyRef:
    """Which key pair is meant.

    Attributes:
        text: As it was written.
        label: CKA_LABEL that it must have; None for any.
        id: CKA_ID that it must have; None for any.
    """

    text: str
    label: str | None
    id: bytes | None = None

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> KeyRef:
        """Read one.

        Args:
            text: A label, or a URI with `object` or `id` that starts with `pkcs11:`.

        Raises:
            Problem: `bad-label` or `bad-reference`.
        """
        if not text.startswith(_SCHEME):
            return cls(text, object_label(text))
        uri = _uri(text)
        if uri.object is None and uri.id is None:
            raise Problem("bad-reference", "the URI has neither object nor id")
        return cls(text, uri.object, uri.id)


def _uri(text: str) -> Uri:
    try:
        uri = Uri.parse(text)
    except UriError as error:
        raise Problem("bad-reference", f"no PKCS #11 URI: {error}") from None
    if uri.pin_value is not None or uri.pin_source is not None or uri.vendor_query or uri.vendor:
        raise Problem("bad-reference", "the URI holds what has no place here")
    return uri
