"""One context at a pool: takes the native frames of a client and answers them by asking the members.

What can be decided at once goes the short way: `receive` picks a lane that is ready, puts the member's object handle into the header and
sends the frame; `replied` hands the reply on. There is no task and no future in it. All else is work for a task (`keyway.daemon.pool.works`),
and so is a call of the short way that fails. A session has one call under way; what comes behind it waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from keyway.cryptoki import CALLS, RV, SHAPES
from keyway.daemon.backend import BackendError
from keyway.daemon.link import Frame, LinkLost
from keyway.daemon.pool import works
from keyway.daemon.pool.errors import Overdue
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.session import PoolCall, PoolSession, call_name
from keyway.daemon.pool.ways import NAMES_KEY, WAYS, Way
from keyway.daemon.survey import survey
from keyway.gateway.pool.choice import choose
from keyway.gateway.pool.identity import FIRST_SESSION_OBJECT
from keyway.gateway.pool.replay import UNREPEATABLE
from keyway.gateway.pool.signals import SIGNALS, Signal, classify
from keyway.gateway.pool.translate import SHAPES_WITH_HANDLES
from keyway.observe.log import event
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER, HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.backend.stream import Stream
    from keyway.daemon.pool.login import Login
    from keyway.daemon.pool.member import Member
    from keyway.daemon.pool.pool import Pool
    from keyway.daemon.pool.stream import PoolTransport

__all__ = ["PoolContext"]

_UNPACK: Final = HEADER.unpack_from
_PACK: Final = HEADER.pack

_TROUBLE: Final = frozenset(
    rv for rv, signal in SIGNALS.items() if signal in (Signal.LOST, Signal.SESSION, Signal.BUSY)
)
"""RVs that are not handed on without a second look."""
_QUICK: Final = frozenset(
    number for number, way in WAYS.items() if way in (Way.BEGIN, Way.OPERATION, Way.READ, Way.ANY)
)
"""Calls that may take the short way."""
_KEYED: Final = frozenset(number for number in NAMES_KEY if number in _QUICK)
_BEGINNINGS: Final = frozenset(number for number, way in WAYS.items() if way is Way.BEGIN)
_UNBOUND: Final = _QUICK - frozenset(number for number, way in WAYS.items() if way is Way.OPERATION)
"""Those of them that need no operation to be active."""
_COLD: Final = 2
"""Which call of a session has it made ready at the other members."""
_FROZEN: Final = 256
"""After how many more calls that is tried again, if something came between."""
_AVOIDED: Final = 10.0
"""Seconds for which a member that has not answered in time is avoided, unless the answer comes after all."""
_ENDS_IDLE: Final = 1.0
"""Seconds that a host has to end with which nothing was begun."""
_ENDS_WORK: Final = 60.0
"""Seconds that a silent module has to end by itself when it may be writing its token: whoever kills it then may lose that."""


class PoolContext:
    """The pool's end of a stream.

    Attributes:
        pool: The pool.
        sessions: The open sessions.
        lanes: The lanes by the member's name. Lost ones are not there.
        login: Who is logged in; None for nobody.
        objects: The session objects by name: the session that they belong to, and the frame that made them, if they can be made again.
        working: The calls that take a task, by that task.
        kept: Names that objects keep in this context although what they are made from was changed: the first name by the present one.
        late: Members that did not answer in time: until when they are avoided, by the monotonic clock.
        logging_in: Held during a login, so that there is one at a time.
    """

    def __init__(self, pool: Pool, transport: PoolTransport) -> None:
        self.pool = pool
        self.sessions: dict[int, PoolSession] = {}
        self.lanes: dict[str, Lane] = {}
        self.login: Login | None = None
        self.objects: dict[int, tuple[int, bytes | None]] = {}
        self.kept: dict[int, int] = {}
        self.late: dict[str, float] = {}
        self.logging_in = asyncio.Lock()
        self.is_closed = False
        self._transport = transport
        self._openings: dict[str, asyncio.Task[Lane]] = {}
        self.working: dict[asyncio.Task[None], PoolCall] = {}
        self._paused: set[Lane] = set()
        self._last_object = 0
        self._unfinished = 0

    # From the client

    def receive(self, data: bytes) -> None:
        """Take whole frames."""
        at = 0
        end = len(data)
        while at < end:
            frame: Frame = _UNPACK(data, at)
            stop = at + HEADER_SIZE + frame[0]
            self.take(frame, data if at == 0 and stop == end else data[at:stop])
            at = stop

    def take(self, frame: Frame, data: bytes) -> None:
        """Take one request."""
        session = self.sessions.get(frame[4])
        if session is None or frame[1] not in _OF_SESSIONS:
            self._elsewhere(frame, data)
        elif session.current is not None:
            session.queue.append((frame, data))
        else:
            self._begin(session, frame, data)

    def _begin(self, session: PoolSession, frame: Frame, data: bytes) -> None:
        call = PoolCall(frame, data, session)
        session.current = call
        if frame[1] in _QUICK and self._go_short(session, call):
            return
        self.work(works.make(self, call), call)

    def _go_short(self, session: PoolSession, call: PoolCall) -> bool:
        """Send a call at once if a lane is ready for it; return whether it was sent."""
        frame = call.frame
        data = call.data
        number = frame[1]
        name = frame[5] if number in _KEYED or frame[2] & Flags.FUSED else 0
        if frame[2] & Flags.POSTED:
            return False
        lane = session.bound
        if lane is None and (frame[2] & Flags.FUSED or number in _UNBOUND):
            if (frame[2] & Flags.FUSED or number in _BEGINNINGS) and not _is_plain(data):
                return False
            lane = self._lane_for(session, name)
            if lane is None:
                return False
        else:
            # Without an operation the member that the session was opened at says so.
            lane = lane or self.lanes.get(session.home.name)
            if lane is None or not self.is_ready(lane, session):
                return False
        if name:
            handle = lane.directory.handle(name)
            if handle is None:
                return False
        else:
            handle = frame[5]
        call.lane = lane
        call.member = member = lane.member
        member.outstanding += 1
        target = lane.sessions[session.handle]
        lane.send(frame[3], call, _PACK(frame[0], number, frame[2], frame[3], target, handle) + data[HEADER_SIZE:])
        return True

    def is_ready(self, lane: Lane, session: PoolSession) -> bool:
        """Tell whether a session can be used on a lane at once."""
        return (
            lane.is_ready
            and session.handle in lane.sessions
            and lane.login is self.login
            and session.handle not in lane.stuck
        )

    def _lane_for(self, session: PoolSession, name: int) -> Lane | None:
        """Return the lane that is chosen for an object, or for none; None if this is no matter of a moment."""
        lanes = self.lanes
        late = self.late
        login = self.login
        is_ordered = self.pool.is_ordered
        able: list[Member] = []
        is_cold = False
        for member in self.pool.usable:
            if member.is_standby and (able or is_cold):
                break
            if late and member.name in late:
                continue
            lane = lanes.get(member.name)
            if lane is None or not self.is_ready(lane, session):
                if lane is not None and login is not None and lane.refused is login:
                    continue
                # Whoever is ready serves meanwhile, also where there is an order: to make a member ready takes longer than a call may.
                is_cold = True
            elif not name or lane.directory.handle(name) is not None:
                able.append(member)
                if is_ordered:
                    break
        if is_cold:
            self._warm(session)
        if not able:
            return None
        if len(able) == 1:
            return lanes[able[0].name]
        chosen = choose(self.pool.policy, able, self.pool.turn())
        return None if chosen is None else lanes[chosen.name]

    def _warm(self, session: PoolSession) -> None:
        """Have a session that works on made ready at the other members too: one that makes a single call needs none of them."""
        session.cold += 1
        if session.cold == _COLD:
            self.pool.warm_up(self, session)
        elif session.cold > _FROZEN:
            session.cold = 0

    def _elsewhere(self, frame: Frame, data: bytes) -> None:
        """Take a request that has no session of ours."""
        way = WAYS.get(frame[1])
        if way is not None and way not in _WITHOUT_SESSION:
            self.answer(frame, RV.CKR_SESSION_HANDLE_INVALID)
            return
        stand_in = PoolSession(0, 0, self.pool.members[0], 0)
        call = PoolCall(frame, data, stand_in)
        self.work(works.make(self, call), call)

    def work(self, work: Coroutine[Any, Any, Reply], call: PoolCall) -> None:
        """Do what takes a task, then answer the call with what comes of it."""
        task = self.pool.tasks.start(self._worked(work, call), f"pool {call_name(call.frame)}")
        self.working[task] = call
        task.add_done_callback(self._worked_out)

    def _worked_out(self, task: asyncio.Task[None]) -> None:
        del self.working[task]

    async def _worked(self, work: Coroutine[Any, Any, Reply], call: PoolCall) -> None:
        reply = Reply((0, call.frame[1], 0, 0, 0, RV.CKR_GENERAL_ERROR), b"")
        try:
            reply = await work
        except WireError:
            reply = Reply((0, call.frame[1], 0, 0, 0, RV.CKR_ARGUMENTS_BAD), b"")
        finally:
            self.answer(call.frame, reply.rv, reply.body, reply.flags)
            self._finish(call)

    def answer(self, frame: Frame, rv: int, body: bytes = b"", flags: int = 0) -> None:
        """Answer a request.

        Args:
            frame: Its header.
            rv: The RV.
            body: The reply's body.
            flags: Flags of the reply besides REPLY.
        """
        if not frame[2] & Flags.POSTED:
            head = _PACK(len(body), frame[1], flags | Flags.REPLY, frame[3], frame[4], rv)
            self._transport.deliver(head + body)

    def _finish(self, call: PoolCall) -> None:
        call.is_over = True
        session = call.session
        if session.current is call:
            session.current = None
        while session.queue and session.current is None:
            frame, data = session.queue.popleft()
            self.take(frame, data)

    # From the lanes

    def replied(self, lane: Lane, call: PoolCall, frame: Frame, data: bytes) -> None:
        """Hand a reply on, unless it tells of trouble."""
        member = lane.member
        member.outstanding -= 1
        session = call.session
        if call.is_over or call.lane is not lane:
            self.unstuck(lane, session.handle)
            return
        rv = frame[5]
        if rv and (rv in _TROUBLE or rv in member.vendor):
            signal = classify(rv, member.vendor)
            if signal not in (Signal.DONE, Signal.CALLER):
                member.served += 1
                self.pool.note(call.frame[1], member, rv, call.sent)
                reply = Reply(frame, data[HEADER_SIZE:])
                self._recover(call, lane, signal, reply)
                return
        if frame[4] != call.frame[4]:
            data = _PACK(*frame[:4], call.frame[4], rv) + data[HEADER_SIZE:]
        self._transport.deliver(data)
        # The client does not wait for what is noted.
        member.served += 1
        self.pool.note(call.frame[1], member, rv, call.sent)
        if CALLS[call.frame[1] - 1].operation:
            session.note(lane, call.frame, call.data, rv, data)
        call.is_over = True
        session.current = None
        if session.queue:
            self._finish(call)

    def lane_lost(self, lane: Lane, calls: list[PoolCall]) -> None:
        """Look for another way for what was under way."""
        self.lane_busy(lane, False)
        if self.lanes.get(lane.member.name) is lane:
            del self.lanes[lane.member.name]
        lane.member.outstanding -= len(calls)
        if self.is_closed:
            return
        if not lane.ending:
            self.pool.lane_lost(lane, [call_name(call.frame) for call in calls if not call.is_over])
        for call in calls:
            if not call.is_over and call.lane is lane:
                self._recover(call, lane, Signal.LOST, None)

    def lane_busy(self, lane: Lane, busy: bool) -> None:
        """Read no more requests while a member is slow to take them."""
        was = bool(self._paused)
        if busy:
            self._paused.add(lane)
        else:
            self._paused.discard(lane)
        if bool(self._paused) != was:
            self._transport.set_busy(bool(self._paused))

    def lane_news(self, lane: Lane) -> None:
        """Pass on that objects have changed behind a lane."""
        self.objects_changed()
        self._transport.news()

    def overdue(self, lane: Lane, call: PoolCall) -> None:
        """Look for another way for a call that takes too long. The lane can't be used for its session until the reply has come."""
        lane.stuck.add(call.session.handle)
        self.avoid(lane.member)
        self._recover(call, lane, Signal.LOST, None)

    def avoid(self, member: Member) -> None:
        """Have this context's calls made elsewhere for a while, if that can be: each would wait anew."""
        self.late[member.name] = monotonic() + _AVOIDED

    def unstuck(self, lane: Lane, session: int) -> None:
        """Close a session on a lane: what was given up there has been executed, and nobody knows what it did."""
        self.late.pop(lane.member.name, None)
        if session in lane.stuck:
            lane.stuck.discard(session)
            self.drop(lane, session)

    def drop(self, lane: Lane, session: int) -> None:
        """Close a session on a lane, and forget what it has there. When it is needed, it is opened anew.

        Args:
            lane: The lane.
            session: The client's handle.
        """
        lane.drop(session)
        if (client := self.sessions.get(session)) is not None:
            client.is_adrift = client.is_adrift or client.bound is lane
            for name in client.objects:
                lane.directory.remove_name(name)

    def _recover(self, call: PoolCall, lane: Lane, signal: Signal, reply: Reply | None) -> None:
        call.lane = None  # What may still come from there is not for the client.
        self.work(works.recover(self, call, lane, signal, reply), call)

    # Lanes

    async def lane(self, member: Member, until: float) -> Lane:
        """Return the lane to a member, opening it if there is none.

        Args:
            member: The member.
            until: When to stop waiting, by the monotonic clock. The opening goes on all the same.

        Raises:
            LinkLost: It can't be had, or not in time.
        """
        if self.is_closed:
            raise LinkLost
        if (lane := self.lanes.get(member.name)) is not None and lane.is_ready:
            return lane
        opening = self._openings.get(member.name)
        if opening is None:
            opening = self.pool.tasks.start(self._open(member), f"lane to {member.name}", (LinkLost,))
            self._openings[member.name] = opening
            opening.add_done_callback(lambda _: self._openings.pop(member.name, None))
        done, _ = await asyncio.wait({opening}, timeout=max(0.0, until - monotonic()))
        if not done:
            raise Overdue
        if opening.cancelled() or opening.exception() is not None:
            raise LinkLost
        return opening.result()

    async def _open(self, member: Member) -> Lane:
        try:
            lane = await open_lane(member, self)
        except BackendError as error:
            self.pool.member_failed(member, str(error))
            raise LinkLost from error
        if self.is_closed:
            lane.end(self.pool.ending)
            raise LinkLost
        self.lanes[member.name] = lane
        if self._transport.is_paused:
            lane.host.transport.pause_reading()
        return lane

    def rename(self, before: str, after: str) -> None:
        """Take note that a member has another name."""
        if before in self.lanes:
            self.lanes[after] = self.lanes.pop(before)
        if before in self._openings:
            self._openings[after] = self._openings.pop(before)
        self.late.pop(before, None)

    def session_closed(self, handle: int) -> None:
        """Note that a session is closed, and what ends with it."""
        session = self.sessions.pop(handle, None)
        if session is not None:
            for name in session.objects:
                self.forget_object(name)
        if not self.sessions:
            self.logged_out()

    def forget_object(self, name: int) -> None:
        """Forget a session object."""
        self.objects.pop(name, None)
        for lane in self.lanes.values():
            lane.directory.remove_name(name)

    def logged_out(self) -> None:
        """Note that nobody is logged in any more."""
        if self.login is not None:
            self.login.wipe()
            self.login = None
        for lane in self.lanes.values():
            lane.forget_login()

    def forget_lost_login(self) -> bool:
        """Tell whether somebody was logged in and is not any more: the PIN was not kept, and those who were given it are gone."""
        login = self.login
        if login is None or login.can_be_repeated or any(lane.login is login for lane in self.lanes.values()):
            return False
        self.logged_out()
        return True

    def objects_changed(self) -> None:
        """Note that what was listed may not be all."""
        for lane in self.lanes.values():
            lane.listed = 0.0

    def keep_names(self, lane: Lane) -> None:
        """Let changed objects have their first names in a new listing."""
        lane.directory.keep(self.kept)

    def next_object(self) -> int:
        """Return a name for a new session object."""
        self._last_object += 1
        return FIRST_SESSION_OBJECT + self._last_object

    # The end

    async def finalise(self) -> None:
        """Call C_Finalize wherever C_Initialize was called."""

        async def one(lane: Lane) -> None:
            try:
                async with asyncio.timeout(self.pool.ending):
                    await lane.call(_FINALIZE, b"")
            except (TimeoutError, LinkLost):
                pass

        for lane in self.lanes.values():
            lane.ending = True
        await asyncio.gather(*map(one, list(self.lanes.values())))

    @contextmanager
    def unfinished(self) -> Iterator[None]:
        """Keep the lanes, also when the client goes meanwhile: what is made at several members is not left half done."""
        self._unfinished += 1
        try:
            yield
        finally:
            self._unfinished -= 1
            if self.is_closed and not self._unfinished:
                self._end()

    def close(self) -> None:
        """End all lanes."""
        if self.is_closed:
            return
        self.is_closed = True
        if not self._unfinished:
            self._end()

    def _end(self) -> None:
        self.logged_out()
        for lane in list(self.lanes.values()):
            lane.end(_ENDS_WORK if lane.is_writing else self.pool.ending)
        self.sessions.clear()
        self.objects.clear()

    async def wait_ended(self) -> None:
        """Wait until nothing of it is left."""
        while self._openings or self.working:
            await asyncio.gather(*self._openings.values(), *self.working, return_exceptions=True)
            await asyncio.sleep(0)

    def sweep(self, now: float) -> None:
        """Look for what takes too long.

        Args:
            now: Seconds of the monotonic clock.
        """
        for name in [name for name, until in self.late.items() if until < now]:
            del self.late[name]
        for lane in list(self.lanes.values()):
            if lane.in_flight:
                self.pool.look_at(self, lane, now)

    def give_up(self, lane: Lane) -> None:
        """Take a lane for lost because its other end is silent."""
        event(
            logging.ERROR, "member silent", token=self.pool.token_name, member=lane.member.shown, host=lane.host.place
        )
        self.avoid(lane.member)
        self.pool.abandon(lane, _ENDS_WORK if lane.is_writing else self.pool.ending)


