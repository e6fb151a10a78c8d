"""Listening sockets, for any address."""

import errno
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from keyway.address import Address, Inherited, TcpPort, Unix, Vsock
from keyway.transport import unix
from keyway.transport.errors import AddressError

__all__ = ["FIRST_INHERITED", "bound_address", "inherited", "listen"]

BACKLOG: Final = 512
FIRST_INHERITED: Final = 3
"""The first descriptor that a service manager hands over (SD_LISTEN_FDS_START of sd_listen_fds(3))."""


def listen(
    address: Address, *, mode: int = 0o600, group: str = "", given: Mapping[str, int] | None = None
) -> socket.socket:
    """Return a listening socket that does not block.

    Args:
        address: Where; port 0 is any free one (`bound_address` tells which).
        mode: Permissions of a unix socket.
        group: Group that shall own a unix socket; empty for the process's own.
        given: Descriptors of inherited sockets by name, as `inherited` tells them.

    Raises:
        AddressError: It can't be done.
    """
    match address:
        case Unix(path):
            return unix.listen(Path(path), mode, group)
        case TcpPort():
            return _listen_on(address)
        case Vsock(cid, port):
            return _vsock(address, cid, port)
        case Inherited(name):
            return _inherited(address, name, given or {})


def bound_address(address: Address, listener: socket.socket) -> Address:
    """Return an address with the port that the system has chosen in place of 0."""
    match address:
        case TcpPort(host, 0):
            return type(address)(host, listener.getsockname()[1])
    return address


def inherited(environment: Mapping[str, str], pid: int) -> dict[str, int]:
    """Return the descriptors that a service manager hands over, by name (sd_listen_fds(3)).

    Each is also known by its place, 0, 1 and so on, and the first one by the empty name.

    Args:
        environment: With LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES if there are any.
        pid: Number of this process; what is meant for another one is not ours.
    """
    if environment.get("LISTEN_PID") != str(pid):
        return {}
    count = environment.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdecimal()):
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    given: dict[str, int] = {}
    for index in range(min(int(count), 1024)):
        descriptor = FIRST_INHERITED + index
        given.setdefault("", descriptor)
        given.setdefault(str(index), descriptor)
        if index < len(names) and names[index]:
            given.setdefault(names[index], descriptor)
    return given


def _listen_on(address: TcpPort) -> socket.socket:
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        raise AddressError(f"{address}: {error.strerror}") from error
    family, _, _, _, where = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressError(f"{address}: {os.strerror(error.errno or errno.EIO)}") from error
    return listener


def _vsock(address: Vsock, cid: int, port: int) -> socket.socket:
    try:
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise AddressError(f"{address}: this kernel has no vsock") from error
    try:
        listener.bind((cid, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressError(f"{address}: {error.strerror}") from error
    return listener


def _inherited(address: Inherited, name: str, given: Mapping[str, int]) -> socket.socket:
    if name not in given:
        raise AddressError(f"{address}: no such socket is handed over (LISTEN_FDS, LISTEN_FDNAMES)")
    try:
        os.set_inheritable(given[name], False)
        listener = socket.socket(fileno=os.dup(given[name]))
    except OSError as error:
        raise AddressError(f"{address}: descriptor {given[name]} is no socket") from error
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise AddressError(f"{address}: descriptor {given[name]} does not listen for streams")
    listener.setblocking(False)
    return listener
