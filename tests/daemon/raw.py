"""A client of the native wire that does what it is told, also what no good client does."""

import socket
from pathlib import Path
from typing import Self

from keyway.cryptoki import Null, call_named
from keyway.wire.codec import decode_reply, encode_request
from keyway.wire.frames import Frame, FrameBuffer, pack
from keyway.wire.header import VERSION_BYTE, Header

TIMEOUT = 20.0


class RawClient:
    """One connection. Closed at the end of its `with` block."""

    def __init__(self, path: Path, greet: bool = True) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
        self._begin(connection, greet)

    @classmethod
    def over(cls, connection: socket.socket, greet: bool = True) -> Self:
        """Return a client on a connection that is there already."""
        client = cls.__new__(cls)
        client._begin(connection, greet)
        return client

    def _begin(self, connection: socket.socket, greet: bool) -> None:
        self.socket = connection
        self._frames = FrameBuffer()
        self._ready: list[Frame] = []
        self._last_id = 0
        if greet:
            try:
                self.socket.sendall(bytes([VERSION_BYTE]))
                answer = self.socket.recv(1)
                if not answer:
                    raise EOFError
                assert answer == bytes([VERSION_BYTE])
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, number, body=b"", *, target=0, object_=0, flags=0, id_=None) -> int:
        """Send a request frame and return its id."""
        self._last_id += 1
        id_ = self._last_id if id_ is None else id_
        self.socket.sendall(pack(Header(0, number, flags, id_, target, object_), body))
        return id_

    def send_call(self, name, *values, target=0, flags=0) -> int:
        """Send a call by name and return its id."""
        call = call_named(name)
        object_, body = encode_request(call, values)
        return self.send(call.number, body, target=target, object_=object_, flags=flags)

    def receive(self) -> Frame:
        """Return the next reply.

        Raises:
            EOFError: The daemon has closed the connection.
        """
        while not self._ready:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._ready += self._frames.feed(data)
        return self._ready.pop(0)

    def is_closed(self) -> bool:
        """Wait until the daemon closes the connection, whatever it sends before."""
        try:
            while True:
                self.receive()
        except EOFError:
            return True

    def call(self, name, *values, target=0):
        """Make a call and return its RV and values."""
        id_ = self.send_call(name, *values, target=target)
        frame = self.receive()
        assert frame.header.id == id_
        assert frame.header.is_reply
        assert frame.header.target == target
        return frame.header.rv, decode_reply(call_named(name), frame.body)

    def good(self, name, *values, target=0):
        """Make a call that succeeds and return its values."""
        rv, values = self.call(name, *values, target=target)
        assert rv == 0, f"{name}: {rv:#x}"
        return values

    def initialize(self) -> None:
        self.good("C_Initialize", 0, Null(), b"test")
