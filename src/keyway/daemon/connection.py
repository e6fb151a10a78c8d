"""A client's connection, whatever protocol it speaks: who it is, when it is read from, how it ends."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from keyway.daemon.service import Service
from keyway.observe.log import event
from keyway.transport.errors import GssError
from keyway.transport.peer import has_hung_up

if TYPE_CHECKING:
    from keyway.config import EntranceOptions
    from keyway.daemon.server import Daemon
    from keyway.daemon.view import View
    from keyway.gateway.shares import Share
    from keyway.transport.peer import Peer

__all__ = ["FIRST_BODY", "LOOK", "Connection", "Entrance"]

LOOK: Final = 4
"""As how many requests of a turn one counts that is looked at, or answered here: it costs about as much."""

FIRST_BODY: Final = 65_536
"""Bytes of a body that are waited for while there is no context: whoever has not begun keeps no memory busy."""


class Entrance(Protocol):
    """Where a connection came in.

    Attributes:
        name: Its name in the configuration.
        view: What clients see that come in here.
        contexts: How many contexts they may have at a time; 0 for no limit but that for all.
        is_offer: Whether this gateway has connected to another one there, and clients come that way.
    """

    name: str
    view: View
    contexts: int
    is_offer: bool

    @property
    def options(self) -> EntranceOptions:
        """Its section of the configuration."""


class Connection(asyncio.Protocol):
    """What the connections of all protocols have in common.

    While a request has to wait (a host is being started), the connection is *held*: nothing behind it is handled, so order is kept.
    A client that has sent many requests *gives way*: some of them are handled in each turn of the loop, so that others need not wait for all. How many,
    it shares with all connections of its identity.

    Attributes:
        peer: Who connected; None until the connection is made.
        service: What answers the native frames that the client's requests are, or become.
        share: What its identity has of the turns.
        since: When it connected, in seconds of the loop's clock.
        held: The work that is waited for; None if there is none.
        is_giving_way: Whether what was received waits for the next turn of the loop.
        looked: How many requests were looked at so far. A client without sessions has no others.
        entrance: Where it came in.
    """

    transport: asyncio.Transport
    share: Share[Connection]
    write: Any
    """Takes whole native reply frames. An attribute, since a call more would be felt on the way of every reply."""

    def __init__(self, daemon: Daemon, entrance: Entrance) -> None:
        self.peer: Peer | None = None
        self.since = 0.0
        self.held: asyncio.Task[None] | None = None
        self.is_giving_way = False
        self.looked = 0
        self.daemon = daemon
        self.entrance = entrance
        self._pauses: set[str] = set()
        self.service = Service(daemon, self, entrance.view)

    # From the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.since = self.daemon.now()
        self.transport.set_write_buffer_limits(high=self.daemon.config.limits.write_buffer)
        self.peer = self.daemon.admit(self, self.transport)
        if self.peer is None:
            self.transport.abort()
        else:
            self.share = self.daemon.shares.enter(self.daemon.gate.name_of(self.peer, self.entrance))

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
        if isinstance(exc, GssError):
            event(logging.WARNING, "connection broken", reason=str(exc), **self.facts())
        if self.held:
            self.held.cancel()
        self.forget()
        self.service.close()
        if self.peer is not None:
            self.daemon.shares.leave(self.share)
        self.daemon.dismiss(self)

    # From the service

    def pause(self, reason: str) -> None:
        """Stop reading from the client, for one more reason."""
        if not self._pauses and not self.transport.is_closing():
            self.transport.pause_reading()
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        """Take a reason away; without any, read again."""
        if reason in self._pauses:
            self._pauses.remove(reason)
            if not self._pauses and not self.transport.is_closing():
                self.transport.resume_reading()

    def hold(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Handle nothing more from the client until some work is done."""
        self.pause("held")
        self.held = self.daemon.tasks.start(work, name)
        self.held.add_done_callback(self._release)

    def refuse(self, reason: str) -> None:
        """Close the connection of a client that does not keep to the protocol."""
        event(logging.WARNING, "client refused", reason=reason, **self.facts())
        self.transport.abort()

    def close(self) -> None:
        """Close the connection when what was written has been sent."""
        self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has gone while nothing is read from it, so that the loop does not see its end."""
        if not self._pauses or self.transport.is_closing():
            return False
        connection = self.transport.get_extra_info("socket")
        return connection is not None and has_hung_up(connection)

    @property
    def has_begun(self) -> bool:
        """Whether there is a context, or one is being opened."""
        return self.service.binding is not None or self.held is not None

    def facts(self) -> dict[str, object]:
        """Who this is, for the log."""
        return self.peer.facts() if self.peer else {}

    def backend_lost(self) -> None:
        """Take note that a backend of the client has ended, and with it sessions and logins."""

    def write_apart(self, header: bytes, body: bytes | memoryview) -> None:
        """Send a native reply frame in two pieces."""
        self.write(header + body)

    # From the protocols

    @abstractmethod
    def go_on(self) -> None:
        """Handle what was received and not handled."""

    @abstractmethod
    def forget(self) -> None:
        """Drop what was received and not handled."""

    # From the daemon

    def next_turn(self) -> None:
        """Go on after giving way."""
        self.is_giving_way = False
        if not self.held and not self.transport.is_closing():
            self.go_on()
        if not self.is_giving_way:
            self.resume("turn")

    # Inside

    def give_way(self) -> None:
        """Handle the rest of what was received when it is the turn of this client again, and read no more until then."""
        if not self.is_giving_way:
            self.is_giving_way = True
            self.pause("turn")
            self.daemon.shares.wait(self.share, self)

    def _release(self, task: asyncio.Task[None]) -> None:
        self.held = None
        if self.transport.is_closing():
            return
        if task.cancelled() or task.exception() is not None:
            self.transport.abort()
            return
        self.go_on()
        if not self.held:
            self.resume("held")
