"""A pool: what its members have in common, and what all contexts know of them."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from keyway.backend.connection import Connection
from keyway.backend.host import Host
from keyway.backend.turns import Turns
from keyway.config import BackendOptions, MemberOptions, TokenOptions
from keyway.cryptoki import CALLS, RV, Effect, call_named, rv_name
from keyway.daemon.backend import Backend, BackendError
from keyway.daemon.link import LinkLost
from keyway.daemon.pin_file import read_pin_file
from keyway.daemon.pool.check import Report, check
from keyway.daemon.pool.context import PoolContext, open_lane
from keyway.daemon.pool.draining import sweep
from keyway.daemon.pool.lane import HEARTBEAT, Ask, Lane, Nobody
from keyway.daemon.pool.listing import Refused, list_objects
from keyway.daemon.pool.login import Login
from keyway.daemon.pool.mechanisms import ask_mechanisms
from keyway.daemon.pool.member import Member
from keyway.daemon.pool.names import HOME
from keyway.daemon.pool.preparing import prepare
from keyway.daemon.pool.session import PoolSession, call_name
from keyway.daemon.pool.stream import PoolStream
from keyway.daemon.pool.tokens import slot_info, token_info
from keyway.daemon.pool.ways import LONG
from keyway.gateway.pool import merge
from keyway.gateway.pool.binding import reasons
from keyway.gateway.pool.choice import Policy
from keyway.gateway.pool.health import Event, State, probe_due
from keyway.gateway.pool.signals import Signal, classify
from keyway.gateway.slots import BackendSlot, SeenSlot
from keyway.observe.log import event
from keyway.wire.errors import WireError

if TYPE_CHECKING:
    from keyway.backend.stream import Stream
    from keyway.daemon.tasks import Tasks
    from keyway.observe.metrics import Counters

__all__ = ["Pool"]

TICK: Final = 0.1
"""Seconds between two looks for what takes too long, and for probes that are due."""
_PULSE: Final = 1.0
"""Seconds between two signs of life that a module host is asked for during a long call."""
_SHARED: Final = frozenset(call.number for call in CALLS if call.effect in (Effect.LOGIN, Effect.OBJECTS, Effect.TOKEN))
"""Calls during which a module host goes on reading, even if it has one session. Others have the deadline alone."""


class Pool:
    """Gives out streams as a backend does.

    Attributes:
        token_name: The token's name in the configuration.
        name: What it is called among the backends.
        token: The token's section of the configuration.
        members: The members in the order of the configuration.
        leaving: Members that are not configured any more, and are held by something still.
        usable: Those of them that can be given work now, standbys last.
        policy: How a member is chosen.
        is_ordered: Whether the policy is that of an order.
        tasks: What runs beside the loop's callbacks.
        changes: How often the token has come or gone: its last usable member, or the first one.
        watchers: What is set when that happens.
        contexts: Those that have a stream to it.
        known: Set when each member has been probed once.
        is_stale: Whether what the tokens told of themselves may have changed.
        failovers: How often a call went on at another member.
        disagreements: In how much the members were found to differ when they were compared last; None if they were not.
        ending: Seconds that a host has to end.
        crashes: For those that take it for a backend.
    """

    def __init__(
        self,
        name: str,
        options: TokenOptions,
        members: tuple[MemberOptions, ...],
        backends: Mapping[str, Backend],
        tasks: Tasks,
        counters: Counters,
        ending: float,
    ) -> None:
        """Prepare a pool. Needs a running loop.

        Args:
            name: The token's name.
            options: Its section of the configuration.
            members: Its members.
            backends: The backends by name.
            tasks: What runs beside the loop's callbacks.
            counters: Where calls are counted.
            ending: Seconds that a host has to end before it is killed.
        """
        self.token_name = name
        self.name = HOME.format(name)
        self.tasks = tasks
        self._counters = counters
        self.ending = ending
        self.turns = Turns(needed=False)
        self.options = BackendOptions(spares=0)
        self.crashes = 0
        self.members = [Member(each, backends[each.backend]) for each in members]
        self.leaving: list[Member] = []
        self.usable: list[Member] = []
        self.take_options(options)
        self.changes = 0
        self.watchers: set[asyncio.Event] = set()
        self.contexts: set[PoolContext] = set()
        self.known = asyncio.Event()
        self.is_stale = False
        self.failovers = 0
        self.disagreements: int | None = None
        self._turn = 0
        self._key = secrets.token_bytes(32)
        self._probing: set[Member] = set()
        self._abandoned: set[Stream] = set()
        self._comparing = asyncio.Lock()
        self._comparison_is_due = False

    def take_options(self, options: TokenOptions) -> None:
        """Go by a section of the configuration from now on. Its members are another matter."""
        self.token = options
        self.policy = Policy(options.policy)
        self.is_ordered = self.policy is Policy.FAILOVER
        self.deadline = options.deadline
        self.long_deadline = options.long_deadline
        self.journal = options.journal

    # As a backend

    async def stream(self) -> PoolStream:
        """Return a stream; it belongs to the caller."""
        stream = PoolStream(self)
        self.contexts.add(stream.context)
        return stream

    async def initialise(self, link: Any) -> None:
        """Do nothing: members are initialised when they are needed."""

    async def seen(self) -> SeenSlot:
        """Return the slot as it is seen now."""
        await self.known.wait()
        return SeenSlot(BackendSlot(self.name, 0), slot_info(self), token_info(self))

    def backends(self) -> set[Backend]:
        """Return the backends of all members, those that leave among them."""
        return {member.backend for member in (*self.members, *self.leaving)}

    @property
    def is_idle(self) -> bool:
        """Whether no context has a stream to it, and nothing is left of those that had."""
        return not self.contexts and not self._abandoned

    def left(self, context: PoolContext) -> None:
        """Forget a context that is over."""
        self.contexts.discard(context)

    # For the contexts

    def turn(self) -> int:
        """Return a number that is another each time."""
        self._turn += 1
        return self._turn

    def budget(self, number: int) -> float:
        """Return how many seconds a call may take, with all members that it is tried at."""
        return self.long_deadline if number in LONG else self.deadline

    def limit(self, number: int, left: float) -> float:
        """Return how many seconds one member may take.

        Args:
            number: Call number.
            left: Seconds that are left for the call.
        """
        if number in LONG or len(self.usable) < 2:
            return left
        return min(left, self.deadline / 2)

    def note(self, number: int, member: Member, rv: int, since: float) -> None:
        """Note that a member has answered a call.

        Args:
            number: Call number.
            member: The member.
            rv: The RV.
            since: When it was asked, by the monotonic clock.
        """
        meaning = "done" if rv == RV.CKR_OK else classify(rv, member.vendor).name.lower()
        self._counters.note(number, self.token_name, member.shown, meaning, monotonic() - since)

    def failed_over(self, member: Member, number: int, signal: Signal) -> None:
        """Note that a call goes on at another member.

        Args:
            member: The member that it leaves.
            number: Call number.
            signal: Why.
        """
        self.failovers += 1
        self._counters.failover(self.token_name, member.shown, signal.name.lower())
        event(
            logging.DEBUG,
            "failed over",
            token=self.token_name,
            member=member.shown,
            call=call_name((0, number, 0, 0, 0, 0)),
        )

    @property
    def quorum(self) -> int:
        """On how many members a change must be made."""
        return self.token.quorum or len(self.members)

    def first_for_writes(self) -> list[Member]:
        """Return the one member that new objects are made at, in a list; an empty one if there is none."""
        return self.usable[:1]

    def searched(self) -> list[Member]:
        """Return the members at which is searched: the standbys only if there is nobody else."""
        return [member for member in self.usable if not member.is_standby] or list(self.usable)

    def asked(self) -> list[Member]:
        """Return the members whose mechanisms count: those that have been seen."""
        return [member for member in self.members if member.mechanisms is not None]

    def mechanisms(self) -> tuple[int, ...]:
        """Return the mechanisms that all members have."""
        return merge.mechanisms([member.mechanisms for member in self.asked() if member.mechanisms is not None])

    def objects_changed(self, changer: PoolContext) -> None:
        """Note that a context has changed token objects: the others list them anew when they miss one."""
        for context in self.contexts:
            if context is not changer:
                context.objects_changed()

    def object_changed(self, name: int) -> None:
        """Note that an object was changed: who knows it asks anew what it is. The name that it has now is forgotten."""
        for context in self.contexts:
            context.kept = {present: first for present, first in context.kept.items() if first != name}
            for lane in context.lanes.values():
                lane.directory.doubt(name)
                lane.listed = 0.0

    def object_renamed(self, first: int, present: Iterable[int]) -> None:
        """Let all contexts that know an object go on to know it by its first name, also at members that they have not listed yet.

        Args:
            first: The first name.
            present: Those that it has got by being changed.
        """
        for context in self.contexts:
            if any(lane.directory.handle(first) is not None for lane in context.lanes.values()):
                context.kept |= dict.fromkeys(present, first)

    def digest(self, login: Login) -> bytes:
        """Return what a refused login is remembered by. Nobody can tell the PIN from it without the key, which is never stored."""
        return blake2b(login.key(), key=self._key).digest()

    def warm_up(self, context: PoolContext, session: PoolSession) -> None:
        """Make ready in the background what a session will need when its member fails, or when it is another one's turn."""
        self.tasks.start(self._warm_up(context, session), "pool warm-up")

    async def _warm_up(self, context: PoolContext, session: PoolSession) -> None:
        async def one(member: Member) -> None:
            try:
                until = monotonic() + self.long_deadline
                lane = await context.lane(member, until)
                if session.handle not in context.sessions:
                    return
                await prepare(context, lane, session, (), until)
                async with lane.preparing:
                    if not lane.listed:
                        await list_objects(lane, session.flags, self.deadline)
                        context.keep_names(lane)
            except (LinkLost, Refused, WireError):
                pass  # Whoever needs it will see.

        await asyncio.gather(*map(one, self.searched()))

    # The gateway's own PIN

    def own_pin(self) -> bytes | None:
        """Return the PIN that the gateway holds itself; None if there is none, or it can't be read."""
        path = self.token.pin_file
        return None if path is None else read_pin_file(path, self.token_name)

    def own_pin_refused(self, member: Member, rv: int) -> None:
        """Park a member that refuses the gateway's own PIN: it is not tried again."""
        member.parked = f"the PIN of pin_file is refused: {rv_name(rv)}"
        event(logging.ERROR, "member parked", token=self.token_name, member=member.shown, why=member.parked)
        self.count_usable()

    # How the members do

    def count_usable(self) -> None:
        """Find out anew who can be given work."""
        before = bool(self.usable)
        self.usable = sorted(filter(_is_usable, self.members), key=_is_standby)
        if bool(self.usable) is not before:
            self.changes += 1
            for watcher in self.watchers:
                watcher.set()

    def member_failed(self, member: Member, reason: str) -> None:
        """Note that something failed at a member. A probe will tell whether the member has."""
        self._note(member, Event.FAILED, reason)

    def wanted(self) -> None:
        """Note that a call finds nobody to serve it: members that are down are probed before their time."""
        for member in self.members:
            self._note(member, Event.WANTED)

    def lane_lost(self, lane: Lane, calls: list[str]) -> None:
        """Note that the other end of a lane has gone unexpectedly."""
        lane.member.backend.crashes += 1
        self.member_failed(lane.member, f"its {lane.host.kind} ended")
        self.tasks.start(self._report_lost(lane, calls), "member's host ended")

    def abandon(self, lane: Lane, grace: float) -> None:
        """Take a lane for lost whose other end is silent.

        Args:
            lane: The lane.
            grace: Seconds until it is killed.
        """
        self._abandoned.add(lane.host)
        lane.host.ended.add_done_callback(lambda _: self._abandoned.discard(lane.host))
        lane.give_up(grace)

    def close(self) -> None:
        """Kill what is silent: nothing waits for it any more."""
        for host in list(self._abandoned):
            host.kill("it did not answer")

    async def _report_lost(self, lane: Lane, calls: list[str]) -> None:
        lane.host.end(self.ending)
        how = await asyncio.shield(lane.host.ended)  # The end is waited for elsewhere too.
        event(
            logging.ERROR,
            f"{lane.host.kind} ended",
            backend=lane.name,
            token=self.token_name,
            member=lane.member.shown,
            host=lane.host.place,
            how=how,
            calls=",".join(calls),
        )

    def _note(self, member: Member, what: Event, reason: str = "") -> None:
        before = member.health.state
        if member.note(what, random.random(), reason):  # noqa: S311 (spreads probes)
            state = member.health.state
            level = logging.INFO if state is State.UP else logging.WARNING
            if State.DOWN in (before, state) or state is State.SUSPECT or before is State.PROBING:
                event(level, f"member {state.name.lower()}", token=self.token_name, member=member.shown, reason=reason)
        self.count_usable()
        if member.health.state is State.UP and before is not State.UP:
            self.welcome()  # However often it was tried in vain meanwhile.

    def welcome(self) -> None:
        """Have the sessions that work on made ready at members that have come: each when it makes its next calls."""
        for context in self.contexts:
            for session in context.sessions.values():
                session.cold = 0

    async def run(self) -> None:
        """Watch the members until cancelled."""
        await self.probe_all(self.members)
        self.known.set()
        while True:
            await asyncio.sleep(TICK)
            now = monotonic()
            for member in self.members:
                if member.is_drained:
                    sweep(self, member)
                elif probe_due(member.health, now) and member not in self._probing:
                    self._start_probe(member)
                if member.share < 1.0:
                    self._note(member, Event.SERVED)
            for member in list(self.leaving):
                self._let_go(member)
            for context in list(self.contexts):
                context.sweep(now)

    def _let_go(self, member: Member) -> None:
        sweep(self, member)
        if not member.streams:
            self.leaving.remove(member)
            event(logging.INFO, "member left", token=self.token_name, member=member.shown)

    async def probe_all(self, members: Iterable[Member]) -> None:
        """Find out how some members do."""
        await asyncio.wait([self._start_probe(member) for member in members])

    def _start_probe(self, member: Member) -> asyncio.Task[None]:
        return self.tasks.start(self.probe(member), f"probe of {member.name}")

    async def probe(self, member: Member, *, is_trusted: bool = True) -> None:
        """Find out how a member does, by making its module ready once and asking what it can.

        Args:
            member: The member.
            is_trusted: Whether one that was well still serves when a first probe ends badly, until a second one does. One that was never
                seen does not.
        """
        self._probing.add(member)
        was_down = member.health.state is State.DOWN
        self._note(member, Event.PROBE_STARTED)
        member.backend.stock.end_pause()
        try:
            lane = await open_lane(member, Nobody())
            try:
                async with asyncio.timeout(member.backend.options.start_timeout):
                    await ask_mechanisms(lane)
                    lane.ending = True
                    await lane.call(call_named("C_Finalize").number, b"")
            finally:
                lane.end(self.ending)
            self._note(member, Event.PROBE_PASSED)
            if was_down:
                self.compare_soon()
        except (BackendError, LinkLost, TimeoutError, WireError) as error:
            self._note(member, Event.PROBE_FAILED, str(error) or "no answer in time")
            if not is_trusted or member.token is None:
                self._note(member, Event.PROBE_FAILED, str(error) or "no answer in time")
        finally:
            self._probing.discard(member)

    # Whether they agree

    def compare_soon(self) -> None:
        """Compare the members in the background, if the gateway has a PIN to see all that they have."""
        if self.token.pin_file is not None and not self._comparison_is_due:
            self._comparison_is_due = True
            self.tasks.start(self.compare(), "comparison of members")

    async def compare(self) -> Report:
        """Compare the members."""
        async with self._comparing:
            self._comparison_is_due = False
            return await check(self)

    # Whether they answer

    def look_at(self, context: PoolContext, lane: Lane, now: float) -> None:
        """Look for what takes too long on a lane.

        Args:
            context: Whose lane it is.
            lane: The lane.
            now: Seconds of the monotonic clock.
        """
        is_long = is_brief = False
        for each in list(lane.in_flight.values()):
            if isinstance(each, Ask):
                number = each.number
                age = now - each.since
                if each.limit and age > each.limit:
                    if each.number == HEARTBEAT or age > max(each.limit, self.deadline):
                        context.give_up(lane)
                        return
                    lane.expire(each)
            else:
                number = each.frame[1]
                age = now - each.sent
                if age > self.deadline:
                    context.give_up(lane)
                    return
                if each.lane is lane and age > self.limit(each.frame[1], self.deadline):
                    context.overdue(lane, each)
            if number not in _SHARED:
                is_brief = True
            elif age > _PULSE / 2:
                is_long = True
        if is_long and not is_brief:
            self._feel_pulse(lane, now)

    def _feel_pulse(self, lane: Lane, now: float) -> None:
        """Ask a module host whether it is alive. A thread of it must be free to read: during calls that may take long one is."""
        if lane.is_felt or now - lane.felt < _PULSE or len(lane.in_flight) >= lane.member.backend.options.threads:
            return
        if lane.host.kind not in (Host.kind, Connection.kind) or lane.member.backend.options.protocol == "p11-kit":
            return
        lane.is_felt = True
        lane.felt = now
        self.tasks.start(self._felt(lane), "pulse")

    async def _felt(self, lane: Lane) -> None:
        try:
            await lane.ask(HEARTBEAT, b"", limit=max(_PULSE, self.deadline / 2))
        except LinkLost:
            pass
        finally:
            lane.is_felt = False

    # What is shown

    def status(self) -> dict[str, Any]:
        """Return how it goes, for `keyway status`."""
        return {
            "policy": self.token.policy,
            "writes": self.token.writes,
            "members": [member.status() for member in self.members],
            "leaving": [member.status() for member in self.leaving],
            "failovers": self.failovers,
            "contexts": len(self.contexts),
            "sessions": sum(len(context.sessions) for context in self.contexts),
            "bound": sum(
                bool(self.reasons(context, session))
                for context in self.contexts
                for session in context.sessions.values()
            ),
            **({} if self.disagreements is None else {"disagreements": self.disagreements}),
        }

    @staticmethod
    def reasons(context: PoolContext, session: PoolSession) -> list[str]:
        """Return why a session stays at its member."""
        is_so = context.login is not None and context.login.is_so
        return sorted(reasons(session.facts(is_so=is_so)))


def _is_usable(member: Member) -> bool:
    return member.is_usable


def _is_standby(member: Member) -> bool:
    return member.is_standby
