"""Control calls: what Keyway's own commands ask a running daemon (docs/wire.md, section 2).

They travel on the socket that clients use, and are for the daemon's own user and root only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from keyway.cryptoki import RV
from keyway.daemon.link import Frame, reply_frame

if TYPE_CHECKING:
    from keyway.daemon.connection import Connection
    from keyway.daemon.server import Daemon

__all__ = ["STATUS", "answer"]

STATUS: Final = 0x4000
"""Empty body; the reply's body is a JSON object."""


def status(daemon: Daemon) -> dict[str, Any]:
    """Return what the daemon is doing."""
    now = daemon.now()
    return {
        "version": daemon.version_text,
        "pid": os.getpid(),
        "uptime": round(now - daemon.since, 3),
        "socket": str(daemon.config.listen.socket),
        "connections": len(daemon.clients),
        "backends": {name: backend.status() for name, backend in daemon.backends.items()},
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


_CALLS: Final[dict[int, Callable[[Daemon], dict[str, Any]]]] = {STATUS: status}


def answer(daemon: Daemon, client: Connection, frame: Frame) -> bytes:
    """Return the reply to a control call.

    Args:
        daemon: The daemon.
        client: Who asks.
        frame: The request's header.
    """
    call = _CALLS.get(frame[1])
    if call is None:
        return reply_frame(frame, RV.CKR_FUNCTION_NOT_SUPPORTED)
    if client.peer is None or client.peer.uid not in (0, os.geteuid()):
        return reply_frame(frame, RV.CKR_ACTION_PROHIBITED)
    return reply_frame(frame, RV.CKR_OK, json.dumps(call(daemon)).encode())
