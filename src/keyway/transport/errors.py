"""What this package raises."""

__all__ = ["AcceptError", "AddressError", "ConnectError", "GssError", "KerberosError", "TlsError"]


class AcceptError(Exception):
    """A connection that came in and could not be used. The text says why."""


class AddressError(Exception):
    """An address that can't be listened on. The text says which, and why."""


class ConnectError(Exception):
    """An address that can't be connected to. The text says which, and why."""


class TlsError(Exception):
    """Files that TLS can't be set up with. The text says which, and why."""


class KerberosError(Exception):
    """What Kerberos can't be set up with: a library, a keytab, a name. The text says which, and why."""


class GssError(Exception):
    """A handshake or a record of GSS-API that is refused. The text says why.

    Attributes:
        token: What tells the other end; empty if nothing does.
    """

    def __init__(self, text: str, token: bytes = b"") -> None:
        super().__init__(text)
        self.token = token
