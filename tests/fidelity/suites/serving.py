"""A TLS server that a suite starts for its clients, on loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

LISTEN_SECONDS = 20


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    command: Sequence[str], port: int, directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Runs a server until the block ends; inside the block it accepts connections, if it ever does.

    A server that does not come up is no error here: its clients will say so.
    """
    with (directory / f"server-{port}.log").open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + LISTEN_SECONDS
            while server.poll() is None and time.monotonic() < deadline and not _accepts(port):
                time.sleep(0.02)
            yield
        finally:
            server.kill()
            server.wait()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
