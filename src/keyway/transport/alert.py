"""TLS contexts that tell the other end why a handshake failed (RFC 8446, section 6.2).

The loops' transports close a connection whose handshake fails without sending the alert that OpenSSL has written. Here it is kept, for
whoever still holds the socket.
"""

import contextlib
import socket
import ssl
from typing import Any, Final

__all__ = ["AlertingContext", "send_alert"]

_ALERT: Final = "alert"
UNREAD: Final = 65_536
"""Bytes that are read before the end and thrown away: closing with bytes unread would reset the connection, and with it the alert."""


class _AlertingObject(ssl.SSLObject):
    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            vars(error)[_ALERT] = self.outgoing.read()
            raise


class AlertingContext(ssl.SSLContext):
    """A context whose failed handshakes raise errors with the alert in them.

    Attributes:
        own: This end's certificate, DER, which OpenSSL does not tell; empty without.
    """

    own = b""

    sslobject_class = _AlertingObject

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        """Return what the loop's transport uses."""
        made = super().wrap_bio(incoming, outgoing, *args, **options)
        assert isinstance(made, _AlertingObject)
        made.outgoing = outgoing
        return made


def send_alert(connection: socket.socket, error: BaseException) -> None:
    """Send the alert of a failed handshake, if it has one and there is room for it, and nothing after it.

    Args:
        connection: The socket, which does not block; not the one that the loop has closed, but a copy of it.
        error: What the handshake raised.
    """
    with contextlib.suppress(OSError):
        if alert := vars(error).get(_ALERT):
            connection.send(alert)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(UNREAD)
