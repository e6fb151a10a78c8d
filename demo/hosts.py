"""The module hosts of a daemon, found in /proc as any process viewer would."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

__all__ = ["holding", "kill"]


def holding(daemon: int, library: str) -> list[int]:
    """Return the daemon's module hosts that have a library loaded.

    Args:
        daemon: process id of the daemon.
        library: file name of the vendor module.
    """
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The fourth field is the parent; the second, in parentheses, may itself hold spaces.
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == daemon and library in (directory / "maps").read_text():
                found.append(int(directory.name))
    return sorted(found)


def kill(host: int) -> None:
    """End a module host as a crash would: at once, with nothing cleaned up."""
    os.kill(host, signal.SIGKILL)
