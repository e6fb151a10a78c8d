"""What this package raises."""

__all__ = ["AcceptError", "AddressError", "ConnectError", "TlsError"]


class AcceptError(Exception):
    """A connection that came in and could not be used. The text says why."""


class AddressError(Exception):
    """An address that can't be listened on. The text says which, and why."""


class ConnectError(Exception):
    """An address that can't be connected to. The text says which, and why."""


class TlsError(Exception):
    """Files that TLS can't be set up with. The text says which, and why."""
