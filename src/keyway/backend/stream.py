"""What a backend gives out: a byte stream that answers native frames, for one context, and what is at its other end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from keyway.backend.segment import Segment

__all__ = ["HungUp", "Source", "Stream", "StreamError"]


class StreamError(Exception):
    """A stream that could not be had. The text says why."""


class HungUp(StreamError):
    """The other end closed the stream instead of answering."""


class Stream(ABC):
    """A stream that is ready for C_Initialize.

    Attributes:
        kind: What is at the other end, in the log's words.
        name: The backend's name.
        transport: Takes and gives native frames. Whoever takes the stream sets its own protocol on it, which must call `note_lost`.
        ended: Done when the other end is gone and nothing of it is left here, with how it ended, as a predicate.
        segment: Memory that is shared with the other end; None if there is none.
        has_waited: Whether it was a spare. What is wrong with one may be long past, and says little about the next.
    """

    kind: ClassVar[str]

    def __init__(self, name: str) -> None:
        """Describe a stream without a transport. Needs a running loop.

        Args:
            name: The backend's name.
        """
        self.name = name
        self.transport: asyncio.Transport
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.segment: Segment | None = None
        self.has_waited = False
        self._why = ""

    @property
    def is_gone(self) -> bool:
        """Whether the other end has gone, or the stream is closed, which is often seen first."""
        return self.ended.done() or self.transport.is_closing()

    @property
    @abstractmethod
    def place(self) -> int | str:
        """Where the other end is: a process here by its number, anything else by its address."""

    @abstractmethod
    def note_lost(self, error: Exception | None) -> None:
        """Take note that the transport is closed.

        Args:
            error: Why; None if one of the two ends wanted it.
        """

    @abstractmethod
    def end(self, grace: float) -> None:
        """Close the stream, which tells the other end to end, and cut it off if it does not.

        Args:
            grace: Seconds until then.
        """

    def kill(self, why: str = "") -> None:
        """End it at once.

        Args:
            why: What it did wrong, for who asks how it ended.
        """
        self._why = self._why or why
        self._cut_off()

    @abstractmethod
    def _cut_off(self) -> None:
        """End it at once."""

    def _note_end(self, how: str) -> None:
        """Note that it has ended."""
        self.ended.set_result(f"{how} ({self._why})" if self._why else how)

    async def wait_ended(self, grace: float) -> str:
        """Wait until it has ended, killing it after a while, and return how it ended."""
        try:
            async with asyncio.timeout(grace):
                return await asyncio.shield(self.ended)
        except TimeoutError:
            self.kill("it did not end")
            return await self.ended


class Source(Protocol):
    """Where the streams of a backend come from.

    Attributes:
        kind: What is at the other ends, as in `Stream`.
    """

    kind: str

    async def bring(self) -> Stream:
        """Return a new stream, which belongs to the caller. Called once at a time.

        Raises:
            StreamError: It can't be had.
        """

    async def close(self) -> None:
        """End what serves all streams."""
