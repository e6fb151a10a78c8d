"""Stand between a client and its server and deliver everything late, as a network would.

A chunk that arrives at a moment leaves so much later, in each direction, and chunks behind it do not wait for it to leave: time is added to
every way, and nothing to the throughput. What the proxy itself costs comes on top; `round_trip` measures the sum.

    python bench/delay.py 1.0 /tmp/late.sock /run/keyway/keyway.sock       # 1 ms each way
    python bench/delay.py 1.0 127.0.0.1:7000 127.0.0.1:5658

Endpoints are paths of unix sockets, or host:port. Port 0 takes a free one; where the proxy listens is the first line of its output.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

__all__ = ["Way", "connect", "delayed", "direct_round_trip", "late_round_trip"]

CHUNK: Final = 262_144
PR_SET_TIMERSLACK: Final = 29
PINGS: Final = 300
PING: Final = b"p" * 100  # about a request for a signature
SETTLE: Final = 50  # pings that are made before those that count


def _address(endpoint: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    if endpoint.startswith("/"):
        return socket.AF_UNIX, endpoint
    host, _, port = endpoint.rpartition(":")
    return socket.AF_INET, (host, int(port))


def connect(endpoint: str) -> socket.socket:
    """Connect to a path or host:port."""
    family, address = _address(endpoint)
    stream = socket.socket(family)
    stream.connect(address)
    _at_once(stream)
    return stream


def _listen(endpoint: str) -> tuple[socket.socket, str]:
    family, address = _address(endpoint)
    listener = socket.socket(family)
    if family == socket.AF_INET:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(128)
    name = listener.getsockname()
    return listener, name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def _at_once(stream: socket.socket) -> None:
    if stream.family == socket.AF_INET:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Way:
    """One direction of a connection: what was received and when it is to leave."""

    def __init__(self, source: socket.socket, sink: socket.socket, delay: float) -> None:
        self.source = source
        self.sink = sink
        self.is_open = True
        self._delay = delay
        self._waiting: deque[tuple[float, bytes]] = deque()

    @property
    def due(self) -> float | None:
        """When something is to leave; None while nothing waits."""
        return self._waiting[0][0] if self._waiting else None

    def receive(self) -> None:
        """Take what has come; an end is delivered late, too."""
        try:
            data = self.source.recv(CHUNK)
        except OSError:
            data = b""
        self.is_open = bool(data)
        self._waiting.append((time.monotonic() + self._delay, data))

    def deliver(self, now: float) -> None:
        """Send what is due."""
        while self._waiting and self._waiting[0][0] <= now:
            _, data = self._waiting.popleft()
            with contextlib.suppress(OSError):
                if data:
                    self.sink.sendall(data)
                else:
                    self.sink.shutdown(socket.SHUT_WR)


def serve(listener: socket.socket, target: str, delay: float) -> None:
    """Relay connections for ever, in one thread: several would wait for one another.

    Args:
        listener: Where clients connect.
        target: The server.
        delay: Seconds that each chunk is held back.
    """
    # The system wakes sleepers up to 50 us late unless told otherwise.
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    ways: list[Way] = []
    while True:
        now = time.monotonic()
        for way in ways:
            way.deliver(now)
        dues = [way.due for way in ways]
        for one, other in zip(ways[::2], ways[1::2], strict=True):
            if not one.is_open and not other.is_open and one.due is None and other.due is None:
                ways = [way for way in ways if way not in (one, other)]
                one.source.close()
                one.sink.close()
        next_due = min((due for due in dues if due is not None), default=None)
        timeout = None if next_due is None else max(0.0, next_due - time.monotonic())
        # Not epoll, whose timeout is in whole milliseconds.
        readable, _, _ = select.select([listener, *(way.source for way in ways if way.is_open)], (), (), timeout)
        for way in ways:
            if way.source in readable:
                way.receive()
        if listener in readable:
            client, _ = listener.accept()
            _at_once(client)
            try:
                server = connect(target)
            except OSError:
                client.close()
                continue
            ways += [Way(client, server, delay), Way(server, client, delay)]


@contextlib.contextmanager
def delayed(milliseconds: float, target: str, listen: str = "127.0.0.1:0") -> Iterator[str]:
    """Run the proxy in a process of its own.

    Args:
        milliseconds: By which each direction is late.
        target: The server.
        listen: Where clients connect.

    Yields:
        Where it listens.
    """
    command = [sys.executable, __file__, str(milliseconds), listen, target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not (endpoint := process.stdout.readline().strip()):
                raise RuntimeError("the delay proxy did not start")
            yield endpoint
        finally:
            process.kill()
            if listen.startswith("/"):
                Path(listen).unlink(missing_ok=True)


@contextlib.contextmanager
def _echo(endpoint: str) -> Iterator[str]:
    listener, name = _listen(endpoint)

    def answer() -> None:
        with listener, contextlib.suppress(OSError):
            client, _ = listener.accept()
            _at_once(client)
            with client:
                while data := client.recv(CHUNK):
                    client.sendall(data)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        if endpoint.startswith("/"):
            Path(endpoint).unlink()


def _ping(endpoint: str) -> float:
    times = []
    with connect(endpoint) as stream:
        for _ in range(SETTLE + PINGS):
            start = time.monotonic()
            stream.sendall(PING)
            stream.recv(len(PING), socket.MSG_WAITALL)
            times.append(time.monotonic() - start)
    return median(times[SETTLE:]) * 1e6


def direct_round_trip(echo: str = "127.0.0.1:0") -> float:
    """Return the microseconds that a small message takes to an echo and back: the median."""
    with _echo(echo) as name:
        return _ping(name)


def late_round_trip(milliseconds: float, echo: str = "127.0.0.1:0", listen: str = "127.0.0.1:0") -> float:
    """Return the same through the proxy.

    Args:
        milliseconds: By which each direction is late; 0 measures what the proxy itself costs.
        echo: Where the echo listens.
        listen: Where the proxy listens.
    """
    with _echo(echo) as name, delayed(milliseconds, name, listen) as endpoint:
        return _ping(endpoint)


def main() -> int:
    """Relay until killed."""
    if len(sys.argv) != 4:
        print("usage: delay.py MILLISECONDS LISTEN TARGET", file=sys.stderr)
        return 2
    listener, name = _listen(sys.argv[2])
    print(name, flush=True)
    serve(listener, sys.argv[3], float(sys.argv[1]) / 1000)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
