"""The audit log on standard output."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence
from typing import Final

from keyway.observe.audit_sinks.sink import Stream

__all__ = ["StdoutSink"]

_PATIENCE: Final = 1000
"""Milliseconds that a reader has before the sink is taken for full."""


class StdoutSink:
    """Lines on a descriptor, standard output if none is given. A reader that is slow, or has gone, makes it full; nobody hangs."""

    name = "stdout"

    def __init__(self, descriptor: int = 1) -> None:
        """Args: descriptor: Where to write; it stays open."""
        self._descriptor = descriptor
        self._stream = _Patient()

    def write(self, lines: Sequence[bytes]) -> int:
        """Take lines; see `Sink`."""
        return self._stream.write(self._descriptor, lines)

    def sync(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Nothing is to be done."""


class _Patient(Stream):
    def _some(self, descriptor: int, data: bytes | memoryview) -> int:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not poll.poll(_PATIENCE):
            raise BlockingIOError(errno.EAGAIN, "nobody reads")
        # So much goes into a pipe that is ready, without waiting.
        return os.write(descriptor, data[: select.PIPE_BUF])
