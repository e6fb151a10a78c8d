"""Keeps processes of one machine apart that change the same token.

The standard has nothing for that, so this is a lock on one of a few files beside the daemon's socket, which all of them know. The daemon makes them, since who
asks it may not be allowed to. It is as good as can be had, and no more: who can't open the file, and who is on another machine, is not kept apart.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from keyway.observe.log import event

__all__ = ["FILES", "Apart", "make_files"]

FILES: Final = 16
"""Files. Tokens that share one wait for each other, too."""

PATIENCE: Final = 60.0
"""Seconds after which nobody is waited for any more: a process that hangs, or whoever else holds the file, must not keep all from a token."""
FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.1


class Apart:
    """Locks by name, on the files of one directory. A process that ends lets go of its own."""

    def __init__(self, directory: Path) -> None:
        """Describe them.

        Args:
            directory: That of the daemon's socket.
        """
        self._directory = directory

    @asynccontextmanager
    async def hold(self, name: bytes) -> AsyncIterator[None]:
        """Let no other process that can open the file hold the same name meanwhile.

        Args:
            name: What is kept apart, such as label and serial number of a token. A digest of it says which file is locked.
        """
        file = _opened(self._directory, sha256(name).digest()[0] % FILES)
        if file is None:
            yield
            return
        try:
            if not await _locked(file):
                event(logging.WARNING, "token not locked", reason="another process has held it for long")
            yield
        finally:
            os.close(file)


def make_files(directory: Path) -> None:
    """Make the files, as far as they are not there and can be made. Empty ones; they stay."""
    for number in range(FILES):
        file = _opened(directory, number)
        if file is not None:
            os.close(file)


def _opened(directory: Path, number: int) -> int | None:
    path = directory / f".keyway-lock-{number:x}"
    # To lock a file it is enough to read it, and where it is nobody's own directory, making it may be refused though it is there.
    for flags in (os.O_CREAT, 0):
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o644)
        except OSError:
            continue
        # For other users to read, whatever the umask is. Its owner alone can see to that.
        with suppress(OSError):
            os.fchmod(file, 0o644)
        return file
    return None


async def _locked(file: int) -> bool:
    pause = FIRST_PAUSE
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    return True
    except TimeoutError:
        return False
