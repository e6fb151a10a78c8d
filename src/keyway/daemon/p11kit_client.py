"""One client connection that speaks p11-kit's protocol: each message becomes a native frame, and each reply a message again."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from keyway.backend.segment import LARGE
from keyway.bridge import Front, Fusion
from keyway.cryptoki import RV, call_named
from keyway.cryptoki.names import mechanism_name
from keyway.daemon.connection import FIRST_BODY, LOOK, Connection
from keyway.gateway.shares import TURN
from keyway.observe.log import event
from keyway.p11kit import FRAME_HEADER, MAX_OPTIONS, DecodeError, Dialect, accept
from keyway.wire.header import HEADER, HEADER_SIZE

if TYPE_CHECKING:
    from keyway.daemon.connection import Entrance
    from keyway.daemon.link import Frame
    from keyway.daemon.server import Daemon

__all__ = ["P11KitConnection"]

_UNPACK: Final = HEADER.unpack_from
_UNPACK_MESSAGE: Final = FRAME_HEADER.unpack_from
_HEADER: Final = FRAME_HEADER.size
_MECHANISM_LIST: Final = call_named("C_GetMechanismList").number


class P11KitConnection(Connection):
    """Cuts a stream of p11-kit's protocol into messages and puts them before the same service that native frames go to."""

    def __init__(self, daemon: Daemon, entrance: Entrance) -> None:
        super().__init__(daemon, entrance)
        self._max_body = daemon.config.limits.body
        self._dialect: Dialect | None = None
        self._front: Front
        self._fusion = Fusion()
        self._late: list[tuple[Frame, bytes]] = []  # Frames that came out of the fusion while the connection was held.
        self._is_ordering = False  # Whether messages wait because others must be over first.
        self._rest = bytearray()
        self._need = 0
        self._over = 0  # Bytes still to come of a message that is too long to be taken.
        self._bound = self.service.bound

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come."""
        if self._over:
            data, self._over = data[self._over :], max(0, self._over - len(data))
            if not data:
                return
        if self._rest:
            self._rest += data
            if self.held or self.is_giving_way or len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        elif self.held:
            self._rest += data
            return
        if self._dialect is None:
            try:
                self._dialect = accept(data[0])
            except DecodeError as error:
                self.refuse(str(error))
                return
            self._front = Front(self._dialect)
            self.transport.write(bytes([self._dialect.version]))
            data = data[1:]
        self._messages(data)

    def go_on(self) -> None:
        """Handle what was received while the connection was held, or gave way."""
        late, self._late = self._late, []
        self._send(late)
        if self._rest and not self.held:
            data = bytes(self._rest)
            self._rest.clear()
            self._messages(data)

    def forget(self) -> None:
        """Drop what was received and not handled."""
        self._late.clear()
        self._rest.clear()

    def backend_lost(self) -> None:
        """Defer nothing that was learned of it."""
        self._fusion.lose()

    def write(self, data: bytes) -> None:
        """Send whole native reply frames as the messages that they answer."""
        send, answer = self._fusion.replies(data)
        if answer:
            self._answer(answer)
        if send:
            self._send(send)
        if self._is_ordering and not self._fusion.is_waiting:
            self._is_ordering = False
            self.resume("order")

    def _messages(self, data: bytes) -> None:
        at = 0
        end = len(data)
        last = end - _HEADER
        share = self.share
        beyond = share.left
        left = beyond if beyond < TURN else TURN
        beyond -= left
        self._need = _HEADER
        while at <= last and left > 0:
            code, options, size = _UNPACK_MESSAGE(data, at)
            if options > MAX_OPTIONS:
                self.refuse(f"options of {options} bytes are above the limit of {MAX_OPTIONS}")
                return
            if code == 0:
                # No reply may have it: stock clients take it for a broken stream.
                self.refuse("a request has the code 0")
                return
            body = at + _HEADER + options
            stop = body + size
            is_early = self.service.binding is None
            if size > self._max_body or (is_early and stop > end and size > FIRST_BODY):
                # Read over, not refused: a stock client whose connection is closed takes its application with it (SIGPIPE).
                self.transport.write(self._front.error(code, RV.CKR_HOST_MEMORY))
                self._over = max(0, stop - end)
                at = min(stop, end)
                left -= LOOK
                continue
            if stop > end:
                self._need = stop - at
                break
            if options and not self.service.application:
                self._front.application = b"p11-kit " + data[at + _HEADER : body]
            at = stop
            self._message(code, data[body:stop])
            left -= LOOK
            if self.held or self.transport.is_closing():
                break
        beyond += left
        share.left = beyond
        if beyond < share.low:
            self.daemon.shares.spent(share)
        if at < end:
            self._rest += data[at:]
            if left <= 0 and at <= last and not self.held:
                self.give_way()

    def _message(self, code: int, body: bytes) -> None:
        self.looked += 1
        try:
            data = self._front.request(code, body)
        except DecodeError as error:
            self.transport.write(self._front.error(code, error.rv))
            return
        send, answer = self._fusion.request(_UNPACK(data), data)
        if answer:
            self._answer(answer)
        if send:
            self._send(send)
        if self._fusion.is_waiting and not self._is_ordering:
            self._is_ordering = True
            self.pause("order")

    def _send(self, frames: Iterable[tuple[Frame, bytes]]) -> None:
        for frame, data in frames:
            link = self._bound.get(frame[4]) if frame[1] in self.service.plain else None
            if self.held:
                self._late.append((frame, data))
            elif link is None:
                self.service.request(frame, data)
            else:
                link.in_flight[frame[3]] = frame
                link.write(data if len(data) < LARGE else link.loans.instead(data))

    def _answer(self, data: bytes) -> None:
        self.transport.write(self._front.replies(data))
        if self._front.hidden:
            self._tell_hidden(data)

    def _tell_hidden(self, data: bytes) -> None:
        """Log once for each backend and dialect which mechanisms an application will miss, and why."""
        hidden, self._front.hidden = self._front.hidden, frozenset()
        assert self._dialect is not None
        at = 0
        while at < len(data):
            size, call, _, _, slot, _ = _UNPACK(data, at)
            at += HEADER_SIZE + size
            backend = self.service.backend_of(slot) if call == _MECHANISM_LIST else None
            if backend is not None and self.entrance.view.is_news((backend, self._dialect.version)):
                event(
                    logging.INFO,
                    "mechanisms hidden by the client",
                    listener=self.entrance.name,
                    backend=backend,
                    version=self._dialect.version,
                    count=len(hidden),
                    mechanisms=",".join(mechanism_name(each).removeprefix("CKM_") for each in sorted(hidden)),
                    reason="p11-kit clients of this version can't send them; libkeyway.so can",
                )
