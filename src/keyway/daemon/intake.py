"""A large body on its way from a client straight into the memory that is shared with the host."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyway.backend.segment import Part
    from keyway.daemon.client import ClientConnection
    from keyway.daemon.link import Frame, Link

__all__ = ["Intake"]


class Intake(asyncio.BufferedProtocol):
    """Stands for a client's connection until one body is there. Everything else stays the connection's."""

    def __init__(self, connection: ClientConnection, link: Link, frame: Frame, part: Part, body: memoryview) -> None:
        """Take the beginning of a body.

        Args:
            connection: Gets the body, and the stream back.
            link: Where the call goes.
            frame: Its header.
            part: Where the body goes.
            body: What has come of it.
        """
        self._connection = connection
        self._link = link
        self._frame = frame
        self._part = part
        self._missing = part.view[len(body) : frame[0]]
        part.view[: len(body)] = body

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return self._missing

    def buffer_updated(self, nbytes: int) -> None:
        """Take note that they are there."""
        self._missing = self._missing[nbytes:]
        if not self._missing:
            self._connection.transport.set_protocol(self._connection)
            self._connection.taken(self._link, self._frame, self._part)

    def eof_received(self) -> bool | None:
        """Let the connection see that nothing more comes."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let it clean up."""
        self._link.loans.drop(self._part)
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Let it wait for the client."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Let it go on."""
        self._connection.resume_writing()
