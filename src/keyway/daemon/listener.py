"""One place where clients connect."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyway.address import Address, Inherited, Tcp, Unix
from keyway.backend.connection import Connection as Stream
from keyway.backend.greeting import Greeting
from keyway.backend.offered import OfferedSource
from keyway.daemon.client import ClientConnection
from keyway.daemon.p11kit_client import P11KitConnection
from keyway.observe.log import event
from keyway.transport.accept import accept
from keyway.transport.errors import AcceptError, AddressError, KerberosError, TlsError
from keyway.transport.kerberos import Acceptor
from keyway.transport.listen import bound_address, listen
from keyway.transport.peer import Peer, address_text, peer_behind
from keyway.transport.tls import Credentials
from keyway.transport.unix import permit

if TYPE_CHECKING:
    from keyway.config import BackendOptions, ListenerOptions
    from keyway.daemon.connection import Connection
    from keyway.daemon.server import Daemon
    from keyway.daemon.view import View

__all__ = ["OWN", "Listener"]

OWN: Final = ""
"""The name of the listener of [listen]."""

_PROTOCOLS: Final[Mapping[str, type[Connection]]] = {"keyway": ClientConnection, "p11-kit": P11KitConnection}

_TRANSPORTS: Final = {socket.AF_UNIX: "unix", socket.AF_VSOCK: "vsock"}

HANDSHAKES: Final = 64
"""Connections at a time whose handshake is not done. Beyond it the oldest one goes: whoever is silent keeps nobody out."""
ACCEPTED_AT_ONCE: Final = 16
PAUSE: Final = 1.0
"""Seconds without accepting when the system has nothing left for another connection."""
_ITS_OWN: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)
"""What accept(2) tells of a connection that is gone already, or that a firewall forbids. The next one may be good."""


class Listener:
    """Accepts connections.

    Attributes:
        name: Its name in the configuration; empty for that of [listen].
        options: Its section of the configuration.
        view: What clients see that connect here.
        contexts: How many contexts they may have at a time; 0 for no limit but that for all.
        is_offer: That it is none.
        address: Where it listens, with the port that was found if any would do.
    """

    is_offer = False

    def __init__(self, daemon: Daemon, name: str, options: ListenerOptions, view: View) -> None:
        """Describe the place; `start` opens it."""
        self.name = name
        self.options = options
        self.view = view
        self.contexts = options.contexts
        self.address: Address = options.address
        self._daemon = daemon
        self._socket: socket.socket | None = None
        self._credentials: Credentials | None = None
        self._kerberos: Acceptor | None = None
        self._is_short = False
        self._handshakes: dict[asyncio.Task[None], Peer] = {}

    def start(self, given: Mapping[str, int]) -> None:
        """Listen.

        Args:
            given: Descriptors of the sockets that the service manager hands over, by name.

        Raises:
            AddressError: It can't be listened on.
        """
        options = self.options
        self._credentials = self._new_credentials(options)
        self._kerberos = self._new_kerberos(options)
        self._socket = listen(options.address, mode=options.mode, group=options.group, given=given)
        try:
            _check_inherited(self._socket, options)
        except AddressError:
            self._socket.close()
            self._socket = None
            raise
        self.address = bound_address(options.address, self._socket)
        self._accept_more()
        event(logging.INFO, "listening", address=str(self.address), protocol=options.protocol)

    def prepare(self, name: str, options: ListenerOptions) -> Callable[[], None]:
        """Return what lets the listener go by another section. Its socket stays, with the permissions that the section says from now on.

        Args:
            name: Its name from then on.
            options: The section of the configuration to go by, with the same address.

        Raises:
            AddressError: It can't be done.
        """
        credentials = self._new_credentials(options)
        kerberos = self._new_kerberos(options)
        assert self._socket is not None
        _check_inherited(self._socket, options)
        before = self.options
        if isinstance(self.address, Unix) and (options.mode, options.group) != (before.mode, before.group):
            permit(Path(self.address.path), options.mode, None if options.group == before.group else options.group)

        def change() -> None:
            self.name = name
            self.options = options
            self.contexts = options.contexts
            self._credentials = credentials
            self._kerberos = kerberos

        return change

    def close(self) -> None:
        """Take no more clients. Those that are there stay."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        for handshake in self._handshakes:
            handshake.cancel()
        if isinstance(self.address, Unix):
            Path(self.address.path).unlink(missing_ok=True)

    def connect_from_here(self) -> socket.socket:
        """Return the client's end of a connection of this process to itself. Its other end came in here, also when nobody can connect any more."""
        near, far = socket.socketpair()
        for end in (near, far):
            end.setblocking(False)
        self._welcome(far, "")
        return near

    def _new_credentials(self, options: ListenerOptions) -> Credentials | None:
        if options.certificate is None:
            return None
        try:
            return Credentials(options, is_server=True, clients=options.client_certificates, report=self._report)
        except TlsError as error:
            raise AddressError(f"{options.address}: {error}") from error

    def _new_kerberos(self, options: ListenerOptions) -> Acceptor | None:
        if not options.speaks_kerberos:
            return None
        try:
            return Acceptor(options.service, options.keytab)
        except KerberosError as error:
            raise AddressError(f"{options.address}: {error}") from error

    # Accepting

    def _accept_more(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, where = self._socket.accept()
            except BlockingIOError:
                self._is_short = False
                return
            except OSError as error:
                if error.errno in _ITS_OWN:
                    continue
                self._rest(error)
                return
            connection.setblocking(False)
            self._welcome(connection, address_text(where))

    def _rest(self, error: OSError) -> None:
        """Accept nothing for a while: there is no descriptor left, or no memory."""
        assert self._socket is not None
        if not self._is_short:
            self._is_short = True
            reason = os.strerror(error.errno or errno.EIO)
            event(logging.ERROR, "no more connections", address=str(self.address), reason=reason)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.call_later(PAUSE, self._accept_more)

    def _welcome(self, connection: socket.socket, where: str) -> None:
        shakes_hands = self._credentials is not None or self._kerberos is not None
        plain = _TRANSPORTS.get(connection.family, "tcp" if self._kerberos is None else "gss")
        peer = Peer(transport=plain if self._credentials is None else "tls", address=where)
        if shakes_hands and len(self._handshakes) >= HANDSHAKES:
            oldest = next(iter(self._handshakes))
            self._refuse(self._handshakes.pop(oldest), "too many handshakes at a time, and this one is the oldest")
            oldest.cancel()
        task = self._daemon.tasks.start(self._take(connection, peer), "new connection")
        if shakes_hands:
            self._handshakes[task] = peer
            task.add_done_callback(lambda task: self._handshakes.pop(task, None))

    async def _take(self, connection: socket.socket, peer: Peer) -> None:
        greeting = Greeting() if self.options.protocol == "offer" else None
        protocol = greeting or _PROTOCOLS[self.options.protocol](self._daemon, self)
        try:
            transport = await accept(
                connection,
                lambda: protocol,
                credentials=self._credentials,
                kerberos=self._kerberos,
                outlive_ticket=self.options.outlive_ticket,
                seconds=self._daemon.config.limits.greeting,
            )
            if greeting is not None:
                self._keep(transport, greeting)
        except AcceptError as error:
            self._refuse(peer, str(error))

    def _keep(self, transport: asyncio.Transport, greeting: Greeting) -> None:
        """Give an offered stream to the backend that waits for it."""
        peer = peer_behind(transport)
        if peer is None:
            return  # It is gone.
        for name, backend in self._daemon.backends.items():
            source = backend.source
            if isinstance(source, OfferedSource) and _may_offer(peer, backend.options):
                stream = Stream(name, f"{peer.principal or peer.certificate} at {peer.address}", transport)
                greeting.serve(stream)
                if source.add(stream, greeting):
                    backend.stock.end_pause()
                    event(logging.INFO, "stream offered", listener=self.name, backend=name, **peer.facts())
                else:
                    self._refuse(peer, "enough streams wait already")
                    transport.abort()
                return
        known = [f"offered = {name}" for name in peer.names]
        known += [f"offered_principal = {peer.principal}"] if peer.principal else []
        self._refuse(peer, f"no backend has {' or '.join(known) or 'offered = its name'}")
        transport.abort()

    def _refuse(self, peer: Peer, reason: str) -> None:
        event(logging.WARNING, "connection refused", listener=self.name, reason=reason, **peer.facts())

    def _report(self, what: str) -> None:
        event(logging.WARNING, "TLS files", listener=self.name, what=what)


def _may_offer(peer: Peer, options: BackendOptions) -> bool:
    """Tell whether a gateway may offer to a backend. Names in certificates and principals are never taken for one another."""
    if options.offered_principal:
        return peer.principal == options.offered_principal
    return options.offered in peer.names


def _check_inherited(listener: socket.socket, options: ListenerOptions) -> None:
    """Hold a socket that was handed over, and whose kind only shows now, to what the configuration holds the others to."""
    address = options.address
    if not isinstance(address, Inherited):
        return
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        where = Tcp(*listener.getsockname()[:2])
        is_plain = options.certificate is None and not options.speaks_kerberos
        if is_plain and not where.is_loopback and not options.insecure:
            raise AddressError(
                f"{address}: is {where}, plain tcp outside loopback, which lets others read PINs: "
                "give it a certificate, or say insecure = true"
            )
    elif options.certificate is not None:
        raise AddressError(f"{address}: has a certificate, but is no TCP socket")
    elif options.speaks_kerberos:
        raise AddressError(f"{address}: has Kerberos, but is no TCP socket")
