"""Taking connections that have come in."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from keyway.transport.alert import send_alert
from keyway.transport.connect import tune
from keyway.transport.descriptor import DescriptorTransport
from keyway.transport.errors import AcceptError, GssError
from keyway.transport.gss import Handshake, Party, secure
from keyway.transport.tls import Credentials, describe_refusal

__all__ = ["accept"]


async def accept(
    connection: socket.socket,
    factory: Callable[[], asyncio.Protocol],
    *,
    credentials: Credentials | None = None,
    kerberos: Party | None = None,
    outlive_ticket: bool = True,
    seconds: float,
) -> asyncio.Transport:
    """Return the transport of a connection that was accepted, after the handshakes that there are credentials for.

    With TLS 1.3 it is here that a client's certificate is refused. The client has done its part by then: it learns of it when it reads.

    Args:
        connection: The connected socket, which does not block. It belongs to this function, whatever happens.
        factory: Makes the protocol.
        credentials: What TLS needs; None without TLS.
        kerberos: What Kerberos needs; None without. Inside TLS it is bound to that, and seals nothing itself.
        outlive_ticket: Whether the connection may go on when the ticket has expired; else it is broken off then.
        seconds: How long the handshakes may take.

    Raises:
        AcceptError: A handshake fails.
    """
    loop = asyncio.get_running_loop()
    try:
        with contextlib.suppress(OSError):
            tune(connection)
        if kerberos is not None:
            async with asyncio.timeout(seconds):
                handshake = await _begun(connection, credentials, seconds)
                mechanism = kerberos.begin(_binding(handshake.transport))
                seals = credentials is None
                secured, _ = await secure(
                    handshake, mechanism, factory, begins=False, seals=seals, outlives=outlive_ticket
                )
                return secured
        if credentials is not None:
            return await _with_tls(connection, factory, credentials, seconds)
        if connection.family == socket.AF_VSOCK:
            return DescriptorTransport.over_socket(connection, factory())
        transport, _ = await loop.connect_accepted_socket(factory, connection)
        return transport
    except BaseException as error:
        connection.close()
        if isinstance(error, GssError):
            raise AcceptError(str(error)) from error
        if isinstance(error, TimeoutError) and kerberos is not None:
            raise AcceptError("the handshake took too long") from error
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


async def _begun(connection: socket.socket, credentials: Credentials | None, seconds: float) -> Handshake:
    """Return the protocol of a connection on which a ticket is to come next."""
    handshake = Handshake()
    if credentials is None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: handshake, connection)
    else:
        await _with_tls(connection, lambda: handshake, credentials, seconds)
    return handshake


def _binding(transport: asyncio.Transport) -> bytes:
    if (context := transport.get_extra_info("sslcontext")) is None:
        return b""
    from keyway.transport.binding import binding_at_server  # What it needs takes long to load.

    return binding_at_server(context)
