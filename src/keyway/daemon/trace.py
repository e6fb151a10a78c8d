"""Calls shown live: who watches the clients, and the connections of `keyway trace` that are told what passes there."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from keyway.cryptoki import RV
from keyway.daemon.link import OWN_IDS, Frame, reply_frame
from keyway.daemon.tap import unwatch, watch
from keyway.observe.log import event
from keyway.observe.trace import Asked, Facts, answered, asked, asked_before, waiting

if TYPE_CHECKING:
    from keyway.daemon.connection import Connection
    from keyway.daemon.server import Daemon

__all__ = ["Tracing"]

BACKLOG: Final = 1 << 20
"""Bytes that wait for a tracer to read them. What would come on top is left out."""
INTERVAL: Final = 1.0
"""Seconds between looks for calls that are a long time coming."""


class _Pending:
    """A request that is not answered yet."""

    __slots__ = ("context", "is_told", "request", "since")

    def __init__(self, request: Asked, context: str) -> None:
        self.request = request
        self.context = context
        self.since = time.perf_counter_ns()
        self.is_told = False

    @property
    def us(self) -> int:
        return (time.perf_counter_ns() - self.since) // 1000


class _Watch:
    """Tells the calls of one client.

    Attributes:
        context: The name of the client's context, or of the last one that it had.
    """

    def __init__(self, client: Connection, tracing: Tracing) -> None:
        """Watch a client that is connected."""
        self.context = client.service.name
        self._client = client
        self._tracing = tracing
        self._pending = {number: _Pending(asked_before(frame), self.context) for number, frame in _under_way(client)}
        watch(client, self)

    def remove(self) -> None:
        """Watch no more."""
        unwatch(self._client, self)

    def request(self, frame: Frame, data: bytes) -> None:
        """See a request.

        Args:
            frame: Its header.
            data: The whole frame.
        """
        pending = _Pending(asked(frame, data), self._client.service.name)
        if pending.request.is_posted:
            self._tell(pending.context, *answered(pending.request, None))
        else:
            self._pending[frame[3]] = pending

    def reply(self, frame: Frame, body: memoryview) -> None:
        """See a reply.

        Args:
            frame: Its header.
            body: Its body.
        """
        pending = self._pending.pop(frame[3], None)
        if pending is not None:
            self._tell(pending.context, *answered(pending.request, frame, body, pending.us))

    def end(self) -> None:
        """Take note that the client has gone, with calls that will never be answered."""
        for pending in self._pending.values():
            self._tell(pending.context, *answered(pending.request, None))
        self._pending.clear()
        self.remove()

    def look(self) -> None:
        """Tell of calls that have not returned for a while, once for each."""
        for pending in self._pending.values():
            if not pending.is_told and pending.us >= INTERVAL * 1e6:
                pending.is_told = True
                self._tell(pending.context, waiting(pending.request, pending.us))

    def _tell(self, context: str, *calls: Facts) -> None:
        self.context = context or self._client.service.name
        about = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "context": self.context,
            "application": self._client.service.application,
        }
        for facts in calls:
            self._tracing.tell(self.context, {**about, **facts})


def _under_way(client: Connection) -> Iterator[tuple[int, Frame]]:
    binding = client.service.binding
    for link in binding.links.values() if binding else ():
        for number, frame in link.in_flight.items():
            if number < OWN_IDS:
                yield frame[3], frame


class _Tracer:
    """A connection that is told of calls."""

    def __init__(self, client: Connection, request: Frame, context: str | None) -> None:
        self.context = context
        self.client = client
        self._request = request
        self._lost = 0

    def tell(self, facts: Mapping[str, Any]) -> None:
        if self.client.transport.get_write_buffer_size() > BACKLOG:
            self._lost += 1
        else:
            self._send(facts)

    def look(self) -> None:
        if self._lost and self.client.transport.get_write_buffer_size() <= BACKLOG:
            self._send({})

    def _send(self, facts: Mapping[str, Any]) -> None:
        if self._lost:
            facts = {"lost": self._lost, **facts}
            self._lost = 0
        # Not the client's own `write`: that may be tapped.
        self.client.transport.write(reply_frame(self._request, RV.CKR_OK, json.dumps(facts).encode()))


class Tracing:
    """Knows who is told of whose calls."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._tracers: dict[Connection, _Tracer] = {}
        self._watches: dict[Connection, _Watch] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, client: Connection) -> bool:
        return client in self._tracers

    def __len__(self) -> int:
        return len(self._tracers)

    # From the tracers

    def start(self, client: Connection, request: Frame, body: bytes) -> bytes:
        """Tell a client of calls from now on, and return the first reply.

        Args:
            client: Who asks.
            request: The request's header.
            body: The request's body: empty for the calls of all contexts, or a JSON object with the `context` that is meant.
        """
        names = [each.service.name for each in self._daemon.clients if each.service.name]
        try:
            context = json.loads(body)["context"] if body else None
        except (ValueError, TypeError, KeyError, RecursionError):
            context = ""
        if context is not None and context not in names:
            return reply_frame(request, RV.CKR_ARGUMENTS_BAD)
        if client in self._tracers:
            return reply_frame(request, RV.CKR_OPERATION_ACTIVE)
        self._tracers[client] = _Tracer(client, request, context)
        event(logging.INFO, "trace started", traced=context or "all", **client.facts())
        self._watch_all()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)
        contexts = names if context is None else [context]
        return reply_frame(request, RV.CKR_OK, json.dumps({"contexts": contexts}).encode())

    def close(self) -> None:
        """End all traces, and the connections that they went over."""
        for client in list(self._tracers):
            client.close()
        self._end(list(self._tracers))

    # From the clients

    def join(self, client: Connection) -> None:
        """Take note that a client opens a context, which is traced if all are."""
        if self._tracers and client not in self._watches and self._is_traced(client):
            self._watches[client] = _Watch(client, self)

    def leave(self, client: Connection) -> None:
        """Take note that a client has gone: a tracer, or one whose context was traced, or neither."""
        self._end([client])
        if (watched := self._watches.pop(client, None)) is not None:
            context = watched.context
            watched.end()
            for tracer in list(self._tracers.values()):
                if tracer.context == context:
                    tracer.client.close()
                    self._end([tracer.client])

    def tell(self, context: str, facts: Facts) -> None:
        """Tell of a call.

        Args:
            context: Whose it was.
            facts: What is told.
        """
        for tracer in self._tracers.values():
            if tracer.context in (None, context):
                tracer.tell(facts)

    def _end(self, clients: list[Connection]) -> None:
        ended = [client for client in clients if self._tracers.pop(client, None)]
        for client in ended:
            event(logging.INFO, "trace ended", **client.facts())
        if ended:
            self._watch_all()
        if not self._tracers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_all(self) -> None:
        for client in self._daemon.clients:
            is_watched = client in self._watches
            if self._is_traced(client) != is_watched:
                if not is_watched:
                    self._watches[client] = _Watch(client, self)
                else:
                    self._watches.pop(client).remove()

    def _is_traced(self, client: Connection) -> bool:
        return any(tracer.context in (None, client.service.name) for tracer in self._tracers.values())

    def _look(self) -> None:
        for each in self._watches.values():
            each.look()
        for tracer in self._tracers.values():
            tracer.look()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)
