"""A client with a ticket, that can also do what no good client does."""

import socket

from tests.daemon.harness import RunningDaemon
from tests.daemon.raw import TIMEOUT, RawClient

from keyway.transport.gss import Mechanism
from keyway.transport.kerberos import Initiator
from keyway.transport.pieces import MAX_PLAIN, MAX_RECORD, Pieces, piece

HOST = "localhost"


def port_of(daemon: RunningDaemon, scheme: str = "gss") -> int:
    """The port that it listens on, since its last start."""
    addresses = [entry["address"] for entry in daemon.events("listening")]
    return [int(each.rpartition(":")[2]) for each in addresses if each.startswith(scheme)][-1]


def plain(daemon: RunningDaemon) -> socket.socket:
    """A connection on which nothing was said."""
    return socket.create_connection(("127.0.0.1", port_of(daemon)), TIMEOUT)


def mechanism(service: str = "") -> Mechanism:
    return Initiator(service, HOST, None).begin()


def receive_piece(connection: socket.socket) -> bytes:
    """Return the next token; raises EOFError if there is none."""
    pieces = Pieces()
    while (taken := pieces.take()) is None:
        try:
            data = connection.recv(1)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        pieces.feed(data)
    return taken


def is_ended(connection: socket.socket) -> bool:
    """Wait until the other end closes the connection, whatever it sends before."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


class GssSocket(socket.socket):
    """A connected socket, as `RawClient` needs one, that seals.

    Attributes:
        mechanism: Seals.
    """

    def __init__(self, connection: socket.socket, end: Mechanism | None = None) -> None:
        """Shake hands."""
        super().__init__(fileno=connection.detach())
        self.settimeout(TIMEOUT)
        self.mechanism = end or mechanism()
        self._pieces = Pieces(MAX_RECORD)
        try:
            self.send_plain(piece(self.mechanism.step(b"")))
            while not self.mechanism.is_complete:
                if answer := self.mechanism.step(receive_piece(self)):
                    self.send_plain(piece(answer))
        except BaseException:
            self.close()
            raise

    def send_plain(self, data: bytes) -> None:
        """Send bytes as they are."""
        super().sendall(data)

    def sendall(self, data, flags=0):
        for at in range(0, len(data), MAX_PLAIN):
            self.send_plain(piece(self.mechanism.wrap(bytes(data[at : at + MAX_PLAIN]))))

    def recv(self, size, flags=0):
        if self.mechanism.is_complete:
            while (record := self._pieces.take()) is None:
                data = super().recv(65536)
                if not data:
                    return b""
                self._pieces.feed(data)
            return self.mechanism.unwrap(record)
        return super().recv(size)


def client(daemon: RunningDaemon) -> RawClient:
    """A client with the ticket that there is."""
    return RawClient.over(GssSocket(plain(daemon)))
