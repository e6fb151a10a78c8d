"""What a sink is, and lines at a descriptor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

__all__ = ["Sink", "Stream"]


class Sink(Protocol):
    """Takes lines. All methods block, and are called by one thread at a time.

    Attributes:
        name: What the log calls it.
    """

    name: str

    def write(self, lines: Sequence[bytes]) -> int:
        """Take lines in order, as many as possible, and return how many.

        Raises:
            OSError: It can't take even the first.
        """

    def sync(self) -> None:
        """Return when what was taken will outlast the machine, as far as the sink is there for that.

        Raises:
            OSError: It failed.
        """

    def close(self) -> None:
        """Let go of it."""


class Stream:
    """Lines at a descriptor that may take a part of one: the rest of it comes first next time."""

    def __init__(self) -> None:
        self._rest = b""

    def finish(self, descriptor: int) -> None:
        """Write what is left of a line that was begun.

        Raises:
            OSError: It can't be written.
        """
        while self._rest:
            self._rest = self._rest[self._some(descriptor, self._rest) :]

    def write(self, descriptor: int, lines: Sequence[bytes]) -> int:
        """Write lines, as many as possible, and return how many; one of which a part is written counts.

        Raises:
            OSError: Not a byte can be written.
        """
        self.finish(descriptor)
        data = memoryview(b"".join(lines))
        done = 0
        try:
            while done < len(data):
                done += self._some(descriptor, data[done:])
        except OSError:
            if not done:
                raise
        taken = end = 0
        for line in lines:
            if end >= done:
                break
            end += len(line)
            taken += 1
        self._rest = bytes(data[done:end])
        return taken

    def begin(self, data: bytes) -> None:
        """Have something written before what comes next."""
        self._rest = data

    def _some(self, descriptor: int, data: bytes | memoryview) -> int:
        return os.write(descriptor, data)
