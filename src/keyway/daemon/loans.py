"""Requests of one stream whose bodies are in memory that is shared with its host (docs/wire.md, section 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyway.wire.header import HEADER, HEADER_SIZE, Flags
from keyway.wire.shared import lent, place_of, returned

if TYPE_CHECKING:
    from keyway.backend.segment import Part, Segment
    from keyway.backend.stream import Stream
    from keyway.daemon.link import Frame

__all__ = ["Loans", "whole"]


class Loans:
    """Lends parts of the memory to requests, and takes them back with the replies. The memory may be another one between the two.

    Attributes:
        parts: Where the bodies of unanswered requests are, by id.
    """

    def __init__(self, stream: Stream) -> None:
        """Begin with nothing.

        Args:
            stream: Knows the memory.
        """
        self.parts: dict[int, Part] = {}
        self._stream = stream

    def place(self, size: int) -> Part | None:
        """Return where a body may be put; None if it must go through the socket.

        Args:
            size: Its length in bytes.
        """
        segment = self._stream.segment
        return None if segment is None else segment.take(size)

    def can_lend(self, part: Part) -> bool:
        """Tell whether the other end still has the memory that a part is of."""
        return part.segment is self._stream.segment

    def drop(self, part: Part) -> None:
        """Say that what was to be put somewhere is not going to be lent."""
        if part.segment is not None:
            part.segment.give_back(part)

    def lend(self, request: Frame, part: Part) -> bytes:
        """Return the frame to send for a request.

        Args:
            request: Its header, as the client sent it.
            part: Where its body is.
        """
        self.parts[request[3]] = part
        body = lent(part.offset, request[0], part.room)
        return HEADER.pack(len(body), request[1], request[2] | Flags.SHARED, *request[3:]) + body

    def instead(self, data: bytes) -> bytes:
        """Return the frame to send for a whole request: itself if there is no room for it in the memory.

        Args:
            data: Header and body.
        """
        part = self.place(len(data) - HEADER_SIZE)
        if part is None:
            return data
        part.view[: len(data) - HEADER_SIZE] = memoryview(data)[HEADER_SIZE:]
        return self.lend(HEADER.unpack_from(data), part)

    def take_back(self, reply: Frame, body: bytes) -> tuple[Frame, bytes | memoryview]:
        """Return header and body of the reply to a request that was lent a part. The part is free when nobody refers to the body any more.

        Args:
            reply: The header that came.
            body: What came behind it.

        Raises:
            WireError: The reply can't be where it is said to be. The part is not lent any more.
        """
        part = self.parts.pop(reply[3])
        segment = part.segment
        assert segment is not None
        length = returned(body, reply[2], part.room)
        if length is None:
            segment.give_back(part)
            return reply, body
        return (length, reply[1], reply[2] & ~Flags.SHARED, *reply[3:]), segment.until_sent(part, length)


def whole(frame: Frame, data: bytes, segment: Segment | None) -> tuple[Frame, bytes]:
    """Return header and frame of a request as they would be if its body had come with it: that of one that waits, or is not for the host.

    Args:
        frame: The header.
        data: The frame.
        segment: Where its body is if it did not come with it.
    """
    if not frame[2] & Flags.SHARED:
        return frame, data
    assert segment is not None
    body = segment.view(*place_of(data[HEADER_SIZE:]))
    head: Frame = (len(body), frame[1], frame[2] & ~Flags.SHARED, *frame[3:])
    return head, HEADER.pack(*head) + body
