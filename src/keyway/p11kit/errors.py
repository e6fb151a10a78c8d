"""What this codec raises."""

from typing import Final

from keyway.cryptoki.constants import RV
from keyway.cryptoki.errors import CkError

__all__ = ["DecodeError", "EncodeError", "NotCarried"]

_MALFORMED: Final = int(RV.CKR_ARGUMENTS_BAD)


class DecodeError(Exception):
    """Bytes that are no message of the protocol, or one with content that must not be passed on.

    The decoder raises nothing else. The message says what is wrong and where, never what the bytes were: they may hold a PIN.

    Attributes:
        rv: What a server answers to such a request, and what a client's caller gets for such a reply.
    """

    def __init__(self, reason: str, rv: int = _MALFORMED) -> None:
        super().__init__(reason)
        self.rv = rv


class EncodeError(ValueError):
    """Values that do not fit the call's row in the table, or a limit. A mistake of the caller, never of the peer.

    The message names kind and type, never the value.
    """


class NotCarried(CkError):
    """A good value for which this protocol has no form towards this peer.

    The call is not sent; its caller gets `rv`, where there is one the same as from p11-kit's own client.
    """