_FINALIZE: Final = next(call.number for call in CALLS if call.name == "C_Finalize")
_WITHOUT_SESSION: Final = frozenset({Way.OPEN_SESSION, Way.CLOSE_ALL_SESSIONS})
_OF_SESSIONS: Final = frozenset(number for number, way in WAYS.items() if way not in _WITHOUT_SESSION)


async def open_lane(member: Member, owner: Any) -> Lane:
    """Open a stream to a member, initialise the module there and find the member's token.

    Raises:
        BackendError: It can't be reached, or has no such token.
    """
    backend = member.backend
    lane = Lane(member, await _counted(member, backend.stream()), owner)
    try:
        await backend.initialise(lane)
        turn = await backend.turns.take(exclusive=False)
        try:
            async with asyncio.timeout(backend.options.start_timeout):
                seen = await survey(lane)
        finally:
            turn.end()
        place = next((each for each in seen if member.rule.fits(each) and each.token is not None), None)
        if place is None:
            raise BackendError("the token is not there")
        lane.slot = place.place.slot
        member.slot_info, member.token = place.info, place.token
        lane.is_ready = True
        return lane
    except (TimeoutError, LinkLost, WireError) as error:
        raise BackendError(str(error) or "no answer") from error
    finally:
        if not lane.is_ready:
            lane.end(_ENDS_IDLE)


