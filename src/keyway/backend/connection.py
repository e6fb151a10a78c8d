"""A connection to something elsewhere that answers."""

import asyncio
from collections.abc import Awaitable, Callable

from keyway.backend.greeting import Greeting, describe_error
from keyway.backend.stream import Stream

__all__ = ["Connection", "Dial", "connect"]

Dial = Callable[[Callable[[], asyncio.Protocol]], Awaitable[asyncio.Transport]]
"""Makes a connection with a protocol of its own. Raises StreamError."""
Describe = Callable[[Exception], str]


class Connection(Stream):
    """A connection."""

    kind = "connection"

    def __init__(
        self, name: str, address: str, transport: asyncio.Transport, describe: Describe = describe_error
    ) -> None:
        """Take charge of a connection.

        Args:
            name: The backend's name.
            address: Where the other end is, for people.
            transport: The connection itself.
            describe: Says in words why a connection broke.
        """
        super().__init__(name)
        self.transport = transport
        self._address = address
        self._describe = describe
        self._is_ending = False
        self._cut: asyncio.TimerHandle | None = None

    @property
    def place(self) -> str:
        """The address."""
        return self._address

    def note_lost(self, error: Exception | None) -> None:
        """Take note that the connection is closed."""
        if self.ended.done():
            return
        if self._cut is not None:
            self._cut.cancel()
        if error is not None:
            self._note_end(f"broke: {self._describe(error)}")
        else:
            self._note_end("was closed from here" if self._is_ending else "was closed by the other end")

    def end(self, grace: float) -> None:
        """Close the connection, and cut it off if the other end does not take what was sent."""
        self._is_ending = True
        self.transport.close()
        if not self.ended.done() and self._cut is None:
            self._cut = asyncio.get_running_loop().call_later(grace, self.kill)

    def _cut_off(self) -> None:
        self._is_ending = True
        self.transport.abort()


async def connect(
    name: str, address: str, dial: Dial, describe: Describe = describe_error
) -> tuple[Connection, Greeting]:
    """Connect, and return the stream with what waits for its first byte.

    Args:
        name: The backend's name.
        address: Where to, for people.
        dial: Connects.
        describe: Says in words why a connection broke.

    Raises:
        StreamError: Nobody is there.
    """
    greeting = Greeting()
    stream = Connection(name, address, await dial(lambda: greeting), describe)
    greeting.serve(stream)
    return stream, greeting
