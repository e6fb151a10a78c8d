"""Taking connections that have come in."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from keyway.transport.alert import send_alert
from keyway.transport.connect import tune
from keyway.transport.descriptor import DescriptorTransport
from keyway.transport.errors import AcceptError
from keyway.transport.tls import Credentials, describe_refusal

__all__ = ["accept"]


async def accept(
    connection: socket.socket,
    factory: Callable[[], asyncio.Protocol],
    *,
    credentials: Credentials | None = None,
    seconds: float,
) -> asyncio.Transport:
    """Return the transport of a connection that was accepted, after the TLS handshake if there are credentials.

    With TLS 1.3 it is here that a client's certificate is refused. The client has done its part by then: it learns of it when it reads.

    Args:
        connection: The connected socket, which does not block. It belongs to this function, whatever happens.
        factory: Makes the protocol.
        credentials: What TLS needs; None without TLS.
        seconds: How long the handshake may take.

    Raises:
        AcceptError: The handshake fails.
    """
    loop = asyncio.get_running_loop()
    try:
        with contextlib.suppress(OSError):
            tune(connection)
        if credentials is not None:
            return await _with_tls(connection, factory, credentials, seconds)
        if connection.family == socket.AF_VSOCK:
            return DescriptorTransport.over_socket(connection, factory())
        transport, _ = await loop.connect_accepted_socket(factory, connection)
        return transport
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError | EOFError):
            raise AcceptError(describe_refusal(error)) from error
        raise


async def _with_tls(
    connection: socket.socket, factory: Callable[[], asyncio.Protocol], credentials: Credentials, seconds: float
) -> asyncio.Transport:
    # The loop closes its own when the handshake fails.
    with connection.dup() as copy:
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                factory, connection, ssl=credentials.context(), ssl_handshake_timeout=seconds
            )
        except OSError as error:
            send_alert(copy, error)
            raise
        return transport
