"""Contexts that become traces of OpenTelemetry: who watches them, and what is known of them here."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import RV, Target, stripped
from keyway.daemon.pool.stream import PoolStream
from keyway.daemon.tap import unwatch, watch
from keyway.gateway.slots import SeenSlot, SlotMap, VirtualSlots
from keyway.observe.otlp import SpanQueue, exporter
from keyway.observe.spans import Asked, Attributes, Operations, Span, Told, answered, asked

if TYPE_CHECKING:
    from keyway.config import TracesOptions
    from keyway.daemon.connection import Connection
    from keyway.daemon.link import Frame
    from keyway.daemon.pool.context import PoolContext

__all__ = ["Spans", "open_spans"]

FINISH: Final = 2.0
"""Seconds that the last spans have when the daemon ends."""


class _Watch:
    """Makes a span of each call of one client, and one of its context.

    Attributes:
        is_over: Whether the context has ended.
    """

    def __init__(self, client: Connection, queue: SpanQueue) -> None:
        """Watch a client that opens a context."""
        self.is_over = False
        self._client = client
        self._queue = queue
        self._trace = secrets.randbits(128) or 1
        self._id = secrets.randbits(64) or 1
        self._start = time.time_ns()
        self._since = time.perf_counter_ns()
        self._operations = Operations()
        self._pending: dict[int, tuple[Asked, int]] = {}
        self._about: Attributes = {}
        watch(client, self)

    def request(self, frame: Frame, data: bytes) -> None:
        """See a request.

        Args:
            frame: Its header.
            data: The whole frame.
        """
        request = asked(frame, data)
        if request.is_posted:
            self._tell(request, time.perf_counter_ns(), *answered(request, None))
            self._operations.note(request, RV.CKR_OK)
        else:
            self._pending[frame[3]] = request, time.perf_counter_ns()

    def reply(self, frame: Frame, body: memoryview) -> None:
        """See a reply.

        Args:
            frame: Its header.
            body: Its body.
        """
        pending = self._pending.pop(frame[3], None)
        if pending is None:
            return
        request, since = pending
        self._tell(request, since, *answered(request, frame, body))
        self._operations.note(request, frame[5])
        if request.name == "C_Initialize":
            self._begun(frame[5])
        elif request.name == "C_Finalize" and frame[5] == RV.CKR_OK:
            self.end()

    def end(self) -> None:
        """Take note that the context has ended, perhaps with calls that will never be answered."""
        for request, since in self._pending.values():
            self._tell(request, since, *answered(request, None))
        self._pending.clear()
        now = time.perf_counter_ns()
        end = self._start + now - self._since
        self._queue.take(Span("context", self._trace, self._id, 0, self._start, end, self._about))
        self.is_over = True
        unwatch(self._client, self)

    def _begun(self, rv: int) -> None:
        """Note what the context is; there is none if C_Initialize was refused."""
        service, peer = self._client.service, self._client.peer
        self._about = {"keyway.listener": self._client.entrance.name, "keyway.application": service.application}
        if peer is not None:
            self._about["keyway.transport"] = peer.transport
        if service.name:
            self._about["keyway.context"] = service.name
        if service.entrant is not None:
            self._about["keyway.identity"] = service.entrant.name
        if rv and not service.name:
            self.end()

    def _tell(self, request: Asked, since: int, *calls: Told) -> None:
        now = time.perf_counter_ns()
        start, end = self._start + since - self._since, self._start + now - self._since
        about = self._place(request)
        if not request.mechanism and (mechanism := self._operations.of(request)):
            about["pkcs11.mechanism"] = mechanism
        for told in calls:
            self._queue.take(
                Span(
                    told.name,
                    self._trace,
                    secrets.randbits(64) or 1,
                    self._id,
                    start,
                    end,
                    {**about, **told.attributes},
                    told.error,
                )
            )

    def _place(self, request: Asked) -> Attributes:
        """Return where a call goes: what is known of it now, before the context notes what has become of the call."""
        service = self._client.service
        about: Attributes = {}
        if service.name:
            about["keyway.context"] = service.name
        if service.entrant is not None:
            about["keyway.identity"] = service.entrant.name
        binding = service.binding
        if binding is None or request.place is Target.NONE:
            return about
        slot = request.target
        if request.place is Target.SESSION:
            about["pkcs11.session"] = request.target
            session = binding.context.sessions.get(request.target)
            if session is None:
                return about
            slot = session.slot
        about["pkcs11.slot"] = slot
        if token := _token(binding.context.slots, slot):
            about["pkcs11.token"] = token
        backend = service.backend_of(slot)
        link = binding.links.get(backend) if backend is not None else None
        if link is not None and isinstance(link.host, PoolStream):
            about |= _in_pool(link.host.context, request)
        elif backend is not None:
            about["keyway.backend"] = backend
        return about


def _token(slots: SlotMap, slot: int) -> str:
    """Return the label of the token in a slot, or its name in the configuration while it is not there; empty if neither is known."""
    if not isinstance(slots, VirtualSlots) or slot not in slots.slots:
        return ""
    content = slots.slots[slot].content
    if not isinstance(content, SeenSlot):
        return content.name
    return stripped(content.token.label).decode(errors="replace") if content.token is not None else ""


def _in_pool(context: PoolContext, request: Asked) -> Attributes:
    """Return the pool, and the member that makes a call, or at which the session was opened."""
    about: Attributes = {"keyway.pool": context.pool.token_name}
    session = context.sessions.get(request.target) if request.place is Target.SESSION else None
    if session is not None:
        call = session.current
        member = session.home if call is None or call.member is None else call.member
        about["keyway.member"] = member.shown
    return about


class Spans:
    """Knows which contexts are sent as traces."""

    def __init__(self, queue: SpanQueue, share: float) -> None:
        """Begin.

        Args:
            queue: Takes the spans.
            share: Share of the contexts, 0 to 1.
        """
        self._queue = queue
        self._share = share
        self._watches: dict[Connection, _Watch] = {}

    def join(self, client: Connection) -> None:
        """Take note that a client opens a context, which is chosen or not."""
        known = self._watches.get(client)
        if known is not None and not known.is_over:
            return  # It has a context, and is refused another one.
        self._watches.pop(client, None)
        if secrets.randbits(53) < self._share * (1 << 53):
            self._watches[client] = _Watch(client, self._queue)

    def leave(self, client: Connection) -> None:
        """Take note that a client has gone."""
        known = self._watches.pop(client, None)
        if known is not None and not known.is_over:
            known.end()

    def status(self) -> dict[str, object]:
        """Return how it does, for `keyway status`."""
        return self._queue.status()

    async def close(self) -> None:
        """Send what waits, as far as that takes no long time."""
        await asyncio.to_thread(self._queue.close, FINISH)


def open_spans(options: TracesOptions, version: str) -> Spans:
    """Return what makes traces of contexts.

    Args:
        options: Says of which, and where they go.
        version: Keyway's version.

    Raises:
        SpansError: OpenTelemetry is not installed, or a TLS file is not there.
    """
    return Spans(SpanQueue(exporter(options, version)), options.share)
