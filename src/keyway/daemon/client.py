"""One client connection: frames in, most of them straight through to a module host, and replies out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

from keyway.cryptoki import RV, call_numbered
from keyway.daemon import control
from keyway.daemon.link import Frame, reply_frame
from keyway.daemon.service import Service
from keyway.observe.log import event
from keyway.transport.peer import has_hung_up
from keyway.wire.errors import WireError
from keyway.wire.header import FIRST_CONTROL_CALL, HEADER, HEADER_SIZE, Flags, chosen_version

if TYPE_CHECKING:
    from keyway.daemon.server import Daemon
    from keyway.transport.peer import Peer

__all__ = ["ClientConnection"]

_UNPACK: Final = HEADER.unpack_from
_NEEDS_LOOK: Final = ~Flags.FUSED
"""Request flags that keep a frame off the short way."""


class ClientConnection(asyncio.Protocol):
    """Cuts the stream into frames.

    A frame of a session that is bound to a host, with a call that changes nothing the gateway keeps, takes the short way: neighbours
    for the same host go out in one write, unread but for their headers. All others are looked at one by one. While one of these has to
    wait (a host is being started), the connection is *held*: nothing behind it is read, so order is kept.

    Attributes:
        peer: Who connected; None until the connection is made.
        service: What answers the frames.
        since: When it connected, in seconds of the loop's clock.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.peer: Peer | None = None
        self.since = 0.0
        self._daemon = daemon
        self._max_body = daemon.config.limits.body
        self._transport: asyncio.Transport
        self._greeted = False
        self._rest = bytearray()
        self._need = 0
        self._held: asyncio.Task[None] | None = None
        self._pauses: set[str] = set()
        self.service = Service(daemon, self)
        self._bound = self.service.bound

    # From the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who connected."""
        self._transport = cast(asyncio.Transport, transport)
        self.since = self._daemon.now()
        self._transport.set_write_buffer_limits(high=self._daemon.config.limits.write_buffer)
        self.write = self._transport.write
        self.peer = self._daemon.admit(self, self._transport)
        if self.peer is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come."""
        if self._rest:
            self._rest += data
            if self._held or len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        elif self._held:
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

    def pause_writing(self) -> None:
        """Read no replies while the client is slow to take them, and no requests, which may be answered here."""
        self.pause("client")
        self.service.pause_hosts(True)

    def resume_writing(self) -> None:
        """Read both again."""
        self.service.pause_hosts(False)
        self.resume("client")

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the client."""
        if self._held:
            self._held.cancel()
        self._rest.clear()
        self.service.close()
        self._daemon.dismiss(self)

    # From the service

    write: Any

    def pause(self, reason: str) -> None:
        """Stop reading from the client, for one more reason."""
        if not self._pauses and not self._transport.is_closing():
            self._transport.pause_reading()
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        """Take a reason away; without any, read again."""
        if reason in self._pauses:
            self._pauses.remove(reason)
            if not self._pauses and not self._transport.is_closing():
                self._transport.resume_reading()

    def hold(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Handle nothing more from the client until some work is done."""
        self.pause("held")
        self._held = self._daemon.tasks.start(work, name)
        self._held.add_done_callback(self._release)

    def refuse(self, reason: str) -> None:
        """Close the connection of a client that does not keep to the protocol."""
        event(logging.WARNING, "client refused", reason=reason, **self.facts())
        self._transport.abort()

    def close(self) -> None:
        """Close the connection when what was written has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has gone while nothing is read from it, so that the loop does not see its end."""
        if not self._pauses or self._transport.is_closing():
            return False
        return has_hung_up(self._transport.get_extra_info("socket"))

    def facts(self) -> dict[str, object]:
        """Who this is, for the log."""
        peer = self.peer
        return {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid, "program": peer.program} if peer else {}

    # Inside

    def _release(self, task: asyncio.Task[None]) -> None:
        self._held = None
        if self._transport.is_closing():
            return
        if task.cancelled() or task.exception() is not None:
            self._transport.abort()
            return
        if self._rest:
            data = bytes(self._rest)
            self._rest.clear()
            self._frames(data)
        if not self._held:
            self.resume("held")

    def _frames(self, data: bytes) -> None:
        plain = self.service.plain
        bound = self._bound
        link = None
        at = start = 0
        end = len(data)
        self._need = HEADER_SIZE
        while end - at >= HEADER_SIZE:
            frame: Frame = _UNPACK(data, at)
            size = frame[0]
            stop = at + HEADER_SIZE + size
            if size > self._max_body:
                self.refuse(f"a body of {size} bytes is above the limit of {self._max_body}")
                return
            if stop > end:
                self._need = stop - at
                break
            other = bound.get(frame[4]) if frame[1] in plain and not frame[2] & _NEEDS_LOOK else None
            if other is not link:
                if link is not None and start < at:
                    link.write(data[start:at])
                start = at
                link = other
            if link is None:
                self._look(frame, data[at:stop])
                at = start = stop
                if self._held or self._transport.is_closing():
                    break
                plain = self.service.plain
                continue
            if link.in_flight.setdefault(frame[3], frame) is not frame:
                self.refuse("a request id is used twice at a time")
                return
            at = stop
        if link is not None and start < at:
            link.write(data if at - start == end else data[start:at])
        if at < end:
            self._rest += data[at:]

    def _look(self, frame: Frame, data: bytes) -> None:
        refusal = _refusal(frame)
        if refusal is None and frame[1] < FIRST_CONTROL_CALL:
            self.service.request(frame, data)
        elif not frame[2] & Flags.POSTED:
            reply = control.answer(self._daemon, self, frame) if refusal is None else reply_frame(frame, refusal)
            self.write(reply)


def _refusal(frame: Frame) -> RV | None:
    """Return why a request is refused whatever its body is; None if it is not."""
    _, number, flags, *_ = frame
    if flags & ~Flags.REQUEST_MASK:
        return RV.CKR_ARGUMENTS_BAD
    if number >= FIRST_CONTROL_CALL:
        return None
    call = call_numbered(number)
    if call is None or call.local:
        return RV.CKR_FUNCTION_NOT_SUPPORTED
    return RV.CKR_ARGUMENTS_BAD if flags & Flags.FUSED and not call.init else None
