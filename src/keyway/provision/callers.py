"""Who a request is from, and whether that is enough."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

from keyway.provision.problems import Problem

__all__ = ["ANONYMOUS", "Evidence", "Gate", "TokensError", "parse_tokens", "ticket_in"]

ANONYMOUS: Final = "anonymous"
"""Name of a caller whom nobody knows."""
_DIGEST: Final = frozenset("0123456789abcdef")
MAX_TOKEN: Final = 512


class TokensError(ValueError):
    """A file of bearer tokens that can't be used. The text says which line, and why."""


def parse_tokens(text: str) -> dict[bytes, str]:
    """Return the callers' names by the digests of their tokens.

    Args:
        text: A caller a line: a name, a colon, and the SHA-256 of the token in hexadecimal. Empty lines and those that begin with # do not count.

    Raises:
        TokensError: A line is something else.
    """
    found: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, digest = (each.strip() for each in line.rpartition(":"))
        if not name or name == ANONYMOUS or len(digest) != 64 or not _DIGEST.issuperset(digest.lower()):
            raise TokensError(f"line {number} is not NAME:SHA-256 of the token, in hexadecimal")
        if found.setdefault(bytes.fromhex(digest), name) != name:
            raise TokensError(f"line {number} has the token of another caller")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a request shows of its sender.

    Attributes:
        authorization: The header Authorization; None without one. Not in a repr.
        certificate: The name in a verified client certificate; empty without one.
        principal: The Kerberos principal that has shown a ticket, in place of another authorization; empty without one.
        host: The header Host.
        has_origin: Whether a browser has sent it for a page (header Origin).
    """

    authorization: str | None = field(default=None, repr=False)
    certificate: str = ""
    principal: str = ""
    host: str = ""
    has_origin: bool = False


@dataclass(frozen=True, slots=True)
class Gate:
    """Whom the configuration lets in.

    Attributes:
        anonymous: Who need not be known: none, compatible (callers of the compatible API) or all.
        certificates: Names in certificates that are enough; empty: every certificate of the CA is.
        principals: Kerberos principals that are enough; empty: every ticket is.
    """

    anonymous: str = "none"
    certificates: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()

    def admit(self, evidence: Evidence, tokens: Mapping[bytes, str], *, is_compatible: bool) -> str:
        """Return the name of a caller.

        Args:
            evidence: What the request shows.
            tokens: The bearer tokens, as `parse_tokens` gives them.
            is_compatible: Whether the request is for the compatible API.

        Raises:
            Problem: `unauthenticated` or `forbidden`.
        """
        if evidence.authorization is not None:
            return _bearer(evidence.authorization, tokens)
        # A browser shows tickets and certificates for pages of others, too, which can't help to say that they ask.
        if evidence.has_origin and (evidence.principal or evidence.certificate):
            raise Problem("forbidden", "a request of a web page")
        if evidence.principal:
            if self.principals and evidence.principal not in self.principals:
                raise Problem("forbidden", "the principal is not one that may")
            return f"kerberos:{evidence.principal}"
        if evidence.certificate:
            if self.certificates and evidence.certificate not in self.certificates:
                raise Problem("forbidden", "the name in the certificate is not one that may")
            return f"certificate:{evidence.certificate}"
        if not (self.anonymous == "all" or (self.anonymous == "compatible" and is_compatible)):
            raise Problem("unauthenticated", "a bearer token or a client certificate is needed")
        # Pages of others, in a browser on this machine, can send requests here. They can't help to say so.
        if evidence.has_origin or not _is_local(evidence.host):
            raise Problem("forbidden", "a request of a web page, or to another name than localhost")
        return ANONYMOUS


def ticket_in(authorization: str | None) -> bytes | None:
    """Return the GSS-API token of a header Authorization (RFC 4559, section 4.2); None if it has another scheme.

    Args:
        authorization: The header; None without one.

    Raises:
        Problem: `unauthenticated`: what is behind the scheme is no token.
    """
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "negotiate":
        return None
    try:
        token = b64decode(text.strip().encode("ascii"), validate=True)
    except ValueError:
        token = b""
    if not token:
        raise Problem("unauthenticated", "behind Negotiate must be a token in base64")
    return token


def _bearer(authorization: str, tokens: Mapping[bytes, str]) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN:
        raise Problem("unauthenticated", "the Authorization must be a bearer token")
    # What is looked up is a digest: how long that takes tells nothing about the token.
    name = tokens.get(sha256(token.strip().encode("utf-8", "surrogateescape")).digest())
    if name is None:
        raise Problem("unauthenticated", "nobody has this bearer token")
    return name


def _is_local(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    if name.lower() in ("localhost", ""):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
