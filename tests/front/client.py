"""A client of p11-kit's protocol that does what it is told, also what no good client does."""

import socket
from pathlib import Path
from typing import Any, Self

from keyway.cryptoki import Null, Numbers, Room, TokenInfo, call_named, stripped
from keyway.cryptoki.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_USER
from keyway.p11kit import Frame, FrameBuffer, Reply, Request, accept, decode_reply, encode_request, pack

TIMEOUT = 20.0
OPEN = CKF_SERIAL_SESSION | CKF_RW_SESSION


class MessageClient:
    """One connection. Closed at the end of its `with` block."""

    def __init__(self, path: Path, version: int = 2, greet: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(path))
        self.dialect = accept(version)
        self.frames = FrameBuffer()
        self._ready: list[Frame] = []
        self._code = 0x0F
        if greet:
            self.socket.sendall(bytes([version]))
            assert self.socket.recv(1) == bytes([min(version, 2)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, body: bytes, options: bytes = b"client") -> int:
        """Send a message and return its code."""
        self._code += 1
        self.socket.sendall(pack(Frame(self._code, body, options)))
        return self._code

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
            self._ready += self.frames.feed(data)
        return self._ready.pop(0)

    def is_closed(self) -> bool:
        """Wait until the daemon closes the connection, whatever it sends before."""
        try:
            while True:
                self.receive()
        except EOFError:
            return True

    def exchange(self, body: bytes) -> bytes:
        """Send a message and return the one that answers it."""
        code = self.send(body)
        frame = self.receive()
        assert frame.code == code
        assert frame.options == b""
        return frame.body

    def message(self, name: str, *values: Any, target: int = 0) -> bytes:
        """Return the message of a call."""
        return encode_request(self.dialect, call_named(name), target, values)

    def call(self, name: str, *values: Any, target: int = 0) -> Reply:
        """Make a call."""
        body = self.exchange(self.message(name, *values, target=target))
        return decode_reply(self.dialect, Request(call_named(name), target, values), body)

    def good(self, name: str, *values: Any, target: int = 0) -> Any:
        """Make a call that succeeds, and return its values."""
        reply = self.call(name, *values, target=target)
        assert reply.rv == 0, f"{name}: {reply.rv:#x}"
        return reply.values

    def initialize(self) -> None:
        self.good("C_Initialize", 0, Null(), b"")

    def slots(self) -> tuple[int, ...]:
        """Return the slots with a token, after a look for new ones."""
        self.good("C_GetSlotList", 1, Room(0, False))
        (listed,) = self.good("C_GetSlotList", 1, Room(64, True))
        assert isinstance(listed, Numbers)
        return listed.data or ()

    def slot_of(self, label: str) -> int:
        return next(slot for slot in self.slots() if self.label_of(slot) == label)

    def label_of(self, slot: int) -> str:
        return stripped(self.token_of(slot).label).decode()

    def token_of(self, slot: int) -> TokenInfo:
        (token,) = self.good("C_GetTokenInfo", True, target=slot)
        assert isinstance(token, TokenInfo)
        return token

    def open(self, slot: int, flags: int = OPEN) -> int:
        """Open a session and return the handle that the server chose."""
        reply = self.call("C_OpenSession", flags, 0, target=slot)
        assert reply.rv == 0, f"{reply.rv:#x}"
        return reply.session

    def start(self, label: str = "demo") -> int:
        """Initialize, and return a session of a token."""
        self.initialize()
        return self.open(self.slot_of(label))

    def login(self, session: int, pin: str) -> None:
        self.good("C_Login", CKU_USER, pin.encode(), target=session)
