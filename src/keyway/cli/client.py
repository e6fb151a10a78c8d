"""A small blocking client of the native wire, for commands that look into a gateway."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from keyway.cryptoki import RV, CkError, Target, Value, call_named
from keyway.wire.codec import decode_reply, encode_request
from keyway.wire.frames import FrameBuffer, pack
from keyway.wire.header import VERSION_BYTE, Header

__all__ = ["Client"]


class Client:
    """Calls one after another over a connection of its own; a context manager that closes it."""

    def __init__(self, path: Path, timeout: float) -> None:
        """Connect.

        Args:
            path: The daemon's socket.
            timeout: Seconds that connecting and each call may take.

        Raises:
            OSError: No daemon is there.
        """
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._frames = FrameBuffer()
        self._last_id = 0
        try:
            self._socket.connect(str(path))
            self._socket.sendall(bytes([VERSION_BYTE]))
            if self._socket.recv(1) != bytes([VERSION_BYTE]):
                raise ConnectionError("the daemon speaks another version of the wire")
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, name: str, *values: Value, target: int = 0) -> tuple[Value, ...]:
        """Make a call and return the reply's values.

        Args:
            name: The function.
            values: A value for each argument that a request has.
            target: The session or slot.

        Raises:
            CkError: The RV is not CKR_OK.
            OSError: The connection broke.
        """
        row = call_named(name)
        assert target == 0 or row.target is not Target.NONE
        number, body = encode_request(row, values)
        rv, reply = self.exchange(row.number, body, target, number)
        if rv != RV.CKR_OK:
            raise CkError(rv, name)
        return decode_reply(row, reply)

    def exchange(self, number: int, body: bytes = b"", target: int = 0, object_: int = 0) -> tuple[int, bytes]:
        """Send a request and return RV and body of its reply.

        Raises:
            OSError: The connection broke.
        """
        for reply in self.follow(number, body, target, object_):
            return reply
        raise ConnectionError("the daemon closed the connection")

    def follow(self, number: int, body: bytes = b"", target: int = 0, object_: int = 0) -> Iterator[tuple[int, bytes]]:
        """Send a request and return RV and body of each of its replies, until the daemon closes the connection.

        Raises:
            OSError: The connection broke.
        """
        self._last_id += 1
        self._socket.sendall(pack(Header(0, number, 0, self._last_id, target, object_), body))
        while data := self._socket.recv(65536):
            for frame in self._frames.feed(data):
                yield frame.header.rv, frame.body

    def wait_for_ever(self) -> None:
        """Wait without limit from now on."""
        self._socket.settimeout(None)
