"""What one client is given: its context opened, its calls decided, its hosts reached, its losses told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV
from keyway.daemon.backend import BackendError
from keyway.daemon.binding import Binding
from keyway.daemon.link import Frame, Link, Tracked, reply_frame
from keyway.gateway.answers import unreachable
from keyway.gateway.context import Context
from keyway.gateway.decisions import Answer
from keyway.gateway.routes import PLAIN, ROUTES, Route
from keyway.observe.log import event
from keyway.wire.codec import decode_request, encode_reply
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER, HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.daemon.client import ClientConnection
    from keyway.daemon.server import Daemon

__all__ = ["Service"]

NOTHING: Final[frozenset[int]] = frozenset()
MAX_APPLICATION: Final = 255
"""Bytes of a client's name for itself (docs/wire.md, section 3)."""


class Service:
    """The slow way of a client's frames, and the state behind the short one.

    Attributes:
        bound: Session handle to the stream of its host. A session in here may take the short way.
        plain: The calls that may take it.
        name: The context's name; empty while there is none.
        application: What the client calls itself.
    """

    def __init__(self, daemon: Daemon, client: ClientConnection) -> None:
        self.bound: dict[int, Link] = {}
        self.plain = NOTHING
        self.name = ""
        self.application = ""
        self._daemon = daemon
        self._client = client
        self._binding: Binding | None = None

    # From the client

    def request(self, frame: Frame, data: bytes) -> None:
        """Handle one request.

        Args:
            frame: Its header.
            data: The whole frame.
        """
        route = ROUTES[frame[1]]
        binding = self._binding
        if route is Route.INITIALIZE:
            self._initialize(frame, data)
        elif binding is None:
            self._answer(frame, Answer(RV.CKR_CRYPTOKI_NOT_INITIALIZED))
        elif route is Route.FINALIZE:
            self._client.hold(self._finalize(frame, binding), "C_Finalize")
        else:
            self._decide(binding, route, frame, data)

    def pause_hosts(self, pause: bool) -> None:
        """Stop reading replies, or go on."""
        for link in self._binding.links.values() if self._binding else ():
            if pause:
                link.host.transport.pause_reading()
            else:
                link.host.transport.resume_reading()

    def close(self) -> None:
        """End what the client had."""
        if self._binding is not None:
            self._ended("client gone")
            self._binding.close()
        self._forget()

    # From the links

    def write(self, data: bytes) -> None:
        """Send replies."""
        self._client.write(data)

    def host_busy(self, busy: bool) -> None:
        """Read no more requests while a host is slow to take them."""
        if busy:
            self._client.pause("host")
        else:
            self._client.resume("host")

    def tracked_reply(self, link: Link, tracked: Tracked, frame: Frame, body: bytes) -> None:
        """Note what a reply changes, and send it."""
        if self._binding is not None:
            self._note(self._binding.context, link, tracked, frame[5])
        self._client.write(HEADER.pack(*frame[:4], tracked.request[4], frame[5]) + body)

    def link_lost(self, link: Link, unanswered: list[Frame], opening: list[Tracked]) -> None:
        """Tell the client that its calls failed and its sessions are lost."""
        binding = self._binding
        if link.ending or binding is None:
            return
        binding.links.pop(link.name, None)
        for handle in [handle for handle, of in self.bound.items() if of is link]:
            del self.bound[handle]
        binding.context.lose(link.name)
        for tracked in opening:
            binding.context.not_opened(tracked.session)
        for frame in unanswered:
            self._client.write(reply_frame(frame, RV.CKR_DEVICE_ERROR))
        calls = [CALLS[frame[1] - 1].name for frame in unanswered]
        self._daemon.tasks.start(binding.lost(link, calls), "host ended")
        self.host_busy(False)

    # Inside

    def _initialize(self, frame: Frame, data: bytes) -> None:
        if self._binding is not None:
            self._answer(frame, Answer(RV.CKR_CRYPTOKI_ALREADY_INITIALIZED))
            return
        try:
            _, _, application = decode_request(CALLS[frame[1] - 1], 0, memoryview(data)[HEADER_SIZE:])
        except WireError:
            self._answer(frame, Answer(RV.CKR_ARGUMENTS_BAD))
            return
        text = application[:MAX_APPLICATION] if isinstance(application, bytes) else b""
        self.application = text.decode("utf-8", "replace")
        self._client.hold(self._open(frame), "C_Initialize")

    async def _open(self, frame: Frame) -> None:
        daemon = self._daemon
        name = daemon.new_context()
        if name is None:
            event(logging.WARNING, "context refused", reason="limit of contexts", **self._client.facts())
            self._answer(frame, Answer(RV.CKR_HOST_MEMORY))
            return
        context = Context(tuple(daemon.backends), daemon.own_slots(), daemon.config.limits.sessions)
        self._binding = binding = Binding(context, daemon.backends, self, name, daemon.config.limits.ending)
        self.name = name
        rv = 0
        try:
            await binding.reach(next(iter(daemon.backends)))
        except BackendError as error:
            rv = error.rv or 0
        if rv:
            self._forget()
            self._client.write(reply_frame(frame, rv))
            return
        self.plain = PLAIN[True]
        event(logging.INFO, "context opened", context=name, application=self.application, **self._client.facts())
        self._answer(frame, Answer(RV.CKR_OK, (name.encode(),)))

    async def _finalize(self, frame: Frame, binding: Binding) -> None:
        rv = await binding.finalise()
        self._ended("finalized")
        self._forget()
        self._client.write(reply_frame(frame, rv))

    def _decide(self, binding: Binding, route: Route, frame: Frame, data: bytes) -> None:
        decision = binding.context.decide(route, frame[4])
        if isinstance(decision, Answer):
            self._answer(frame, decision)
            return
        handle = 0
        if route is Route.OPEN_SESSION:
            try:
                _, chosen = decode_request(CALLS[frame[1] - 1], 0, memoryview(data)[HEADER_SIZE:])
            except WireError:
                self._answer(frame, Answer(RV.CKR_ARGUMENTS_BAD))
                return
            if isinstance(chosen, int):
                if (refusal := binding.context.opening(chosen)) is not None:
                    self._answer(frame, refusal)
                    return
                handle = chosen
        elif route is Route.CLOSE_SESSION:
            handle = frame[4]
        if decision.target != frame[4]:
            data = HEADER.pack(*frame[:4], decision.target, frame[5]) + data[HEADER_SIZE:]
        tracked = Tracked(frame, handle) if route in _TRACKED or decision.target != frame[4] else None
        link = binding.links.get(decision.backend)
        if link is None:
            self._client.hold(self._send_late(binding, decision.backend, route, frame, data, tracked), "reach backend")
        else:
            self._send(link, frame, data, tracked)

    def _send(self, link: Link, frame: Frame, data: bytes, tracked: Tracked | None) -> None:
        if not frame[2] & Flags.POSTED:
            if frame[3] in link.in_flight:
                self._client.refuse("a request id is used twice at a time")
                return
            link.in_flight[frame[3]] = frame
            if tracked is not None:
                link.tracked[frame[3]] = tracked
        link.write(data)

    async def _send_late(
        self, binding: Binding, backend: str, route: Route, frame: Frame, data: bytes, tracked: Tracked | None
    ) -> None:
        try:
            link = await binding.reach(backend)
        except BackendError:
            if route is Route.OPEN_SESSION and tracked is not None:
                binding.context.not_opened(tracked.session)
            self._answer(frame, unreachable(route))
            return
        self._send(link, frame, data, tracked)

    def _note(self, context: Context, link: Link, tracked: Tracked, rv: int) -> None:
        request = tracked.request
        route = ROUTES[request[1]]
        if route is Route.OPEN_SESSION and tracked.session:
            if rv == RV.CKR_OK:
                context.opened(tracked.session, request[4], link.name)
                self.bound[tracked.session] = link
            else:
                context.not_opened(tracked.session)
        elif rv == RV.CKR_OK and route is Route.CLOSE_SESSION:
            context.closed(tracked.session)
            self.bound.pop(tracked.session, None)
        elif rv == RV.CKR_OK and route is Route.CLOSE_ALL_SESSIONS:
            for handle in context.closed_all(request[4]):
                self.bound.pop(handle, None)

    def _answer(self, frame: Frame, answer: Answer) -> None:
        if not frame[2] & Flags.POSTED:
            body = encode_reply(CALLS[frame[1] - 1], answer.values)
            self._client.write(reply_frame(frame, answer.rv, body))

    def _ended(self, how: str) -> None:
        if self.name:
            binding = self._binding
            sessions = len(binding.context.sessions) if binding else 0
            event(logging.INFO, "context closed", context=self.name, how=how, sessions=sessions, **self._client.facts())

    def _forget(self) -> None:
        if self.name:
            self._daemon.end_context(self.name)
        self._binding = None
        self.plain = NOTHING
        self.bound.clear()
        self.name = ""


_TRACKED: Final = frozenset({Route.OPEN_SESSION, Route.CLOSE_SESSION, Route.CLOSE_ALL_SESSIONS})
