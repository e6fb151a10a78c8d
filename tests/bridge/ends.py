"""A p11-kit client and a p11-kit server with both halves of the bridge between them."""

from collections.abc import Callable
from typing import Any, Final

from keyway.bridge import Back, Front, Step
from keyway.cryptoki import call_named
from keyway.p11kit import (
    DecodeError,
    Dialect,
    Frame,
    FrameBuffer,
    Reply,
    Request,
    decode_request,
    encode_reply,
    encode_request,
)
from keyway.wire import FrameBuffer as NativeFrames
from keyway.wire import Header

SERVERS_SESSION: Final = 0x7700_0000_0000_0011
CODE: Final = 0x10
_OK: Final = Reply(0)

Answerer = Callable[[Request], Reply]


def messages(data: bytes) -> list[Frame]:
    """The frames that some bytes hold, and nothing else."""
    buffer = FrameBuffer()
    frames = buffer.feed(data)
    assert buffer.is_between_frames
    return frames


def native(data: bytes) -> list[tuple[Header, bytes]]:
    """The native frames that some bytes hold, and nothing else."""
    buffer = NativeFrames()
    frames = buffer.feed(data)
    assert buffer.is_between_frames
    return [(frame.header, frame.body) for frame in frames]


class Joined:
    """The two halves, and a server behind them that answers as it is told."""

    def __init__(self, client: Dialect, server: Dialect) -> None:
        self.client = client
        self.server = server
        self.front = Front(client, b"an application")
        self.back = Back(server)
        self.seen: list[Request] = []
        self.answered = Reply(0)

    def call(self, body: bytes, reply: Reply) -> bytes:
        """Send a client's message, let the server give a reply, and return the message that comes back."""
        self.answered = reply
        try:
            ((header, values),) = native(self.front.request(CODE, body))
        except DecodeError as error:
            (answer,) = messages(self.front.error(CODE, error.rv))
            return answer.body
        delivered = self._served(self.back.request(header, values))
        (answer,) = messages(self.front.replies(delivered))
        assert answer.code == CODE
        assert answer.options == b""
        return answer.body

    def good(self, name: str, *values: Any, target: int = 0, reply: Reply = _OK) -> None:
        """Make a call that succeeds."""
        body = encode_request(self.client, call_named(name), target, values)
        request = decode_request(self.client, body)
        assert self.call(body, reply) == encode_reply(self.client, request, reply)

    def open(self) -> None:
        """Open session 1, which has another handle at the server."""
        body = encode_request(self.client, call_named("C_OpenSession"), 5, (4, 0))
        answer = self.call(body, Reply(0, (), SERVERS_SESSION))
        assert answer[-8:] == (1).to_bytes(8, "big")

    def _served(self, step: Step) -> bytes:
        delivered = step.deliver
        for frame in messages(step.send):
            request = decode_request(self.server, frame.body)
            self.seen.append(request)
            step = self.back.reply(frame.code, encode_reply(self.server, request, self.answered))
            assert not step.send
            delivered += step.deliver
        return delivered
