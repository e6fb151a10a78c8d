"""What one client is given: its context opened, its calls decided, its hosts reached, its losses told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from keyway.cryptoki import CALLS, RV, Room, SessionInfo, TokenInfo, Value, call_named
from keyway.cryptoki.constants import CKF_DONT_BLOCK
from keyway.daemon.backend import BackendError
from keyway.daemon.binding import Binding
from keyway.daemon.changes import CHANGING
from keyway.daemon.link import OWN_IDS, Frame, Link, Tracked, call_name, reply_frame
from keyway.daemon.slot_events import SlotEvents
from keyway.daemon.views.home import any_outdated
from keyway.gateway.answers import empty_slot, own_info, slot_event, slot_list, unreachable, write_protected
from keyway.gateway.context import Context, Session
from keyway.gateway.decisions import Answer, Relay
from keyway.gateway.routes import AFTER_CLOSES, REPEATED, ROUTES, TURNS, Route
from keyway.gateway.slots import BackendSlot, VirtualSlots
from keyway.observe.log import event
from keyway.wire.ahead import NEWS, READ_AHEAD
from keyway.wire.codec import decode_reply, decode_request, encode_reply
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER, HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.backend.turns import Turn
    from keyway.daemon.changes import Reader
    from keyway.daemon.connection import Connection
    from keyway.daemon.guard.gate import Entrant
    from keyway.daemon.server import Daemon
    from keyway.daemon.tap import Tap
    from keyway.daemon.view import View

__all__ = ["Service"]

MAX_APPLICATION: Final = 255
"""Bytes of a client's name for itself (docs/wire.md, section 3)."""

MAX_WAITING: Final = 64
"""Calls of one client that may wait while others are handled: for slot events, or to open a session when others are closed."""

_NOTHING: Final[frozenset[int]] = frozenset()
_OF_MODULE: Final = frozenset({Route.INFO, Route.SLOT_LIST, Route.SLOT_EVENT})
"""Calls about the module as a whole: relayed if clients see the only module as it is, else answered here."""


