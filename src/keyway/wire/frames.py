"""A byte stream cut into frames and back, without I/O. A relay that forwards without decoding has a faster way of its own."""

from typing import NamedTuple

from keyway.wire.header import HEADER_SIZE, MAX_BODY, Header


class Frame(NamedTuple):
    """A frame: its header and the body that came with it."""

    header: Header
    body: bytes


def pack(header: Header, body: bytes = b"") -> bytes:
    """Return the bytes of a frame; the header's length is set to that of the body."""
    return header._replace(length=len(body)).pack() + body


class FrameBuffer:
    """Collects received bytes until frames are whole.

    It never holds more than one header, one body of the limit's size, and what was fed last.
    """

    def __init__(self, limit: int = MAX_BODY) -> None:
        """Args: limit: The receiver's limit on a body, in bytes."""
        self._limit = limit
        self._received = bytearray()
        self._header: Header | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Add received bytes and return the frames that they complete.

        Raises:
            WireError: A body is above the limit; the stream can't be followed any more.
        """
        self._received += data
        frames: list[Frame] = []
        at = 0
        while True:
            if self._header is None:
                if len(self._received) - at < HEADER_SIZE:
                    break
                self._header = Header.unpack_from(self._received, at, self._limit)
                at += HEADER_SIZE
            end = at + self._header.length
            if len(self._received) < end:
                break
            frames.append(Frame(self._header, bytes(self._received[at:end])))
            self._header = None
            at = end
        del self._received[:at]
        return frames

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here without a frame being cut short."""
        return self._header is None and not self._received
