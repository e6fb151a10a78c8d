"""A lane: one context's stream to one member of a pool, and what is known of its other end."""

from __future__ import annotations

import asyncio
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from keyway.backend.segment import LARGE
from keyway.cryptoki import CALLS, RV, Target, Value, call_named
from keyway.cryptoki import Call as CallRow
from keyway.daemon.link import Frame, LinkLost
from keyway.daemon.loans import Loans
from keyway.daemon.pool.errors import Overdue
from keyway.gateway.pool.directory import Directory
from keyway.gateway.routes import TURNS
from keyway.observe.metrics import Answered
from keyway.wire.ahead import NEWS
from keyway.wire.codec import decode_reply, encode_request
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER, HEADER_SIZE, MAX_BODY, Flags

if TYPE_CHECKING:
    from keyway.backend.stream import Stream
    from keyway.daemon.pool.login import Login
    from keyway.daemon.pool.member import Member
    from keyway.daemon.pool.session import PoolCall

__all__ = ["HEARTBEAT", "OWN_IDS", "Ask", "Lane", "LaneOwner", "Nobody", "Reply"]

OWN_IDS: Final = 0x6B65_7977_7000_0000
"""Where the ids of the pool's own requests start: those of clients, and of the daemon beside it, stay below."""
HEARTBEAT: Final = 0x3003
"""A call number that no table has. Whoever reads frames answers it at once, without the module: CKR_FUNCTION_NOT_SUPPORTED."""

_HANDLES: Final = count(0x6B65_7977_0000_0001)
"""Handles of sessions that can't have, or need not have, the client's. Clients count from small numbers."""
_UNPACK: Final = HEADER.unpack_from
_CLOSE: Final = call_named("C_CloseSession").number


class Reply:
    """What came back.

    Attributes:
        frame: The header.
        body: The body.
    """

    __slots__ = ("body", "frame")

    def __init__(self, frame: Frame, body: bytes) -> None:
        self.frame = frame
        self.body = body

    @property
    def rv(self) -> int:
        """The RV."""
        return self.frame[5]

    @property
    def flags(self) -> int:
        """The flags."""
        return self.frame[2]


class Ask:
    """A request of the pool's own that is under way.

    Attributes:
        answer: Gets the reply.
        since: When it was sent, by the monotonic clock.
        number: Call number.
        target: Session or slot.
        limit: Seconds that it may take until nobody waits for it any more; 0 for any time.
    """

    __slots__ = ("answer", "limit", "number", "since", "target")

    def __init__(self, answer: asyncio.Future[Reply], number: int, target: int, limit: float) -> None:
        self.answer = answer
        self.number = number
        self.target = target
        self.since = monotonic()
        self.limit = limit


class LaneOwner(Protocol):
    """Who gets what a lane brings."""

    def replied(self, lane: Lane, call: PoolCall, frame: Frame, data: bytes) -> None:
        """Take the reply, a whole frame, to a request that was sent by `Lane.send`."""

    def lane_lost(self, lane: Lane, calls: list[PoolCall]) -> None:
        """Take note that the other end is gone, with what was under way there."""

    def lane_busy(self, lane: Lane, busy: bool) -> None:
        """Take note that the other end reads slowly, or has caught up."""

    def lane_news(self, lane: Lane) -> None:
        """Take note that objects have changed behind the lane."""

    def unstuck(self, lane: Lane, session: int) -> None:
        """Take note that what was given up in a session, or in none, has been executed."""


class Nobody:
    """Owner of a lane that no client's calls go through."""

    def replied(self, lane: Lane, call: PoolCall, frame: Frame, data: bytes) -> None:
        """Take nothing."""

    def lane_lost(self, lane: Lane, calls: list[PoolCall]) -> None:
        """Take note."""

    def lane_busy(self, lane: Lane, busy: bool) -> None:
        """Take note."""

    def lane_news(self, lane: Lane) -> None:
        """Take note."""

    def unstuck(self, lane: Lane, session: int) -> None:
        """Take note."""