class Service:
    """The slow way of a client's frames, and the state behind the short one.

    Attributes:
        bound: Session handle to the stream of its host. A session in here may take the short way.
        plain: The calls that may take it.
        name: The context's name; empty while there is none.
        application: What the client calls itself.
        binding: The context and its hosts; None while there is none.
        entrant: The identity of the context, if identities are configured, with what it may do.
        tap: What sees the calls, if they are traced. Nothing takes the short way then.
    """

    def __init__(self, daemon: Daemon, client: Connection, view: View) -> None:
        self.bound: dict[int, Link] = {}
        self.plain: AbstractSet[int] = _NOTHING
        self.name = ""
        self.application = ""
        self.binding: Binding | None = None
        self.tap: Tap | None = None
        self.entrant: Entrant | None = None
        self._daemon = daemon
        self._client = client
        self._view = view
        self._hosts_paused = False
        self._events = SlotEvents({})
        self._waiting: dict[asyncio.Task[None], Frame] = {}

    # From the client

    def request(self, frame: Frame, data: bytes) -> None:
        """Handle one request.

        Args:
            frame: Its header, of a call that is in the table.
            data: The whole frame.
        """
        route = _ROUTES[frame[1]]
        binding = self.binding
        if route is Route.INITIALIZE:
            self._daemon.tracing.join(self._client)
            if self._daemon.spans is not None:
                self._daemon.spans.join(self._client)
        if self.tap is not None:
            self.tap.request(frame, data)
        try:
            if route is Route.INITIALIZE:
                self._initialize(frame, data)
            elif binding is None:
                self._answer(frame, Answer(RV.CKR_CRYPTOKI_NOT_INITIALIZED))
            elif route is Route.FINALIZE:
                self._hold(self._finalize(frame, binding), frame)
            elif route in _OF_MODULE and not self._view.has_own_slots:
                self._answer_for_all(binding, route, frame, data)
            else:
                self._decide(binding, route, frame, data)
        except WireError:
            self._answer(frame, Answer(RV.CKR_ARGUMENTS_BAD))

    def set_short_way(self) -> None:
        """Open the short way if there is a context that nobody watches."""
        if self.binding is None or self.tap is not None:
            self.plain = _NOTHING
        else:
            self.plain = self._daemon.changes.short_way[self._view.has_own_slots]

    def pause_hosts(self, pause: bool) -> None:
        """Stop reading replies, or go on."""
        self._hosts_paused = pause
        for link in self.binding.links.values() if self.binding else ():
            if pause:
                link.host.transport.pause_reading()
            else:
                link.host.transport.resume_reading()

    def backend_of(self, slot: int) -> str | None:
        """Return the name of the backend that a slot of the client's belongs to; None if there is none."""
        place = self.binding.context.slots.resolve(slot) if self.binding is not None else None
        return place.backend if isinstance(place, BackendSlot) else None

    def look_who_it_is(self) -> None:
        """End the connection if the context would have another identity now, or may do something else: its next one finds out what."""
        if self.binding is None:
            return
        entrance = self._client.entrance
        now = self._daemon.gate.enter(self._client.peer, entrance, self._daemon.audit)
        before = self.entrant
        is_other = (now is None) != (before is None) or (now and before and now.identity != before.identity)
        if is_other or (before and any_outdated(self.binding.backends.values(), before.sees)):
            event(logging.INFO, "client ended", reason="what it may do has changed", **self._client.facts())
            self._client.close()

    @property
    def is_idle(self) -> bool:
        """Whether the context has no session, and no call of it is under way."""
        binding = self.binding
        if binding is None or binding.context.sessions or self._waiting:
            return False
        return not any(link.in_flight for link in binding.links.values())

    def close(self) -> None:
        """End what the client had."""
        if self.binding is not None:
            self._closed("client gone")
            self.binding.close()
        self._forget()

    # From the links

    def write(self, data: bytes) -> None:
        """Send replies."""
        self._client.write(data)

    def write_apart(self, header: bytes, body: bytes | memoryview) -> None:
        """Send a reply whose body is somewhere else."""
        self._client.write_apart(header, body)

    def host_busy(self, link: Link, busy: bool) -> None:
        """Read no more requests while a host is slow to take them."""
        reason = f"host {id(link)}"
        if busy:
            self._client.pause(reason)
        else:
            self._client.resume(reason)

    def tracked_reply(self, link: Link, tracked: Tracked, frame: Frame, body: bytes) -> None:
        """Note what a reply changes, and send it as the client shall see it."""
        request = tracked.request
        route = _ROUTES[request[1]]
        if self.binding is not None:
            self._note(self.binding.context, link, route, tracked, frame[5])
        # Whatever the RV: a call that failed may have changed something.
        late = self._daemon.changes.tell(link.name, self) if request[1] in CHANGING else []
        if request[2] & Flags.POSTED:
            return
        if route is Route.SESSION_INFO and frame[5] == RV.CKR_OK and self.binding is not None:
            body = _with_slot(body, self.binding.context.sessions.get(request[4]))
        elif (
            route is Route.TOKEN_INFO
            and self.binding is not None
            and self.binding.context.slots.is_protected(request[4])
        ):
            body = _protected(body)
        reply = HEADER.pack(len(body), *frame[1:3], *request[3:5], frame[5]) + body
        if late:
            self._daemon.tasks.start(self._write_after(late, reply), "news of changes")
        else:
            self._client.write(reply)

    def host_told_news(self, link: Link) -> None:
        """Pass on that objects have changed at another gateway."""
        if self._daemon.changes.reads(link.name, self):
            self.tell_news()

    def link_lost(self, link: Link, unanswered: list[Frame], tracked: list[Tracked]) -> None:
        """Tell the client that its calls failed and its sessions are lost."""
        self.host_busy(link, False)
        binding = self.binding
        if link.ending or binding is None:
            return
        binding.links.pop(link.name, None)
        for handle in [handle for handle, of in self.bound.items() if of is link]:
            del self.bound[handle]
        binding.context.lose(link.name)
        self._client.backend_lost()
        repeated = {each.request[3]: each.again for each in tracked if each.again is not None}
        for each in tracked:
            binding.context.not_opened(each.session)
        if any(frame[1] in CHANGING for frame in unanswered):
            self._daemon.changes.tell(link.name, self)
        for frame in unanswered:
            if (again := repeated.get(frame[3])) is not None:
                self._daemon.tasks.start(self._repeat(binding, frame, again), "repeated call")
            else:
                self._answer(frame, Answer(RV.CKR_DEVICE_ERROR))
        calls = [call_name(frame) for frame in unanswered]
        self._daemon.tasks.start(binding.report_lost(link, calls), "host ended")

    # From the other contexts

    def tell_news(self) -> None:
        """Tell the client that others have changed objects."""
        self._client.write(NEWS)

    @property
    def is_told(self) -> bool:
        """Whether all that was sent to the client has left this process."""
        transport = self._client.transport
        return transport.is_closing() or not transport.get_write_buffer_size()

    def watch_changes(self) -> None:
        """Look at the replies to the calls in flight that change objects: another context has begun to read ahead."""
        for link in self.binding.links.values() if self.binding else ():
            for number, frame in link.in_flight.items():
                if frame[1] in CHANGING and number not in link.tracked:
                    link.tracked[number] = Tracked(frame)

    async def _write_after(self, late: list[Reader], reply: bytes) -> None:
        await self._daemon.changes.told(late)
        if not self._client.transport.is_closing():
            self._client.write(reply)

    # The context as a whole

    def _initialize(self, frame: Frame, data: bytes) -> None:
        if self.binding is not None:
            self._answer(frame, Answer(RV.CKR_CRYPTOKI_ALREADY_INITIALIZED))
            return
        _, _, application = _arguments(frame, data)
        text = application[:MAX_APPLICATION] if isinstance(application, bytes) else b""
        self.application = text.decode("utf-8", "replace")
        self._hold(self._open(frame), frame)

    async def _open(self, frame: Frame) -> None:
        daemon = self._daemon
        name = daemon.new_context(self._client.entrance)
        if name is None:
            event(logging.WARNING, "context refused", reason="limit of contexts", **self._client.facts())
            self._answer(frame, Answer(RV.CKR_HOST_MEMORY))
            return
        # The configuration may have been read anew since the client came in.
        entrance = self._client.entrance
        self.entrant = entrant = daemon.gate.enter(self._client.peer, entrance, daemon.audit, name)
        if entrant is not None and not daemon.has_room_for(entrant.identity):
            daemon.end_context(name)
            facts = {"identity": entrant.name, **self._client.facts()}
            event(logging.WARNING, "context refused", reason="limit of contexts of the identity", **facts)
            self._answer(frame, Answer(RV.CKR_HOST_MEMORY))
            return
        view = self._view = entrance.view if entrant is None else entrance.view.with_virtual_slots
        context = Context(view.homes, view.start(), daemon.config.limits.sessions)
        guard = entrant.guard if entrant is not None else None
        self.binding = binding = Binding(context, view.backends, self, name, daemon.config.limits.ending, guard)
        self.name = name
        if view.has_own_slots:
            try:
                await self._reach(binding, view.homes[0])
            except BackendError as error:
                if error.rv:
                    self._forget()
                    self._client.write(reply_frame(frame, error.rv))
                    return
        else:
            context.slots = await self._look(binding)
            self._events = SlotEvents(view.pools)
        self.set_short_way()
        who = {} if entrant is None else {"identity": entrant.name}
        event(logging.INFO, "context opened", context=name, application=self.application, **who, **self._client.facts())
        self._answer(frame, Answer(RV.CKR_OK, (name.encode(),)))

    async def _finalize(self, frame: Frame, binding: Binding) -> None:
        rv = await binding.finalise()
        self._closed("finalized")
        self._forget()
        if not frame[2] & Flags.POSTED:
            self._client.write(reply_frame(frame, rv))

    def _closed(self, how: str) -> None:
        if self.name:
            sessions = len(self.binding.context.sessions) if self.binding else 0
            event(logging.INFO, "context closed", context=self.name, how=how, sessions=sessions, **self._client.facts())

    def _forget(self) -> None:
        if self.name:
            self._daemon.end_context(self.name)
        self._daemon.changes.leave(self)
        self._events.close()
        self._events = SlotEvents({})
        for waiting, frame in list(self._waiting.items()):
            if waiting.cancel() and not self._client.transport.is_closing():
                self._answer(frame, Answer(RV.CKR_CRYPTOKI_NOT_INITIALIZED))
        self.binding = None
        self.set_short_way()
        self.bound.clear()
        self.name = ""
        self._client.since = self._daemon.now()

    # Calls of sessions and slots

    def _decide(self, binding: Binding, route: Route, frame: Frame, data: bytes) -> None:
        decision = binding.context.decide(route, frame[4])
        if isinstance(decision, Answer):
            self._answer(frame, _or_empty_slot(binding.context, route, frame, data, decision))
            return
        if route in _WRITING and (refusal := binding.context.writing(route, frame[4], _flags(route, frame, data))):
            self._answer(frame, refusal)
            return
        link = binding.links.get(decision.backend)
        exclusive = TURNS.get(frame[1])
        turn = None
        if link is not None and _awaits_closes(link, frame):
            late = self._send_late(binding, decision, route, frame, data)
            if route is Route.OPEN_SESSION and len(self._waiting) < MAX_WAITING:
                self._let_wait(late, frame)
            else:
                self._hold(late, frame)
            return
        if link is not None and exclusive is not None:
            turn = binding.backends[decision.backend].turns.take_nowait(exclusive)
        if link is None or (exclusive is not None and turn is None):
            self._hold(self._send_late(binding, decision, route, frame, data), frame)
            return
        try:
            self._send(binding, link, decision, route, frame, data, turn)
        finally:
            if turn is not None and frame[3] not in link.tracked:
                turn.end()

    async def _repeat(self, binding: Binding, frame: Frame, data: bytes) -> None:
        route = _ROUTES[frame[1]]
        decision = binding.context.decide(route, frame[4])
        if isinstance(decision, Answer):
            self._answer(frame, decision)
        else:
            await self._send_late(binding, decision, route, frame, data, again=False)

    async def _send_late(
        self, binding: Binding, decision: Relay, route: Route, frame: Frame, data: bytes, *, again: bool = True
    ) -> None:
        """Send a request when the sessions are closed that it may depend on, its backend is reached and it is its turn."""
        try:
            if (link := binding.links.get(decision.backend)) is not None and _awaits_closes(link, frame):
                await link.closed()
            link = await self._reach(binding, decision.backend)
        except BackendError:
            if binding is self.binding:
                self._answer(frame, self._own_answer(route, frame, data, ()))
            return
        exclusive = TURNS.get(frame[1])
        turn = None
        if exclusive is not None:
            turn = await binding.backends[decision.backend].turns.take(exclusive)
        try:
            if binding is not self.binding:
                pass  # The client has gone, or ended the context.
            elif binding.links.get(decision.backend) is not link:
                self._answer(frame, Answer(RV.CKR_DEVICE_ERROR))
            else:
                self._send(binding, link, decision, route, frame, data, turn, again=again)
        except WireError:
            self._answer(frame, Answer(RV.CKR_ARGUMENTS_BAD))
        finally:
            if turn is not None and frame[3] not in link.tracked:
                turn.end()

    def _send(
        self,
        binding: Binding,
        link: Link,
        decision: Relay,
        route: Route,
        frame: Frame,
        data: bytes,
        turn: Turn | None,
        *,
        again: bool = True,
    ) -> None:
        if frame[3] in link.in_flight:
            self._client.refuse("a request id is used twice at a time")
            return
        handle = frame[4]
        if route is Route.OPEN_SESSION:
            _, chosen = _arguments(frame, data)
            handle = chosen if isinstance(chosen, int) else 0
            # Without a place for the handle nothing is opened, but the module says with which RV.
            if chosen is not None and (refusal := binding.context.opening(handle)) is not None:
                self._answer(frame, refusal)
                return
        if frame[1] == READ_AHEAD:
            if not binding.backends[link.name].options.read_ahead:
                self._answer(frame, Answer(RV.CKR_FUNCTION_NOT_SUPPORTED))
                return
            self._daemon.note_reader(link.name, self)
        again = again and frame[1] in REPEATED
        is_foreign = frame[3] >= OWN_IDS
        needed = self._needs_reply(route) or turn is not None or again or is_foreign or decision.target != frame[4]
        if needed or (frame[1] in CHANGING and self._daemon.changes.concern(link.name, self)):
            # The reply to a posted call that changes sessions is needed here, if not by the client.
            flags = frame[2] & ~Flags.POSTED
            is_unwaited = route is Route.CLOSE_SESSION and frame[2] & Flags.POSTED
            number = link.begin_close() if is_unwaited else link.new_id() if is_foreign else frame[3]
            link.tracked[number] = Tracked(frame, handle, turn, data if again else None)
            link.in_flight[number] = frame
            data = HEADER.pack(*frame[:2], flags, number, decision.target, frame[5]) + data[HEADER_SIZE:]
        elif not frame[2] & Flags.POSTED:
            link.in_flight[frame[3]] = frame
        link.write(data)

    def _needs_reply(self, route: Route) -> bool:
        return route in _TRACKED or (route is Route.SESSION_INFO and not self._view.has_own_slots)

    async def _reach(self, binding: Binding, backend: str) -> Link:
        link = await binding.reach(backend)
        if self._hosts_paused:
            link.host.transport.pause_reading()
        return link

    def _note(self, context: Context, link: Link, route: Route, tracked: Tracked, rv: int) -> None:
        if route is Route.OPEN_SESSION and tracked.session:
            if rv == RV.CKR_OK:
                context.opened(tracked.session, tracked.request[4], link.name)
                self.bound[tracked.session] = link
            else:
                context.not_opened(tracked.session)
        elif rv == RV.CKR_OK and route is Route.CLOSE_SESSION:
            context.closed(tracked.session)
            self.bound.pop(tracked.session, None)
        elif rv == RV.CKR_OK and route is Route.CLOSE_ALL_SESSIONS:
            for handle in context.closed_all(tracked.request[4]):
                self.bound.pop(handle, None)

    # Calls that no backend is asked, or none can be

    def _answer_for_all(self, binding: Binding, route: Route, frame: Frame, data: bytes) -> None:
        room = _arguments(frame, data)[-1]
        if route is Route.SLOT_LIST and isinstance(room, Room) and not room.has_buffer:
            # Only here may the list change (PKCS #11 3.2, section 5.5.1).
            self._hold(self._look_again(binding, frame, data), frame)
            return
        if route is Route.SLOT_EVENT and self._events:
            self._tell_event(binding, frame, data)
            return
        self._answer(frame, self._own_answer(route, frame, data, _virtual(binding.context)))

    def _tell_event(self, binding: Binding, frame: Frame, data: bytes) -> None:
        """Answer C_WaitForSlotEvent where there are pools, now or when one of them comes or goes."""
        flags, slot, reserved = _arguments(frame, data)
        assert isinstance(flags, int)
        if not isinstance(slot, int) or reserved:
            self._answer(frame, Answer(RV.CKR_ARGUMENTS_BAD))
        elif (found := self._events.next(_virtual(binding.context))) is not None:
            self._hold(self._told_event(binding, frame, found), frame)
        elif flags & CKF_DONT_BLOCK:
            self._answer(frame, Answer(RV.CKR_NO_EVENT, (slot,)))
        elif len(self._waiting) >= MAX_WAITING:
            self._answer(frame, Answer(RV.CKR_HOST_MEMORY))
        else:
            self._let_wait(self._wait_for_event(binding, frame), frame)

    async def _wait_for_event(self, binding: Binding, frame: Frame) -> None:
        while (found := self._events.next(_virtual(binding.context))) is None:
            await self._events.wait()
        await self._told_event(binding, frame, found)

    async def _told_event(self, binding: Binding, frame: Frame, slot: int) -> None:
        """Tell of an event, with slots that can be used accordingly."""
        binding.context.slots = await self._look(binding)
        if binding is self.binding:
            self._answer(frame, Answer(RV.CKR_OK, (slot,)))

    async def _look(self, binding: Binding) -> VirtualSlots:
        if self.entrant is not None and self.entrant.identity is None:
            return VirtualSlots({})  # No host is started for who sees nothing.
        slots = await self._view.look(binding)
        return slots if self.entrant is None else self.entrant.see(slots)

    async def _look_again(self, binding: Binding, frame: Frame, data: bytes) -> None:
        binding.context.slots = slots = await self._look(binding)
        self._answer(frame, self._own_answer(Route.SLOT_LIST, frame, data, slots))

    def _own_answer(self, route: Route, frame: Frame, data: bytes, slots: VirtualSlots | tuple[()]) -> Answer:
        if route not in _OF_MODULE:
            return unreachable(route)
        try:
            arguments = _arguments(frame, data)
        except WireError:
            return Answer(RV.CKR_ARGUMENTS_BAD)
        if route is Route.SLOT_LIST:
            token_present, room = arguments
            assert isinstance(room, Room)
            return slot_list(room, slots.numbers(token_present=bool(token_present)) if slots else ())
        if route is Route.INFO:
            (wanted,) = arguments
            return Answer(RV.CKR_OK, (own_info(self._daemon.version),)) if wanted else Answer(RV.CKR_ARGUMENTS_BAD)
        flags, slot, _ = arguments
        assert isinstance(flags, int)
        return slot_event(flags, slot if isinstance(slot, int) else None)

    def _let_wait(self, work: Coroutine[Any, Any, None], frame: Frame) -> None:
        # The client goes on meanwhile; the call ends with the context at the latest.
        task = self._daemon.tasks.start(work, call_name(frame))
        self._waiting[task] = frame
        task.add_done_callback(self._waiting.pop)

    def _hold(self, work: Coroutine[Any, Any, None], frame: Frame) -> None:
        self._client.hold(work, call_name(frame))

    def _answer(self, frame: Frame, answer: Answer) -> None:
        if not frame[2] & Flags.POSTED:
            body = encode_reply(CALLS[frame[1] - 1], answer.values) if answer.values else b""
            self._client.write(reply_frame(frame, answer.rv, body))


