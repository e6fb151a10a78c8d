"""p11-kit's RPC protocol (docs/p11-kit-wire.md): values to bytes and back for both ends, without I/O."""

from keyway.p11kit.calls import MESSAGES, Message
from keyway.p11kit.dialect import DIALECTS, MAX_VERSION, OFFERS, Dialect, accept, offer_accepted
from keyway.p11kit.errors import DecodeError, EncodeError, NotCarried
from keyway.p11kit.frames import FRAME_HEADER, HEADER_SIZE, Frame, FrameBuffer, pack
from keyway.p11kit.limits import MAX_BODY, MAX_OPTIONS, MAX_OUTPUT
from keyway.p11kit.message import Reply, Request, reply_kinds, request_kinds
from keyway.p11kit.reply import decode_reply, encode_error, encode_reply
from keyway.p11kit.request import MAGIC, decode_request, encode_request

__all__ = [
    "DIALECTS",
    "FRAME_HEADER",
    "HEADER_SIZE",
    "MAGIC",
    "MAX_BODY",
    "MAX_OPTIONS",
    "MAX_OUTPUT",
    "MAX_VERSION",
    "MESSAGES",
    "OFFERS",
    "DecodeError",
    "Dialect",
    "EncodeError",
    "Frame",
    "FrameBuffer",
    "Message",
    "NotCarried",
    "Reply",
    "Request",
    "accept",
    "decode_reply",
    "decode_request",
    "encode_error",
    "encode_reply",
    "encode_request",
    "offer_accepted",
    "pack",
    "reply_kinds",
    "request_kinds",
]