class Lane(asyncio.Protocol):
    """One life of a stream. A lost lane is not used again; the next one is another.

    Attributes:
        member: Whose stream it is.
        name: The name of the member's backend.
        host: What is at the other end.
        slot: The member's slot there; -1 until it is found.
        is_ready: Whether the module there is initialised and the slot is found.
        is_lost: Whether it can't be used any more.
        ending: Whether its end is expected.
        sessions: The sessions that are open there, by the client's handles: their handles there.
        used: The client's handles that sessions have had there, as far as the client has not closed these. No handle is used twice (docs/wire.md,
            section 3), so a session that is opened there anew has another one.
        stuck: The client's handles of sessions that still execute a call which was given up there.
        login: The login that is in force there; None for none.
        refused: The login that the member has refused.
        directory: The objects there.
        listed: When the directory was last made, by the monotonic clock; 0 if it was not, or does not hold any more.
        in_flight: What is under way, by id.
        answered: Not used: a pool counts by member.
        felt: When the other end was last asked for a sign of life, by the monotonic clock.
        is_felt: Whether its answer is waited for.
    """

    def __init__(self, member: Member, host: Stream, owner: LaneOwner) -> None:
        self.member = member
        self.name = host.name
        self.host = host
        self.slot = -1
        self.is_ready = False
        self.is_lost = False
        self.ending = False
        self.sessions: dict[int, int] = {}
        self.used: set[int] = set()
        self.stuck: set[int] = set()
        self.login: Login | None = None
        self.refused: Login | None = None
        self.directory = Directory()
        self.listed = 0.0
        self.in_flight: dict[int, PoolCall | Ask] = {}
        self.answered = Answered()
        self.felt = 0.0
        self.is_felt = False
        self.preparing = asyncio.Lock()
        """Held while a login or a listing is under way, so that there is one at a time."""
        self.write = host.transport.write
        self._loans = Loans(host)
        self._owner = owner
        self._next_id = OWN_IDS
        self._rest = bytearray()
        self._need = HEADER_SIZE
        host.transport.set_protocol(self)

    # Sessions

    def new_handle(self, session: int) -> int:
        """Return the handle that a session is to be opened under.

        Args:
            session: The client's handle; 0 for a session of the pool's own.
        """
        if not session or session in self.used:
            return next(_HANDLES)
        self.used.add(session)
        return session

    def drop(self, session: int) -> None:
        """Close a session of which nobody knows what it has, without waiting for it. It can be opened anew at once.

        Args:
            session: The client's handle.
        """
        handle = self.sessions.pop(session, None)
        if handle is not None and not self.is_lost:
            if not self.sessions:
                self.forget_login()
            self.write(HEADER.pack(0, _CLOSE, Flags.POSTED, OWN_IDS, handle, 0))

    # What is asked

    def send(self, number: int, call: PoolCall, data: bytes) -> None:
        """Send a client's request, whose reply goes to the owner.

        Args:
            number: The request's id.
            call: What to hand back with the reply.
            data: The whole frame as it is for this member.
        """
        self.in_flight[number] = call
        self.write(data if len(data) < LARGE else self._loans.instead(data))

    async def ask(
        self, number: int, body: bytes, target: int = 0, *, object_: int = 0, flags: int = 0, limit: float = 0.0
    ) -> Reply:
        """Make a call and wait for its reply.

        Args:
            number: Call number.
            body: The request's body.
            target: Session or slot.
            object_: The header's object.
            flags: The header's flags.
            limit: Seconds until the lane is given up for want of a reply; 0 for any time.

        Raises:
            LinkLost: The other end is gone, or took too long.
        """
        exclusive = TURNS.get(number)
        if exclusive is None:
            return await self._ask(number, body, target, object_, flags, limit)
        turn = await self.member.backend.turns.take(exclusive)
        try:
            return await self._ask(number, body, target, object_, flags, limit)
        finally:
            turn.end()

    async def _ask(self, number: int, body: bytes, target: int, object_: int, flags: int, limit: float) -> Reply:
        if self.host.transport.is_closing():
            self.lose()  # `connection_lost` is about to say so; nobody shall try this lane again until then.
        if self.is_lost:
            raise LinkLost
        self._next_id += 1
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.in_flight[self._next_id] = Ask(answer, number, target, limit)
        self.write(HEADER.pack(len(body), number, flags, self._next_id, target, object_) + body)
        return await answer

    async def call(self, number: int, body: bytes, target: int = 0) -> tuple[int, bytes]:
        """Make a call and return RV and body of the reply.

        Raises:
            LinkLost: The other end is gone.
        """
        reply = await self._ask(number, body, target, 0, 0, 0.0)
        return reply.rv, reply.body

    async def make(self, row: CallRow, values: tuple[Value, ...], target: int, limit: float) -> Reply:
        """Make a call from values.

        Raises:
            LinkLost: The other end is gone, or took too long.
        """
        request = encode_request(row, values)
        return await self.ask(row.number, request.body, target, object_=request.object, limit=limit)

    def values(self, row: CallRow, reply: Reply) -> tuple[Value, ...]:
        """Return the values of a reply.

        Args:
            row: The call that it answers, one that tells something.
            reply: The reply.

        Raises:
            LinkLost: They can't be read, or are missing. The other end is none that we can talk to, and cut off.
        """
        try:
            values = decode_reply(row, reply.body)
            if not values and reply.rv == RV.CKR_OK:
                raise WireError("nothing is told")
        except WireError:
            self.distrust()
            raise LinkLost from None
        return values

    # From the loop

    def data_received(self, data: bytes) -> None:
        """Hand out replies."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        in_flight = self.in_flight
        shared = self._loans.parts
        at = 0
        end = len(data)
        self._need = HEADER_SIZE
        while end - at >= HEADER_SIZE:
            frame = _UNPACK(data, at)
            stop = at + HEADER_SIZE + frame[0]
            if stop > end:
                if frame[0] > MAX_BODY:
                    self.distrust()
                    return
                self._need = stop - at
                break
            found = in_flight.pop(frame[3], None)
            if found is None:
                if data[at:stop] != NEWS:
                    self.distrust()
                    return
                self._owner.lane_news(self)
            elif type(found) is Ask:
                if not found.answer.done():
                    found.answer.set_result(Reply(frame, data[at + HEADER_SIZE : stop]))
                else:
                    self._owner.unstuck(self, self._session_of(found))
            elif shared and frame[3] in shared:
                try:
                    frame, body = self._loans.take_back(frame, data[at + HEADER_SIZE : stop])
                except WireError:
                    self.distrust()
                    return
                self._owner.replied(self, found, frame, HEADER.pack(*frame) + body)  # type: ignore[arg-type]
            else:
                self._owner.replied(self, found, frame, data if at == 0 and stop == end else data[at:stop])  # type: ignore[arg-type]
            if self.is_lost:
                return
            at = stop
        if at < end:
            self._rest += data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self.host.note_lost(exc)
        self.lose()

    def lose(self) -> None:
        """Take the lane for lost, now."""
        if self.is_lost:
            return
        self.is_lost = True
        self.is_ready = False
        under_way = list(self.in_flight.values())
        self.in_flight.clear()
        self._rest.clear()
        self._loans.parts.clear()
        for each in under_way:
            if isinstance(each, Ask) and not each.answer.done():
                each.answer.set_exception(LinkLost())
        self._owner.lane_lost(self, [each for each in under_way if not isinstance(each, Ask)])

    def expire(self, ask: Ask) -> None:
        """Let nobody wait for a request any more. Its session can't be used here until the reply has come."""
        if not ask.answer.done():
            if session := self._session_of(ask):
                self.stuck.add(session)
            ask.answer.set_exception(Overdue())

    def _session_of(self, ask: Ask) -> int:
        """Return the client's handle of the session that a request is made in; 0 if it is made in none."""
        if ask.number <= len(CALLS) and CALLS[ask.number - 1].target is not Target.SESSION:
            return 0
        return next((session for session, handle in self.sessions.items() if handle == ask.target), 0)

    @property
    def is_writing(self) -> bool:
        """Whether the other end may be writing its token."""
        return any(isinstance(each, Ask) and TURNS.get(each.number) for each in self.in_flight.values())

    def give_up(self, grace: float) -> None:
        """Take the lane for lost because the other end is silent; it has some time to end by itself.

        Args:
            grace: Seconds until it is killed.
        """
        self.host.end(grace)
        self.lose()

    def end(self, grace: float) -> None:
        """Close the stream. Its end is expected now.

        Args:
            grace: Seconds until the other end is killed.
        """
        self.ending = True
        self.host.end(grace)

    def pause_writing(self) -> None:
        """Read no more from the client while the other end is behind."""
        self._owner.lane_busy(self, True)

    def resume_writing(self) -> None:
        """Read from the client again."""
        self._owner.lane_busy(self, False)

    def distrust(self) -> None:
        """Cut off the other end: it answers what was not asked, or what can't be."""
        self.host.kill("it answered what was not asked")
        self.host.transport.abort()
        self.lose()

    def forget_login(self) -> None:
        """Note that nobody is logged in there."""
        self.login = None
        if self.sessions:
            self.directory.replace({})  # Session objects stay.
        else:
            self.directory.clear()
        self.listed = 0.0

    def facts(self) -> dict[str, Any]:
        """Return how it goes, for `keyway status`."""
        return {"host": self.host.place, "sessions": len(self.sessions), "in_flight": len(self.in_flight)}
