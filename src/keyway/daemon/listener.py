"""One place where clients connect."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyway.address import Address, Unix
from keyway.backend.connection import Connection as Stream
from keyway.backend.greeting import Greeting
from keyway.backend.offered import OfferedSource
from keyway.daemon.client import ClientConnection
from keyway.daemon.p11kit_client import P11KitConnection
from keyway.observe.log import event
from keyway.transport.connect import tune
from keyway.transport.descriptor import DescriptorTransport
from keyway.transport.errors import AddressError, TlsError
from keyway.transport.listen import bound_address, listen
from keyway.transport.peer import Peer, peer_of
from keyway.transport.tls import Credentials, describe_refusal

if TYPE_CHECKING:
    from keyway.config import ListenerOptions
    from keyway.daemon.connection import Connection
    from keyway.daemon.server import Daemon
    from keyway.daemon.view import View

__all__ = ["Listener"]

_PROTOCOLS: Final[Mapping[str, type[Connection]]] = {"keyway": ClientConnection, "p11-kit": P11KitConnection}

HANDSHAKES: Final = 64
"""TLS handshakes at a time; more clients wait to be accepted."""
ACCEPTED_AT_ONCE: Final = 16
PAUSE: Final = 1.0
"""Seconds without accepting when the system has nothing left for another connection."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Accepts connections.

    Attributes:
        name: Its name in the configuration; empty for that of [listen].
        options: Its section of the configuration.
        view: What clients see that connect here.
        address: Where it listens, with the port that was found if any would do.
    """

    def __init__(self, daemon: Daemon, name: str, options: ListenerOptions, view: View) -> None:
        """Describe the place; `start` opens it."""
        self.name = name
        self.options = options
        self.view = view
        self.address: Address = options.address
        self._daemon = daemon
        self._socket: socket.socket | None = None
        self._credentials: Credentials | None = None
        self._is_accepting = False
        self._handshakes = 0

    def start(self, given: Mapping[str, int]) -> None:
        """Listen.

        Args:
            given: Descriptors of the sockets that the service manager hands over, by name.

        Raises:
            AddressError: It can't be listened on.
        """
        options = self.options
        if options.certificate is not None:
            try:
                self._credentials = Credentials(
                    options, is_server=True, clients=options.client_certificates, report=self._report
                )
            except TlsError as error:
                raise AddressError(f"{options.address}: {error}") from error
        self._socket = listen(options.address, mode=options.mode, group=options.group, given=given)
        self.address = bound_address(options.address, self._socket)
        self._accept_more()
        event(logging.INFO, "listening", address=str(self.address), protocol=options.protocol)

    def close(self) -> None:
        """Take no more clients. Those that are there stay."""
        if self._socket is None:
            return
        self._accept_none()
        self._socket.close()
        self._socket = None
        if isinstance(self.address, Unix):
            Path(self.address.path).unlink(missing_ok=True)

    def _accept_more(self) -> None:
        if self._socket is not None and not self._is_accepting:
            self._is_accepting = True
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _accept_none(self) -> None:
        if self._socket is not None and self._is_accepting:
            self._is_accepting = False
            asyncio.get_running_loop().remove_reader(self._socket.fileno())

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                event(logging.ERROR, "no more connections", address=str(self.address), reason=os.strerror(error.errno))
                self._accept_none()
                asyncio.get_running_loop().call_later(PAUSE, self._accept_more)
                return
            connection.setblocking(False)
            self._daemon.tasks.start(self._welcome(connection), "new connection")
            if self._credentials is not None:
                self._handshakes += 1
                if self._handshakes >= HANDSHAKES:
                    self._accept_none()
                    return

    async def _welcome(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                tune(connection)
            await self._take(connection)
        except (OSError, ssl.SSLError, EOFError) as error:
            # With TLS 1.3 it is here that a client is refused, which learns of it only when it reads.
            self._log_refused(connection, describe_refusal(error))
            connection.close()
        finally:
            if self._credentials is not None:
                self._handshakes -= 1
                self._accept_more()

    async def _take(self, connection: socket.socket) -> None:
        if self.options.protocol == "offer":
            greeting = Greeting()
            self._keep(await self._accepted(connection, greeting), greeting)
        else:
            await self._accepted(connection, _PROTOCOLS[self.options.protocol](self._daemon, self))

    async def _accepted(self, connection: socket.socket, protocol: asyncio.Protocol) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        if connection.family == socket.AF_VSOCK:
            return DescriptorTransport.over_socket(connection, protocol)
        if self._credentials is None:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        else:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._credentials.context(),
                ssl_handshake_timeout=self._daemon.config.limits.greeting,
            )
        return transport

    def _keep(self, transport: asyncio.Transport, greeting: Greeting) -> None:
        """Give an offered stream to the backend that waits for it."""
        peer = peer_of(transport.get_extra_info("socket"), transport.get_extra_info("peercert") or {})
        for name, backend in self._daemon.backends.items():
            source = backend.source
            if isinstance(source, OfferedSource) and backend.options.offered in peer.names:
                stream = Stream(name, f"{peer.certificate} at {peer.address}", transport)
                greeting.serve(stream)
                if source.add(stream, greeting):
                    event(logging.INFO, "stream offered", listener=self.name, backend=name, **peer.facts())
                else:
                    self._refuse_offer(transport, peer, "enough streams wait already")
                return
        self._refuse_offer(transport, peer, f"no backend has offered = {' or '.join(peer.names) or 'its name'}")

    def _refuse_offer(self, transport: asyncio.Transport, peer: Peer, reason: str) -> None:
        event(logging.WARNING, "connection refused", listener=self.name, reason=reason, **peer.facts())
        transport.abort()

    def _log_refused(self, connection: socket.socket, reason: str) -> None:
        try:
            facts = peer_of(connection, {} if self._credentials else None).facts()
        except OSError:
            facts = {}
        event(logging.WARNING, "connection refused", listener=self.name, reason=reason, **facts)

    def _report(self, what: str) -> None:
        event(logging.WARNING, "TLS files changed", listener=self.name, what=what)
