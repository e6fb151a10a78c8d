"""The native wire of Keyway (docs/wire.md): values to bytes and back, without I/O."""

from keyway.wire.codec import (
    Request,
    decode_fused,
    decode_reply,
    decode_request,
    encode_fused,
    encode_reply,
    encode_request,
    reply_kinds,
    request_kinds,
)
from keyway.wire.errors import EncodeError, WireError
from keyway.wire.frames import Frame, FrameBuffer, pack
from keyway.wire.header import HEADER_SIZE, MAX_BODY, VERSION_BYTE, Flags, Header, chosen_version

__all__ = [
    "HEADER_SIZE",
    "MAX_BODY",
    "VERSION_BYTE",
    "EncodeError",
    "Flags",
    "Frame",
    "FrameBuffer",
    "Header",
    "Request",
    "WireError",
    "chosen_version",
    "decode_fused",
    "decode_reply",
    "decode_request",
    "encode_fused",
    "encode_reply",
    "encode_request",
    "pack",
    "reply_kinds",
    "request_kinds",
]
