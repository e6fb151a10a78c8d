"""A relay in front of a real `p11-kit remote`, which can be told to misbehave."""

import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from keyway.p11kit import Frame, FrameBuffer, pack

TIMEOUT = 20.0


class Relay:
    """Listens on a unix socket, and runs a command for each connection.

    Attributes:
        offers: The first bytes of the connections so far.
        address: The address in p11-kit's form.
    """

    def __init__(
        self,
        path: Path,
        command: Sequence[str],
        environment: dict[str, str],
        *,
        greet: Callable[[bytes], bytes | None] = lambda offer: offer,
        answer: Callable[[bytes], bytes] = lambda answer: answer,
        altered: Callable[[Frame], bytes] = pack,
    ) -> None:
        """Listen.

        Args:
            path: Where.
            command: What answers.
            environment: Its environment.
            greet: Given the byte of a client, returns that for the server; None closes the connection.
            answer: Given the byte of the server, returns that for the client.
            altered: Given a frame of the server, returns what the client gets.
        """
        self.offers: list[bytes] = []
        self.address = f"unix:path={path}"
        self._command = command
        self._environment = environment
        self._greet = greet
        self._answer = answer
        self._altered = altered
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            _shut(each)
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        self._listener.close()

    def cut(self) -> None:
        """Close all connections."""
        for each in list(self._open):
            _shut(each)

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        with client, suppress(OSError):
            offer = client.recv(1)
            self.offers.append(offer)
            passed = self._greet(offer) if offer else None
            if passed is not None:
                self._run(client, passed)
        self._open.discard(client)

    def _run(self, client: socket.socket, offer: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            server = subprocess.Popen(
                self._command, stdin=theirs.fileno(), stdout=theirs.fileno(), env=self._environment
            )
        with ours:
            try:
                ours.sendall(offer)
                client.sendall(self._answer(ours.recv(1)))
                self._start(self._back, ours, client)
                while data := client.recv(65536):
                    ours.sendall(data)
            finally:
                _shut(ours)
                server.kill()
                server.wait()

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        frames = FrameBuffer()
        with suppress(OSError):
            while data := server.recv(65536):
                for frame in frames.feed(data):
                    client.sendall(self._altered(frame))
        _shut(client)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
