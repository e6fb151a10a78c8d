"""Count the frames of a protocol by standing between a client and its server.

Two protocols are known, each by the shape of its header only: the native wire (docs/wire.md) and the RPC protocol of
p11-kit. A relay slows everything down, so counting runs are never timed.

    python bench/count_frames.py native /run/keyway.sock /tmp/counted.sock
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FRAMINGS", "Counts", "FrameScanner", "Framing", "counting"]

CHUNK = 65536


@dataclass(frozen=True)
class Framing:
    """Where a frame header keeps the lengths that follow it.

    Attributes:
        preamble: Bytes that each side sends before its first frame.
        header: Header length in bytes.
        lengths: Offsets in the header of the u32 lengths that add up to what follows the header.
    """

    preamble: int
    header: int
    lengths: tuple[int, ...]


FRAMINGS = {
    "native": Framing(preamble=1, header=32, lengths=(0,)),
    "p11-kit": Framing(preamble=1, header=12, lengths=(4, 8)),
}


class FrameScanner:
    """Counts the frames in one direction of one connection, however the bytes are cut."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._skip = framing.preamble
        self._header = bytearray()
        self.frames = 0

    def feed(self, data: bytes) -> int:
        """Take the next bytes and return how many frame headers they completed."""
        before = self.frames
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            else:
                step = min(self._framing.header - len(self._header), len(data) - at)
                self._header += data[at : at + step]
                if len(self._header) == self._framing.header:
                    self.frames += 1
                    self._skip = sum(struct.unpack_from(">I", self._header, o)[0] for o in self._framing.lengths)
                    self._header.clear()
            at += step
        return self.frames - before


@dataclass
class Counts:
    """What passed the relay so far. A round trip is a request that was answered."""

    requests: int = 0
    replies: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, requests: int = 0, replies: int = 0) -> None:
        """Add frames seen by one direction of one connection."""
        with self._lock:
            self.requests += requests
            self.replies += replies


def _pump(source: socket.socket, sink: socket.socket, scanner: FrameScanner, counts: Counts, *, replies: bool) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            seen = scanner.feed(data)
            counts.add(**{"replies" if replies else "requests": seen})
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _relay(client: socket.socket, server: Path, framing: Framing, counts: Counts) -> None:
    with client, socket.socket(socket.AF_UNIX) as upstream:
        try:
            upstream.connect(str(server))
        except OSError:
            return
        back = threading.Thread(
            target=_pump,
            args=(upstream, client, FrameScanner(framing), counts),
            kwargs={"replies": True},
            daemon=True,
        )
        back.start()
        _pump(client, upstream, FrameScanner(framing), counts, replies=False)
        back.join()


def _serve(listener: socket.socket, server: Path, framing: Framing, counts: Counts) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        relay = (client, server, framing, counts)
        threading.Thread(target=_relay, args=relay, daemon=True).start()


@contextlib.contextmanager
def counting(protocol: str, server: Path, listen: Path) -> Iterator[Counts]:
    """Relay connections from `listen` to `server` and count frames while the context is open.

    Args:
        protocol: A key of FRAMINGS.
        server: Unix socket of the real server.
        listen: Unix socket to create for clients; removed at the end.

    Raises:
        OSError: `listen` can't be created.
    """
    counts = Counts()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(listen))
        listener.listen(128)
        thread = threading.Thread(target=_serve, args=(listener, server, FRAMINGS[protocol], counts), daemon=True)
        thread.start()
        try:
            yield counts
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            listen.unlink()


def main() -> int:
    """Count until standard input ends, then print what was counted as JSON."""
    if len(sys.argv) != 4 or sys.argv[1] not in FRAMINGS:
        print("usage: count_frames.py native|p11-kit SERVER_SOCKET LISTEN_SOCKET", file=sys.stderr)
        return 2
    with counting(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])) as counts:
        sys.stdin.read()
    print(json.dumps({"requests": counts.requests, "replies": counts.replies}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
