"""One client connection: frames in, most of them straight through to a module host, and replies out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from keyway.backend.segment import LARGE
from keyway.cryptoki import RV, call_numbered
from keyway.daemon import control
from keyway.daemon.connection import FIRST_BODY, LOOK, Connection
from keyway.daemon.intake import Intake
from keyway.daemon.link import OWN_IDS, Frame, reply_frame
from keyway.gateway.shares import TURN
from keyway.transport.descriptor import DescriptorTransport
from keyway.transport.gss import GssTransport
from keyway.wire.ahead import READ_AHEAD
from keyway.wire.errors import WireError
from keyway.wire.header import FIRST_CONTROL_CALL, HEADER, HEADER_SIZE, Flags, chosen_version

if TYPE_CHECKING:
    from keyway.backend.segment import Part
    from keyway.daemon.connection import Entrance
    from keyway.daemon.link import Link
    from keyway.daemon.server import Daemon

__all__ = ["ClientConnection"]

_UNPACK: Final = HEADER.unpack_from
_NEEDS_LOOK: Final = ~Flags.FUSED
"""Request flags that keep a frame off the short way."""


class ClientConnection(Connection):
    """Cuts a stream of the native wire into frames.

    A frame of a session that is bound to a host, with a call that changes nothing the gateway keeps, takes the short way: neighbours
    for the same host go out in one write, unread but for their headers. All others are looked at one by one.
    A large body on the short way is put into the memory that is shared with the host, where there is such memory.
    """

    def __init__(self, daemon: Daemon, entrance: Entrance) -> None:
        super().__init__(daemon, entrance)
        self._max_body = daemon.config.limits.body
        self._usual = min(self._max_body, LARGE - 1)
        self._can_fill = True
        self._greeted = False
        self._rest = bytearray()
        self._need = 0
        self._bound = self.service.bound

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who connected."""
        super().connection_made(transport)
        self.write = self.transport.write
        self._can_fill = not isinstance(transport, DescriptorTransport | GssTransport)  # They know no BufferedProtocol.

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come."""
        if self._rest:
            self._rest += data
            if self.held or self.is_giving_way or len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        elif self.held:
            self._rest += data
            return
        if not self._greeted:
            try:
                version = chosen_version(data[0])
            except WireError as error:
                self.refuse(str(error))
                return
            self._greeted = True
            self.write(bytes([version]))
            data = data[1:]
        self._frames(data)

    def go_on(self) -> None:
        """Handle what was received while the connection was held, or gave way."""
        if self._rest:
            data = bytes(self._rest)
            self._rest.clear()
            self._frames(data)

    def write_apart(self, header: bytes, body: bytes | memoryview) -> None:
        """Send a reply frame in two pieces."""
        # Who has begun to watch since the request was sent wants whole frames.
        for piece in (header, body) if self.service.tap is None else (header + body,):
            self.write(piece)

    def taken(self, link: Link, frame: Frame, part: Part) -> None:
        """Go on with a request whose body is in shared memory.

        Args:
            link: Where it shall go.
            frame: Its header.
            part: Where the body is.
        """
        if self._bound.get(frame[4]) is link and frame[1] in self.service.plain and link.loans.can_lend(part):
            self._lend(link, frame, part)
            return
        # The host has gone meanwhile, or is another one, or somebody watches now.
        data = HEADER.pack(*frame) + part.view[: frame[0]]
        link.loans.drop(part)
        self._frames(data)

    def forget(self) -> None:
        """Drop what was received and not handled."""
        self._rest.clear()

    def _frames(self, data: bytes) -> None:
        plain = self.service.plain
        bound = self._bound
        link = None
        at = start = 0
        end = len(data)
        last = end - HEADER_SIZE
        share = self.share
        beyond = share.left
        left = beyond if beyond < TURN else TURN
        beyond -= left
        self._need = HEADER_SIZE
        while at <= last and left > 0:
            frame: Frame = _UNPACK(data, at)
            size = frame[0]
            stop = at + HEADER_SIZE + size
            if size > self._usual:
                if size > self._max_body:
                    self.refuse(f"a body of {size} bytes is above the limit of {self._max_body}")
                    return
                if (place := self._place(frame, is_whole=stop <= end)) is not None:
                    if link is not None and start < at:
                        link.write(data[start:at])
                    link = None
                    body = memoryview(data)[at + HEADER_SIZE : stop]
                    if stop > end:
                        share.left = beyond + left - 1  # Whether that is little is seen with the next request.
                        self.transport.set_protocol(Intake(self, place[0], frame, place[1], body))
                        return
                    place[1].view[:size] = body
                    if not self._lend(place[0], frame, place[1]):
                        return
                    at = start = stop
                    left -= 1
                    continue
            if stop > end:
                if size > FIRST_BODY and self.service.binding is None:
                    self.refuse(f"a body of {size} bytes before C_Initialize")
                    return
                self._need = stop - at
                break
            is_short = frame[1] in plain and not frame[2] & _NEEDS_LOOK and frame[3] < OWN_IDS
            other = bound.get(frame[4]) if is_short else None
            if other is not link:
                if link is not None and start < at:
                    link.write(data[start:at])
                start = at
                link = other
            if link is None:
                self._look(frame, data[at:stop])
                at = start = stop
                left -= LOOK
                if self.held or self.transport.is_closing():
                    break
                plain = self.service.plain
                continue
            if link.in_flight.setdefault(frame[3], frame) is not frame:
                self.refuse("a request id is used twice at a time")
                return
            at = stop
            left -= 1
        if link is not None and start < at:
            link.write(data if at - start == end else data[start:at])
        beyond += left
        share.left = beyond
        if beyond < share.low:
            self.daemon.shares.spent(share)
        if at < end:
            self._rest += data[at:]
            if left <= 0 and at <= last and not self.held:
                self.give_way()

    def _place(self, frame: Frame, *, is_whole: bool) -> tuple[Link, Part] | None:
        """Return where a large body goes if it need not go through the socket."""
        if frame[1] not in self.service.plain or frame[2] & _NEEDS_LOOK or frame[3] >= OWN_IDS:
            return None
        if not (is_whole or self._can_fill):
            return None
        link = self._bound.get(frame[4])
        if link is None or (part := link.loans.place(frame[0])) is None:
            return None
        return link, part

    def _lend(self, link: Link, frame: Frame, part: Part) -> bool:
        """Pass on a request whose body is in shared memory."""
        if link.in_flight.setdefault(frame[3], frame) is not frame:
            self.refuse("a request id is used twice at a time")
            return False
        link.write(link.loans.lend(frame, part))
        return True

    def _look(self, frame: Frame, data: bytes) -> None:
        self.looked += 1
        refusal = _refusal(frame)
        if refusal is None and frame[1] < FIRST_CONTROL_CALL:
            self.service.request(frame, data)
        elif not frame[2] & Flags.POSTED:
            reply = control.answer(self.daemon, self, frame, data) if refusal is None else reply_frame(frame, refusal)
            if reply:
                self.write(reply)


def _refusal(frame: Frame) -> RV | None:
    """Return why a request is refused whatever its body is; None if it is not."""
    _, number, flags, *_ = frame
    if flags & ~Flags.REQUEST_MASK:
        return RV.CKR_ARGUMENTS_BAD
    if number >= FIRST_CONTROL_CALL:
        return None
    if number == READ_AHEAD:
        return RV.CKR_ARGUMENTS_BAD if flags else None
    call = call_numbered(number)
    if call is None or call.local:
        return RV.CKR_FUNCTION_NOT_SUPPORTED
    return RV.CKR_ARGUMENTS_BAD if flags & Flags.FUSED and not call.init else None
