"""Trying a backend without a client, to know whether it is back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyway.daemon.backend import Backend, BackendError
from keyway.daemon.link import Link

if TYPE_CHECKING:
    from keyway.daemon.link import Frame, Tracked

__all__ = ["try_backend"]

ENDING: Final = 1.0
"""Seconds that what was tried has to end."""


async def try_backend(backend: Backend) -> None:
    """Initialise one stream of a backend and end it again. How that went is in the backend's status.

    Args:
        backend: The backend; while its streams fail it makes pauses between them, and this is over at once.
    """
    try:
        link = Link(await backend.stream(), _Nobody())
    except BackendError:
        return  # Reported where it happened.
    try:
        await backend.initialise(link)
    except BackendError:
        pass  # A module that refuses answers, and so is there.
    finally:
        link.ending = True
        link.host.end(ENDING)


class _Nobody:
    """Owns a link over which only the daemon calls."""

    def write(self, data: bytes) -> None:
        pass

    def write_apart(self, header: bytes, body: bytes | memoryview) -> None:
        pass

    def tracked_reply(self, link: Link, tracked: Tracked, frame: Frame, body: bytes) -> None:
        pass

    def link_lost(self, link: Link, unanswered: list[Frame], tracked: list[Tracked]) -> None:
        pass

    def host_told_news(self, link: Link) -> None:
        pass

    def host_busy(self, link: Link, busy: bool) -> None:
        pass
