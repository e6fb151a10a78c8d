"""The module hosts of a daemon, found in /proc as any process viewer would."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

__all__ = ["holding", "kill"]


def holding(daemon: int, library: str) -> list[int]:
    """Return the daemon's module hosts for a library.

    Their command line tells, since what they have mapped is hidden from other processes of the user.

    Args:
        daemon: process id of the daemon.
        library: file name of the vendor module.
    """
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The fourth field is the parent; the second, in parentheses, may itself hold spaces.
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            command = (directory / "cmdline").read_text()
            if parent == daemon and "keyway-host" in command and library in command:
                found.append(int(directory.name))
    return sorted(found)


def kill(host: int) -> None:
    """End a module host as a crash would: at once, with nothing cleaned up."""
    os.kill(host, signal.SIGKILL)