async def _counted(member: Member, opening: Awaitable[Stream]) -> Stream:
    """Open a stream to a member, which has it from the beginning of this until the other end has gone."""
    member.streams += 1
    try:
        stream = await opening
    except BaseException:
        member.streams -= 1
        raise
    stream.ended.add_done_callback(member.stream_ended)
    return stream


def _is_plain(data: bytes) -> bool:
    """Tell whether the mechanism that a request begins with may be made anywhere, and names no object."""
    if len(data) < HEADER_SIZE + _LEAST or data[HEADER_SIZE] != 1:
        return False  # Malformed, or NULL, which ends an operation.
    if int.from_bytes(data[HEADER_SIZE + 1 : HEADER_SIZE + 9]) in UNREPEATABLE:
        return False
    if data[HEADER_SIZE + 9] != _STRUCTURED:
        return True
    return int.from_bytes(data[HEADER_SIZE + 10 : HEADER_SIZE + 12]) not in _LOOKED_AT


_LEAST: Final = 12
"""Bytes of which a mechanism has at least as many, as far as they are looked at."""
_LOOKED_AT: Final = SHAPES_WITH_HANDLES | {number for number, shape in SHAPES.items() if shape.out}
"""Shapes with object handles in them, or to which the token writes."""
_STRUCTURED: Final = 2
"""Tag of a parameter that is a structure (docs/wire.md, section 4.1)."""
