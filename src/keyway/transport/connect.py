"""Connecting to any address."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, TypeVar

from keyway.address import Address, Gss, Inherited, Tcp, Tls, Unix, Vsock
from keyway.transport.alert import send_alert
from keyway.transport.descriptor import DescriptorTransport
from keyway.transport.errors import ConnectError, GssError
from keyway.transport.gss import Handshake, Party, secure
from keyway.transport.tls import Credentials, describe_refusal
from keyway.transport.unix import MAX_PATH

__all__ = ["connect", "tune"]

IDLE: Final = 30
"""Seconds of silence before the system asks whether the peer is still there."""
INTERVAL: Final = 10
PROBES: Final = 3
UNANSWERED: Final = 60_000
"""Milliseconds that sent data may wait to be acknowledged."""

_AnyProtocol = TypeVar("_AnyProtocol", bound=asyncio.Protocol)


def tune(connection: socket.socket) -> None:
    """Let a TCP connection send small frames at once, and notice in a minute or so that its peer is gone. Others stay as they are."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, IDLE),
        (socket.TCP_KEEPINTVL, INTERVAL),
        (socket.TCP_KEEPCNT, PROBES),
        (socket.TCP_USER_TIMEOUT, UNANSWERED),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def connect(
    address: Address,
    factory: Callable[[], _AnyProtocol],
    *,
    credentials: Credentials | None = None,
    server_name: str = "",
    kerberos: Party | None = None,
    seconds: float,
) -> tuple[asyncio.Transport, _AnyProtocol]:
    """Connect, with the handshakes that the address asks for.

    Args:
        address: Where; not an inherited one.
        factory: Makes the protocol.
        credentials: What TLS needs; for a `Tls` address.
        server_name: Name that the other end's certificate must have; empty for the address's host.
        kerberos: What Kerberos needs; for a `Gss` address, and for a `Tls` one where Kerberos is spoken inside.
        seconds: How long it may take.

    Raises:
        ConnectError: It can't be done, or not in time.
    """
    try:
        async with asyncio.timeout(seconds):
            if kerberos is None:
                return await _connect(address, factory, credentials, server_name, seconds)
            _, handshake = await _connect(address, Handshake, credentials, server_name, seconds)
            return await _with_kerberos(handshake, kerberos, factory)
    except TimeoutError as error:
        raise ConnectError(f"{address}: not connected after {seconds:g} s") from error
    except GssError as error:
        raise ConnectError(f"{address}: {error}") from error
    except ssl.SSLError as error:
        raise ConnectError(f"{address}: {describe_refusal(error)}") from error
    except OSError as error:
        # A look-up of a name has numbers and words of its own.
        reason = os.strerror(error.errno or 0) if error.errno in errno.errorcode else error.strerror or str(error)
        raise ConnectError(f"{address}: {reason}") from error


async def _connect(
    address: Address,
    factory: Callable[[], _AnyProtocol],
    credentials: Credentials | None,
    server_name: str,
    seconds: float,
) -> tuple[asyncio.Transport, _AnyProtocol]:
    loop = asyncio.get_running_loop()
    match address:
        case Unix(path):
            # libuv would cut it off, and connect to something else.
            if len(os.fsencode(path)) > MAX_PATH:
                raise ConnectError(f"{address}: too long for a unix socket, {MAX_PATH} bytes at most")
            return await loop.create_unix_connection(factory, path)
        case Tcp(host, port) | Gss(host, port):
            return await loop.create_connection(factory, sock=await _dial(host, port, seconds))
        case Tls(host, port):
            assert credentials is not None
            context = credentials.context()
            connection = await _dial(host, port, seconds)
            # The loop closes its own when the handshake fails.
            with connection.dup() as copy:
                try:
                    return await loop.create_connection(
                        factory,
                        sock=connection,
                        ssl=context,
                        server_hostname=server_name or host,
                        ssl_handshake_timeout=seconds,
                    )
                except OSError as error:
                    send_alert(copy, error)
                    raise
        case Vsock(cid, port):
            return await _connect_vsock(cid, port, factory)
        case Inherited():
            raise ConnectError(f"{address}: is for listening only")


async def _with_kerberos(
    handshake: Handshake, kerberos: Party, factory: Callable[[], _AnyProtocol]
) -> tuple[asyncio.Transport, _AnyProtocol]:
    binding = b""
    if (tls := handshake.transport.get_extra_info("ssl_object")) is not None:
        from keyway.transport.binding import binding_at_client  # What it needs takes long to load.

        binding = binding_at_client(tls)
    return await secure(handshake, kerberos.begin(binding), factory, begins=True, seals=tls is None)


async def _dial(host: str, port: int, seconds: float) -> socket.socket:
    """Return a socket that is connected to the first of a host's addresses that answers."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for left, (family, _, _, _, where) in zip(range(len(found), 0, -1), found, strict=True):
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            # An address that swallows what it is sent leaves time for the next.
            async with asyncio.timeout((deadline - loop.time()) / left):
                await loop.sock_connect(connection, where)
            tune(connection)
        except OSError:
            connection.close()
            if left == 1:
                raise
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


async def _connect_vsock(
    cid: int, port: int, factory: Callable[[], _AnyProtocol]
) -> tuple[asyncio.Transport, _AnyProtocol]:
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(BlockingIOError):
            connection.connect((cid, port))
        ready = asyncio.Event()
        loop.add_writer(connection.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(connection.fileno())
        if number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))
    except BaseException:
        connection.close()
        raise
    protocol = factory()
    return DescriptorTransport.over_socket(connection, protocol), protocol
