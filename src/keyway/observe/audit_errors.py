"""What can go wrong with an audit log. Light to import, for those who only catch it."""

__all__ = ["AuditError", "SignerError"]


class AuditError(Exception):
    """An audit log that can't be opened. The text says which file or socket, and why."""


class SignerError(Exception):
    """A checkpoint that can't be signed now. The text says why, and holds no secret."""
