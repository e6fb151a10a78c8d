"""The form of what GSS-API sends over a stream: pieces with their length in front. Without I/O.

Tokens of the handshake and records have the same form and different limits (docs/wire.md, section 10).
"""

from struct import Struct
from typing import Final

from keyway.transport.errors import GssError

__all__ = ["MAX_PLAIN", "MAX_RECORD", "MAX_TOKEN", "Pieces", "piece"]

_LENGTH: Final = Struct(">I")

MAX_TOKEN: Final = 65_536
"""Bytes of a token of the handshake. A ticket has some hundred; with all groups of a user of Active Directory, some ten thousand."""
MAX_PLAIN: Final = 65_536
"""Bytes that one record carries."""
MAX_RECORD: Final = MAX_PLAIN + 1024
"""Bytes of a record as it is sent. Kerberos adds 60 or so."""
SHOWN: Final = 16
"""Bytes shown of what is another protocol."""


def piece(data: bytes) -> bytes:
    """Return a token or a record as it is sent."""
    return _LENGTH.pack(len(data)) + data


class Pieces:
    """Cuts what was received into tokens and records.

    Attributes:
        limit: Bytes that the next one may have.
    """

    def __init__(self, limit: int = MAX_TOKEN) -> None:
        self.limit = limit
        self._rest = bytearray()

    def __bool__(self) -> bool:
        """Whether bytes are left."""
        return bool(self._rest)

    def feed(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._rest += data

    def drain(self) -> bytes:
        """Return all bytes that are left, uncut."""
        taken = bytes(self._rest)
        self._rest.clear()
        return taken

    def take(self) -> bytes | None:
        """Return the next one; None as long as it is not complete.

        Raises:
            GssError: It is empty, or above the limit. The first four bytes tell, and the first one what is another protocol.
        """
        rest = self._rest
        if rest and rest[0]:
            raise GssError(f"it does not speak GSS-API here: it sent {bytes(rest[:SHOWN])!r}")
        if len(rest) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(rest)
        if not 0 < size <= self.limit:
            raise GssError(f"a piece of {size} bytes, the limit is {self.limit}")
        end = _LENGTH.size + size
        if len(rest) < end:
            return None
        taken = bytes(rest[_LENGTH.size : end])
        del rest[:end]
        return taken
