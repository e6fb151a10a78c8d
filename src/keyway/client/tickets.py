"""The caller's Kerberos ticket, for one request after the other: HTTP's Negotiate (RFC 4559)."""

from __future__ import annotations

import ssl
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final

from keyway.client.errors import ClientError
from keyway.transport.errors import GssError, KerberosError
from keyway.transport.kerberos import HTTP, Initiator

if TYPE_CHECKING:
    import socket

    from keyway.transport.gss import Mechanism

__all__ = ["Proof", "Tickets"]

_SCHEME: Final = "Negotiate "


class Tickets:
    """Shows tickets."""

    def __init__(self, host: str) -> None:
        """Note the name; nothing is asked of a KDC yet.

        Args:
            host: Where the server is, which is HTTP there.

        Raises:
            ValueError: The library for Kerberos is missing.
        """
        try:
            self._initiator = Initiator(f"{HTTP}@{host}", host, None)
        except KerberosError as error:
            raise ValueError(str(error)) from error

    def show(self, connection: socket.socket) -> Proof:
        """Return what one request needs.

        Args:
            connection: The connection that it goes over; with TLS, the ticket is bound to the certificate.

        Raises:
            ClientError: There is no ticket, or the KDC gives none for the server.
        """
        binding = b""
        if isinstance(connection, ssl.SSLSocket) and (certificate := connection.getpeercert(binary_form=True)):
            from keyway.transport.binding import end_point  # What it needs takes long to load.

            binding = end_point(certificate)
        context = self._initiator.begin(binding)
        try:
            return Proof(context, context.step(b""))
        except GssError as error:
            raise ClientError("unauthenticated", 0, "There is no Kerberos ticket to show", str(error)) from error


class Proof:
    """A ticket that is shown, and what the server has to answer.

    Attributes:
        header: The header Authorization.
    """

    def __init__(self, context: Mechanism, token: bytes) -> None:
        """Args: context: This end. token: What it sends."""
        self.header = f"{_SCHEME}{b64encode(token).decode()}"
        self._context = context

    def check(self, header: str | None) -> None:
        """See whether the server has the key that the ticket is for.

        Args:
            header: The header WWW-Authenticate of its answer; None without one.

        Raises:
            ClientError: It has not, or does not show it.
        """
        try:
            if header is not None and header.startswith(_SCHEME):
                self._context.step(b64decode(header.removeprefix(_SCHEME)))
        except (GssError, ValueError) as error:
            raise ClientError("malformed-answer", 0, "The server does not prove who it is", str(error)) from error
        if not self._context.is_complete:
            raise ClientError("malformed-answer", 0, "The server does not prove who it is")
