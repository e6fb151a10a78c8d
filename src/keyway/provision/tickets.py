"""Callers by their Kerberos tickets: HTTP's Negotiate (RFC 4559)."""

from __future__ import annotations

import logging
from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING, Final

from keyway.observe.log import event
from keyway.provision.problems import Problem
from keyway.transport.binding import binding_at_server
from keyway.transport.errors import GssError
from keyway.transport.kerberos import Acceptor
from keyway.transport.thread import in_thread

if TYPE_CHECKING:
    from ssl import SSLContext

    from keyway.config import ApiOptions

__all__ = ["LINE", "Tickets"]

LINE: Final = 98_304
"""Bytes of each header of a request where tickets are taken. One with all groups of a user of Active Directory has some ten thousand."""


class Tickets:
    """Takes tickets. Each request has its own, and nothing is kept between two of them."""

    def __init__(self, options: ApiOptions) -> None:
        """Read the keytab.

        Args:
            options: The section of the configuration.

        Raises:
            KerberosError: The library is missing, or there is no key for the name.
        """
        self._acceptor = Acceptor(options.service, options.keytab, is_http=True)
        self._must_bind = options.channel_binding == "required"

    async def accept(self, token: bytes, tls: SSLContext | None) -> tuple[str, str]:
        """Return the principal that has shown a ticket, and the header WWW-Authenticate by which it sees that this server is the right one.

        Args:
            token: The GSS-API token that came.
            tls: What the TLS handshake of the connection was made with; None without TLS.

        Raises:
            Problem: `unauthenticated`. The reason, which may name files and keys, is in the log only.
        """
        context = self._acceptor.begin(binding_at_server(tls) if tls is not None else b"", must_bind=self._must_bind)
        try:
            answer = await in_thread(partial(context.step, token))
        except GssError as error:
            event(logging.WARNING, "ticket refused", reason=str(error))
            raise Problem("unauthenticated", "the ticket is refused; the log of keyway api says why") from None
        if not context.is_complete:
            raise Problem("unauthenticated", "more than one round trip is needed, which is not supported: use Kerberos")
        return context.peer, f"Negotiate {b64encode(answer).decode()}" if answer else ""
