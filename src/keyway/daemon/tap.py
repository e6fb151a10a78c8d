"""Where the calls of one client are seen: its requests, and the replies to them.

A client without a tap pays nothing. One that has a tap loses the short way, so that its requests all come to `Service.request`; its
replies are seen where they are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from keyway.wire.header import HEADER, HEADER_SIZE

if TYPE_CHECKING:
    from keyway.daemon.connection import Connection
    from keyway.daemon.link import Frame

__all__ = ["Tap", "Watcher", "unwatch", "watch"]

_UNPACK: Final = HEADER.unpack_from


class Watcher(Protocol):
    """Who sees the calls of a client."""

    def request(self, frame: Frame, data: bytes) -> None:
        """See a request: its header, and the whole frame."""

    def reply(self, frame: Frame, body: memoryview) -> None:
        """See a reply, which is on its way already: its header and its body."""


class Tap:
    """Sees the calls of one client for those who watch.

    Attributes:
        watchers: Who watches, one at least.
    """

    def __init__(self, client: Connection) -> None:
        """Tap a client that is connected."""
        self.watchers: tuple[Watcher, ...] = ()
        self._client = client
        self._write = client.write
        client.write = self._replies
        client.service.tap = self
        client.service.set_short_way()

    def remove(self) -> None:
        """Let the client go its ways as before."""
        self._client.write = self._write
        self._client.service.tap = None
        self._client.service.set_short_way()

    def request(self, frame: Frame, data: bytes) -> None:
        """See a request.

        Args:
            frame: Its header.
            data: The whole frame.
        """
        for watcher in self.watchers:
            watcher.request(frame, data)

    def _replies(self, data: bytes) -> None:
        self._write(data)
        view = memoryview(data)
        at = 0
        while len(data) - at >= HEADER_SIZE:
            frame: Frame = _UNPACK(data, at)
            start = at + HEADER_SIZE
            at = start + frame[0]
            for watcher in self.watchers:
                watcher.reply(frame, view[start:at])


def watch(client: Connection, watcher: Watcher) -> None:
    """Show somebody the calls of a client from now on."""
    tap = client.service.tap or Tap(client)
    tap.watchers = (*tap.watchers, watcher)


def unwatch(client: Connection, watcher: Watcher) -> None:
    """Show the calls of a client no more. The last one who watched takes the tap away."""
    tap = client.service.tap
    if tap is not None:
        tap.watchers = tuple(each for each in tap.watchers if each is not watcher)
        if not tap.watchers:
            tap.remove()
