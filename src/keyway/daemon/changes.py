"""News of changed objects, for contexts that read ahead (docs/wire.md, section 7).

While somebody does, a call that changes objects does not take the short way, and the others learn of it before its caller does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from keyway.cryptoki import CALLS, Effect
from keyway.gateway.routes import PLAIN_WITH_OWN_SLOTS, PLAIN_WITH_VIRTUAL_SLOTS

__all__ = ["CHANGING", "Changes", "Reader"]

CHANGING: Final = frozenset(call.number for call in CALLS if call.effect in (Effect.OBJECTS, Effect.TOKEN))
"""Calls that change objects which other contexts may see."""

PATIENCE: Final = 0.1
"""Seconds that the caller waits for readers that do not read; by then what they have read ahead is too old to be used."""
PAUSE: Final = 0.002
"""Seconds between two looks at them."""


class Reader(Protocol):
    """A context that reads ahead."""

    def tell_news(self) -> None:
        """Send it the news that objects have changed."""

    @property
    def is_told(self) -> bool:
        """Whether all that was sent to it has left this process."""


class Changes:
    """Who reads ahead, by backend.

    Attributes:
        short_way: The calls that may take the short way at present, by whether slots are the module's own. Shared by all contexts.
    """

    def __init__(self) -> None:
        self.short_way: Final = {True: set(PLAIN_WITH_OWN_SLOTS), False: set(PLAIN_WITH_VIRTUAL_SLOTS)}
        self._readers: dict[str, set[Reader]] = {}

    def join(self, backend: str, reader: Reader) -> bool:
        """Note that a context reads ahead; return whether it is the first, so that changes in flight need a look."""
        first = not self._readers
        self._readers.setdefault(backend, set()).add(reader)
        if first:
            for calls in self.short_way.values():
                calls -= CHANGING
        return first

    def leave(self, reader: Reader) -> None:
        """Note that a context is over."""
        for backend, readers in list(self._readers.items()):
            readers.discard(reader)
            if not readers:
                del self._readers[backend]
        if not self._readers:
            self.short_way[True] |= PLAIN_WITH_OWN_SLOTS
            self.short_way[False] |= PLAIN_WITH_VIRTUAL_SLOTS

    def reads(self, backend: str, reader: Reader) -> bool:
        """Tell whether a context reads ahead."""
        return reader in self._readers.get(backend, ())

    def concern(self, backend: str, changer: Reader) -> bool:
        """Tell whether others read ahead from this backend."""
        readers = self._readers.get(backend)
        return bool(readers) and readers != {changer}

    def tell(self, backend: str, changer: Reader) -> list[Reader]:
        """Tell the others that something has changed. Return those whom the news has not reached yet."""
        others = self._readers.get(backend, set()) - {changer}
        for reader in others:
            reader.tell_news()
        return _waiting(others)

    @staticmethod
    async def told(readers: Iterable[Reader]) -> None:
        """Wait until the news has left for these, or they had their time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        # What was written leaves when the loop turns.
        pause = 0.0
        while (readers := _waiting(readers)) and loop.time() < deadline:
            await asyncio.sleep(pause)
            pause = PAUSE


def _waiting(readers: Iterable[Reader]) -> list[Reader]:
    return [reader for reader in readers if not reader.is_told]
