"""The audit log as messages of syslog (RFC 5424) at the machine's own socket, where journald listens, too."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

__all__ = ["SyslogSink", "message"]

_PRIORITY: Final = 10 * 8 + 6
"""Facility authpriv, severity informational."""
_PATIENCE: Final = 1.0
"""Seconds that the receiver has before the sink is taken for full."""
_TIME: Final = re.compile(rb'"time":([0-9]+)')


def message(line: bytes, host: str, process: int) -> bytes:
    """Return a line of the audit log as a message of syslog (RFC 5424, section 6).

    Args:
        line: The line; its line end is left out.
        host: Name of the machine.
        process: Number of the process.
    """
    found = _TIME.search(line)
    seconds, nanoseconds = divmod(int(found[1]) if found else 0, 1_000_000_000)
    time = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    head = f"<{_PRIORITY}>1 {time}.{nanoseconds // 1000:06d}Z {host or '-'} keyway {process} audit - "
    return head.encode() + line.rstrip(b"\n")


class SyslogSink:
    """A datagram for each line. A receiver that comes back is found again."""

    name = "syslog"

    def __init__(self, path: Path) -> None:
        """Args: path: The socket, /dev/log."""
        self._path = str(path)
        self._host = socket.gethostname()[:255]
        self._socket: socket.socket | None = None

    def write(self, lines: Sequence[bytes]) -> int:
        """Take lines; see `Sink`."""
        taken = 0
        try:
            for line in lines:
                self._send(message(line, self._host, os.getpid()))
                taken += 1
        except OSError:
            self.close()
            if not taken:
                raise
        return taken

    def sync(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            opened.settimeout(_PATIENCE)
            try:
                opened.connect(self._path)
            except OSError:
                opened.close()
                raise
            self._socket = opened
        self._socket.send(data)
