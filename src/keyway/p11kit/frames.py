"""A byte stream cut into frames and back, without I/O (docs/p11-kit-wire.md, section 2)."""

from struct import Struct
from typing import Final, NamedTuple

from keyway.p11kit.errors import DecodeError, EncodeError
from keyway.p11kit.limits import MAX_BODY, MAX_OPTIONS

__all__ = ["FRAME_HEADER", "HEADER_SIZE", "Frame", "FrameBuffer", "pack"]

FRAME_HEADER: Final = Struct(">III")
"""Code, length of the options, length of the body."""
HEADER_SIZE: Final = FRAME_HEADER.size


class Frame(NamedTuple):
    """A frame.

    Attributes:
        code: The number that tells which reply answers which request. Clients choose it; never 0 in a reply.
        body: The message.
        options: Free bytes; clients put their name there, servers leave it empty.
    """

    code: int
    body: bytes
    options: bytes = b""


def pack(frame: Frame) -> bytes:
    """Return the bytes of a frame.

    Raises:
        EncodeError: It is above a limit.
    """
    if len(frame.body) > MAX_BODY or len(frame.options) > MAX_OPTIONS or not 0 <= frame.code <= 0xFFFF_FFFF:
        raise EncodeError(f"a body of {len(frame.body)} or options of {len(frame.options)} bytes are above the limit")
    return FRAME_HEADER.pack(frame.code, len(frame.options), len(frame.body)) + frame.options + frame.body


class FrameBuffer:
    """Collects received bytes until frames are whole.

    It never holds more than one frame of the limit's size, and what was fed last.
    """

    def __init__(self, limit: int = MAX_BODY) -> None:
        """Args: limit: The receiver's limit on a body, in bytes."""
        self._limit = limit
        self._received = bytearray()
        self._header: tuple[int, int, int] | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Add received bytes and return the frames that they complete.

        Raises:
            DecodeError: A frame is above the limit; the stream can't be followed any more.
        """
        self._received += data
        frames: list[Frame] = []
        at = 0
        while True:
            if self._header is None:
                if len(self._received) - at < HEADER_SIZE:
                    break
                self._header = self._checked(at)
                at += HEADER_SIZE
            code, options, body = self._header
            end = at + options + body
            if len(self._received) < end:
                break
            frames.append(
                Frame(code, bytes(self._received[at + options : end]), bytes(self._received[at : at + options]))
            )
            self._header = None
            at = end
        del self._received[:at]
        return frames

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here without a frame being cut short."""
        return self._header is None and not self._received

    def _checked(self, at: int) -> tuple[int, int, int]:
        code, options, body = FRAME_HEADER.unpack_from(self._received, at)
        if options > MAX_OPTIONS or body > self._limit:
            raise DecodeError(f"a body of {body} and options of {options} bytes are above the limit")
        return code, options, body
