"""One client connection that speaks p11-kit's RPC protocol: each message becomes a native frame, and each reply a message again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from keyway.bridge import Front
from keyway.daemon.connection import Connection
from keyway.p11kit import MAX_BODY, DecodeError, Frame, FrameBuffer, accept
from keyway.wire.header import HEADER

if TYPE_CHECKING:
    from keyway.daemon.listener import Listener
    from keyway.daemon.server import Daemon

__all__ = ["P11KitConnection"]

_UNPACK: Final = HEADER.unpack_from


class P11KitConnection(Connection):
    """Cuts a stream of p11-kit's protocol into messages and puts them before the same service that native frames go to."""

    def __init__(self, daemon: Daemon, listener: Listener) -> None:
        super().__init__(daemon, listener)
        self._buffer = FrameBuffer(min(MAX_BODY, daemon.config.limits.body))
        self._waiting: deque[Frame] = deque()
        self._front: Front | None = None
        self._bound = self.service.bound

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come."""
        try:
            if self._front is None:
                dialect = accept(data[0])
                self._front = Front(dialect)
                self.transport.write(bytes([dialect.version]))
                data = data[1:]
            self._waiting.extend(self._buffer.feed(data))
        except DecodeError as error:
            self.refuse(str(error))
            return
        if not self.held:
            self.go_on()

    def go_on(self) -> None:
        """Handle the messages that wait, until one of them makes the others wait longer."""
        while self._waiting and not self.held and not self.transport.is_closing():
            self._message(self._waiting.popleft())

    def forget(self) -> None:
        """Drop what was received and not handled."""
        self._waiting.clear()

    def write(self, data: bytes) -> None:
        """Send whole native reply frames as the messages that they answer."""
        assert self._front is not None
        self.transport.write(self._front.replies(data))

    def _message(self, message: Frame) -> None:
        assert self._front is not None
        try:
            data = self._front.request(message.code, message.body)
        except DecodeError as error:
            self.transport.write(self._front.error(message.code, error.rv))
            return
        frame = _UNPACK(data)
        link = self._bound.get(frame[4]) if frame[1] in self.service.plain else None
        if link is None:
            self.service.request(frame, data)
        else:
            link.in_flight[frame[3]] = frame
            link.write(data)