_WRITING: Final = frozenset({Route.OPEN_SESSION, Route.INIT_TOKEN})
"""Calls that a write-protected token refuses, or may refuse."""
_ROUTES: Final = {**ROUTES, READ_AHEAD: Route.SESSION}

_TRACKED: Final = frozenset({Route.OPEN_SESSION, Route.CLOSE_SESSION, Route.CLOSE_ALL_SESSIONS})
"""Calls whose success changes what the gateway keeps."""


def _awaits_closes(link: Link, frame: Frame) -> bool:
    """Tell whether a call has to come after ends of sessions that are under way. These themselves end nothing else."""
    return bool(link.closes) and frame[1] in AFTER_CLOSES and not frame[2] & Flags.POSTED


def _arguments(frame: Frame, data: bytes) -> tuple[Value, ...]:
    return decode_request(CALLS[frame[1] - 1], frame[5], memoryview(data)[HEADER_SIZE:])


def _virtual(context: Context) -> VirtualSlots:
    """Return the slots of a context that does not see a module's own."""
    assert isinstance(context.slots, VirtualSlots)
    return context.slots


def _flags(route: Route, frame: Frame, data: bytes) -> int:
    """Return the flags that C_OpenSession is given; 0 for another call."""
    flags = _arguments(frame, data)[0] if route is Route.OPEN_SESSION else 0
    assert isinstance(flags, int)
    return flags


def _or_empty_slot(context: Context, route: Route, frame: Frame, data: bytes, answer: Answer) -> Answer:
    """Return the answer, or CK_SLOT_INFO of a slot whose token is not there."""
    slots = context.slots
    rule = slots.absent(frame[4]) if route is Route.SLOT_INFO and isinstance(slots, VirtualSlots) else None
    if rule is None or not _arguments(frame, data)[0]:
        return answer
    return Answer(RV.CKR_OK, (empty_slot(rule.name),))


def _protected(body: bytes) -> bytes:
    """Put CKF_WRITE_PROTECTED into the reply to C_GetTokenInfo."""
    call = call_named("C_GetTokenInfo")
    values = decode_reply(call, body)
    if not values or not isinstance(values[0], TokenInfo):
        return body
    return encode_reply(call, (write_protected(values[0]),))


def _with_slot(body: bytes, session: Session | None) -> bytes:
    """Put the client's number of the slot into the reply to C_GetSessionInfo."""
    call = call_named("C_GetSessionInfo")
    values = decode_reply(call, body)
    if session is None or not values or not isinstance(values[0], SessionInfo):
        return body
    return encode_reply(call, (replace(values[0], slot=session.slot),))
