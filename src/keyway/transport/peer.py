"""Who is at the other end of a unix socket."""

import select
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Peer", "has_hung_up", "peer_of"]

UCRED: Final = struct.Struct("iII")
"""struct ucred of Linux: pid, uid, gid, as they were when the peer connected."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What the kernel says of the process that connected.

    Attributes:
        pid: Process number. 0 if it is not visible from here.
        uid: User number.
        gid: Group number.
        program: Path of its program; empty if that can't be seen. A help for readers of logs, not evidence.
    """

    pid: int
    uid: int
    gid: int
    program: str


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end of a connected unix socket.

    Raises:
        OSError: The kernel does not tell.
    """
    pid, uid, gid = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return Peer(pid, uid, gid, _program(pid))


def has_hung_up(connection: socket.socket) -> bool:
    """Return whether the peer of a unix socket has closed it, whatever is left to be read."""
    poll = select.poll()
    # POLLHUP and POLLERR are told without being asked for.
    poll.register(connection.fileno(), 0)
    return bool(poll.poll(0))


def _program(pid: int) -> str:
    for entry in ("exe", "comm"):
        try:
            path = Path(f"/proc/{pid}/{entry}")
            return str(path.readlink()) if entry == "exe" else path.read_text(errors="replace").strip()
        except OSError:
            continue
    return ""
