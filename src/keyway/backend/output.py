"""What processes write to their standard output and error, line by line."""

import asyncio
import os
from collections.abc import Callable
from typing import Final

__all__ = ["OutputReader"]

MAX_LINE: Final = 4096
"""Bytes of one line; a module that never ends its line must not fill the memory."""


class OutputReader:
    """A pipe that processes write to.

    Attributes:
        descriptor: The end to give to them.
    """

    def __init__(self, take_line: Callable[[str], None]) -> None:
        """Open the pipe and read it in the running loop.

        Args:
            take_line: Called with each line, without its end.
        """
        self._take_line = take_line
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._reader, self.descriptor = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self._loop.add_reader(self._reader, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._reader, 65536)
        except BlockingIOError:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > MAX_LINE:
            lines.append(rest)
            rest = b""
        self._rest = rest
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        if text := line[:MAX_LINE].decode("utf-8", "replace").rstrip():
            self._take_line(text)

    def close(self) -> None:
        """Read what is left and close both ends."""
        self._read()
        self._take(self._rest)
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        os.close(self.descriptor)
