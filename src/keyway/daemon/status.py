"""What a daemon is doing, as one JSON object: for `keyway status` and for monitoring."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keyway.daemon.pool.draining import member_of
from keyway.daemon.pool.stream import PoolStream
from keyway.daemon.views.stream import ViewsStream

if TYPE_CHECKING:
    from keyway.daemon.connection import Connection
    from keyway.daemon.pool.context import PoolContext
    from keyway.daemon.server import Daemon

__all__ = ["pool_contexts", "status"]


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
        **({} if daemon.audit is None else {"audit": daemon.audit.status()}),
        **({} if daemon.spans is None else {"traces": daemon.spans.status()}),
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
                "pools": {context.pool.token_name: _bound(context) for context in pool_contexts(client)},
            }
            for client in daemon.clients
            if (binding := client.service.binding) is not None
        ],
    }


def pool_contexts(client: Connection) -> Iterator[PoolContext]:
    """Yield what a client has at pools."""
    binding = client.service.binding
    for link in binding.links.values() if binding is not None else ():
        stream = link.host.behind if isinstance(link.host, ViewsStream) else link.host
        if isinstance(stream, PoolStream):
            yield stream.context


def _bound(context: PoolContext) -> list[dict[str, Any]]:
    """Return the sessions that stay at one member."""
    return [
        {"session": session.handle, "member": member_of(context, session).shown, "reasons": reasons}
        for session in context.sessions.values()
        if (reasons := context.pool.reasons(context, session))
    ]
