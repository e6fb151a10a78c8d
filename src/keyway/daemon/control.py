"""Control calls: what Keyway's own commands ask a running daemon (docs/wire.md, section 9).

They travel on the socket that clients use, and are for the daemon's own user and root only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from keyway.cryptoki import RV
from keyway.daemon.link import Frame, reply_frame
from keyway.observe.metrics import counted
from keyway.wire.header import HEADER_SIZE

if TYPE_CHECKING:
    from keyway.daemon.connection import Connection
    from keyway.daemon.server import Daemon

__all__ = ["STATUS", "TRACE", "answer", "status"]

STATUS: Final = 0x4000
"""Empty body; the reply's body is a JSON object."""
TRACE: Final = 0x4001
"""Empty body, or a JSON object that names a context; the replies are as many as there are calls."""


def status(daemon: Daemon) -> dict[str, Any]:
    """Return what the daemon is doing."""
    now = daemon.now()
    return {
        "version": daemon.version_text,
        "pid": os.getpid(),
        "uptime": round(now - daemon.since, 3),
        "socket": str(daemon.config.listen.socket) if daemon.config.listen is not None else "",
        "connections": len(daemon.clients),
        "tracers": len(daemon.tracing),
        "backends": {name: backend.status() for name, backend in daemon.backends.items()},
        "pools": {name: pool.status() for name, pool in daemon.pools.items()},
        "offers": {offer.name: offer.status() for offer in daemon.offers},
        "contexts": [
            {
                "context": client.service.name,
                "application": client.service.application,
                **client.facts(),
                "age": round(now - client.since, 3),
                "sessions": len(binding.context.sessions),
                "lost_sessions": len(binding.context.lost),
                "in_flight": sum(len(link.in_flight) for link in binding.links.values()),
                "hosts": {link.name: link.host.place for link in binding.links.values()},
            }
            for client in daemon.clients
            if (binding := client.service.binding) is not None
        ],
    }


def _status(daemon: Daemon, _: Connection, frame: Frame, __: bytes) -> bytes:
    return reply_frame(frame, RV.CKR_OK, json.dumps(counted(status(daemon), daemon.counters)).encode())


def _trace(daemon: Daemon, client: Connection, frame: Frame, body: bytes) -> bytes:
    return daemon.tracing.start(client, frame, body)


_CALLS: Final[dict[int, Callable[[Daemon, Connection, Frame, bytes], bytes]]] = {STATUS: _status, TRACE: _trace}


def answer(daemon: Daemon, client: Connection, frame: Frame, data: bytes) -> bytes:
    """Return the reply to a control call.

    Args:
        daemon: The daemon.
        client: Who asks.
        frame: The request's header.
        data: The whole frame.
    """
    call = _CALLS.get(frame[1])
    if call is None:
        return reply_frame(frame, RV.CKR_FUNCTION_NOT_SUPPORTED)
    if client.peer is None or client.peer.uid not in (0, os.geteuid()):
        return reply_frame(frame, RV.CKR_ACTION_PROHIBITED)
    return call(daemon, client, frame, data[HEADER_SIZE:])
