"""What is answered to a call at a token with views."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from keyway.cryptoki import CALLS, RV, Info, Value
from keyway.wire.codec import decode_request, encode_reply
from keyway.wire.header import HEADER_SIZE

if TYPE_CHECKING:
    from keyway.daemon.link import Frame

__all__ = ["Reply", "arguments", "told"]


class Reply(NamedTuple):
    """What a call is answered.

    Attributes:
        rv: The RV.
        body: The body.
    """

    rv: int
    body: bytes = b""


def arguments(frame: Frame, data: bytes) -> tuple[Value, ...]:
    """Return the arguments of a request that is not fused.

    Raises:
        WireError: It is malformed.
    """
    return decode_request(CALLS[frame[1] - 1], frame[5], memoryview(data)[HEADER_SIZE:])


def told(frame: Frame, data: bytes, info: Info) -> Reply:
    """Return the reply to a call that asks for a structure.

    Raises:
        WireError: The request is malformed.
    """
    if not arguments(frame, data)[-1]:
        return Reply(RV.CKR_ARGUMENTS_BAD)
    return Reply(RV.CKR_OK, encode_reply(CALLS[frame[1] - 1], (info,)))
