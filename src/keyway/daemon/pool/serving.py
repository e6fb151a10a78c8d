"""Making a call at one member after the other, as the rules allow: the loop round `keyway.gateway.pool.replay.next_step`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from keyway.cryptoki import CALLS, RV, Value, call_named, rv_name
from keyway.cryptoki.constants import CKF_SERIAL_SESSION
from keyway.daemon.link import Frame, LinkLost
from keyway.daemon.pool.errors import Lacking, OperationLost, Overdue, Unserved
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import Refused, list_objects
from keyway.daemon.pool.session import PoolCall, PoolSession
from keyway.daemon.pool.ways import OF_OPERATIONS, WAYS, Way
from keyway.gateway.pool.choice import choose
from keyway.gateway.pool.identity import FIRST_SESSION_OBJECT
from keyway.gateway.pool.replay import REPLAYS, Attempt, Replay, Step, next_step
from keyway.gateway.pool.signals import PIN_ERRORS, Signal, classify
from keyway.gateway.pool.translate import handles, with_handles
from keyway.observe.log import event
from keyway.wire.ahead import READ_AHEAD
from keyway.wire.codec import decode_fused, decode_reply, decode_request, encode_fused, encode_request
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext
    from keyway.daemon.pool.login import Login
    from keyway.daemon.pool.member import Member

__all__ = [
    "Translated",
    "arguments",
    "everywhere",
    "log_in",
    "names_in",
    "prepare",
    "serve",
    "sole_holder",
    "translated",
    "unserved",
    "within",
]

T = TypeVar("T")

Translated = tuple[int, bytes]
"""The object for the header of a request, and its body, as they are for one member."""

_OPEN: Final = call_named("C_OpenSession")
_CREATE: Final = call_named("C_CreateObject")
_LISTED_FOR: Final = 0.5
"""Seconds for which a name that is not among what was listed is not looked for again."""
_BACK_OFF: Final = 0.05
"""Seconds before a busy member is asked once more."""
_LEAVING: Final = frozenset({Signal.LOST, Signal.BUSY})
"""What may leave an operation behind: a module that has not reached its token may not have ended what the call began, though the standard says
so. In a session of that kind nothing can be begun any more."""
_OF_SESSIONS: Final = frozenset({RV.CKR_SESSION_HANDLE_INVALID, RV.CKR_SESSION_CLOSED})
_OF_OBJECTS: Final = frozenset(
    {
        RV.CKR_OBJECT_HANDLE_INVALID,
        RV.CKR_KEY_HANDLE_INVALID,
        RV.CKR_WRAPPING_KEY_HANDLE_INVALID,
        RV.CKR_UNWRAPPING_KEY_HANDLE_INVALID,
    }
)


def arguments(frame: Frame, data: bytes) -> tuple[Value, ...]:
    """Return the arguments of a request that is not fused.

    Raises:
        WireError: It is malformed.
    """
    return decode_request(CALLS[frame[1] - 1], frame[5], memoryview(data)[HEADER_SIZE:])


def names_in(frame: Frame, data: bytes) -> list[int]:
    """Return all object handles that a request names, as the client has them.

    Raises:
        WireError: It is malformed.
    """
    row = CALLS[frame[1] - 1]
    if frame[2] & Flags.FUSED:
        first, _ = decode_fused(row, frame[5], memoryview(data)[HEADER_SIZE:])
        return handles(CALLS[row.init - 1], first)
    return handles(row, arguments(frame, data))


def translated(lane: Lane, frame: Frame, data: bytes) -> Translated:
    """Return a request with the handles that a member has for the objects in it. A handle that it has nothing for stays: its own module says that it is invalid.

    Raises:
        WireError: It is malformed.
    """

    def mapping(name: int) -> int:
        handle = lane.directory.handle(name)
        return name if handle is None else handle

    row = CALLS[frame[1] - 1]
    if frame[2] & Flags.FUSED:
        first, then = decode_fused(row, frame[5], memoryview(data)[HEADER_SIZE:])
        return encode_fused(row, with_handles(CALLS[row.init - 1], first, mapping), then)
    return encode_request(row, with_handles(row, arguments(frame, data), mapping))


async def serve(
    context: PoolContext,
    call: PoolCall,
    names: Sequence[int],
    translate: Callable[[Lane], Translated],
    first: tuple[Lane, Signal, Reply | None] | None = None,
    replay: Replay | None = None,
    *,
    target: Callable[[Lane], int] | None = None,
    only: Collection[Member] | None = None,
    is_bound: bool = False,
) -> tuple[Lane | None, Reply]:
    """Make a call at a member, and at others when that fails and the rules allow it.

    Args:
        context: The context.
        call: The call.
        names: The objects that the member must have.
        translate: Makes the request for a member.
        first: What came of a first attempt on the short way: the lane, what it means, and the reply if there was one.
        replay: Whether the call may be made again, if that does not follow from its number.
        target: The request's target at a member; the session if that is not said.
        only: The members that may make it; all if that is not said.
        is_bound: Whether it goes where the session's operations are, if that does not follow from its number.

    Raises:
        Unserved: No member can make it.
        OperationLost: It belongs to an operation that is lost.
        WireError: It is malformed.
    """
    session = call.session
    number = call.frame[1]
    replay = replay or (Replay.AGAIN if number == READ_AHEAD else REPLAYS[number])
    until = call.since + context.pool.budget(number)
    is_bound = is_bound or WAYS.get(number) in OF_OPERATIONS
    # A call of an operation that nobody has seen begin can't be made after what was before it.
    is_whole = WAYS.get(number) is not Way.OPERATION or bool(call.frame[2] & Flags.FUSED)
    begins = WAYS.get(number) is Way.BEGIN or bool(call.frame[2] & Flags.FUSED)
    barred = set() if only is None else {each.name for each in context.pool.members if each not in only}
    tried = barred.copy()
    same = 0
    again: Member | None = None
    failed: Member | None = None
    last: tuple[Lane | None, Reply] | None = None
    is_unknown = False

    def done(lane: Lane | None, reply: Reply) -> tuple[Lane | None, Reply]:
        # What was destroyed by an attempt that was never answered is not there any more.
        is_gone = is_unknown and replay is Replay.REMOVAL and reply.rv in _OF_OBJECTS
        return lane, Reply((0, number, 0, 0, 0, RV.CKR_OK), b"") if is_gone else reply

    def goes_on_without_login() -> bool:
        if not context.forget_lost_login():
            return False
        if names:
            raise Unserved(RV.CKR_USER_NOT_LOGGED_IN)
        tried.clear()
        tried.update(barred)
        return True

    while True:
        lane: Lane | None = None
        reply: Reply | None = None
        signal = Signal.LOST
        was_sent = is_known = is_refused = False
        if first is not None:
            lane, signal, reply = first
            was_sent = True
            first = None
            member = lane.member
        else:
            chosen = again or _choose(context, session, names, tried, is_bound)
            if chosen is None:
                if goes_on_without_login():
                    continue
                if last is not None:
                    return done(*last)
                context.pool.wanted()
                raise Unserved(unserved(session, number))
            member = chosen
            again = None
            try:
                has_others = _others(context, session, names, tried | {member.name}, is_bound)
                by = min(until, monotonic() + context.pool.deadline / 2) if has_others else until
                lane = await context.lane(member, by)
                await prepare(context, lane, session, names, by)
                if is_bound:
                    await _repeat_operations(context, lane, session, by)
                object_, body = translate(lane)
                was_sent = True
                reply = await _ask(context, lane, call, target, object_, body, until)
            except LinkLost as lost:
                if isinstance(lost, Overdue):
                    context.avoid(member)
            except Lacking:
                tried.add(member.name)
                if not _others(context, session, names, tried, is_bound):
                    if failed is not None:
                        # Who has failed is the one that has it: not a member that others can stand in for.
                        again, failed = failed, None
                        same += 1
                        continue
                    if is_bound and session.bound is not None and session.bound is not lane:
                        raise OperationLost from None
                    return done(*await _ask_for_error(context, call, translate, until, only))
                continue
            except Refused as refused:
                reply = Reply((0, number, 0, 0, 0, refused.rv), b"")
                was_sent = False
                is_refused = True
        if reply is not None:
            signal = classify(reply.rv, member.vendor)
            is_known = lane is not None and _is_known(context, lane, names, reply.rv)
            if not is_refused or (last is None and not (is_bound and session.operations)):
                last = (lane, reply)  # What the call itself was answered says more.
            if is_refused and signal in (Signal.DONE, Signal.CALLER):
                # The pool's own matter: another member may be ready for the call.
                signal = Signal.BUSY
                same += 1
        has_others = _others(context, session, names, tried | {member.name}, is_bound)
        step = next_step(
            signal,
            replay if was_sent else Replay.AGAIN,
            Attempt(
                was_sent=was_sent,
                is_replayable=session.journal.is_complete if is_bound and session.operations else is_whole,
                same=same,
                others_left=has_others,
                is_known=is_known,
                in_time=monotonic() < until,
                has_rv=reply is not None,
            ),
        )
        is_unknown = is_unknown or (was_sent and signal is Signal.LOST)
        if signal is Signal.LOST and reply is not None:
            context.pool.member_failed(member, rv_name(reply.rv))
        if step is Step.RETURN and last is not None and reply is not None:
            return done(*last)
        if step is Step.GIVE_UP or step is Step.RETURN:
            if is_bound and session.operations and not session.journal.is_complete:
                raise OperationLost
            if was_sent and replay is Replay.NEVER:
                raise Unserved(RV.CKR_DEVICE_ERROR)
            if last is None and goes_on_without_login():
                continue
            if last is not None and monotonic() < until:
                return done(*last)
            raise Unserved(unserved(session, number))
        if reply is not None and lane is not None and begins and session.bound is not lane and signal in _LEAVING:
            _leave(context, lane, session)
        if signal is Signal.BUSY:
            await asyncio.sleep(_BACK_OFF)
        if step is Step.SAME:
            same += 1
            if lane is None or session.handle not in lane.stuck:
                again = member
            # A call that failed has ended its operation (PKCS #11 3.2, section 5.2).
            session.is_adrift = session.is_adrift or (lane is not None and session.bound is lane)
            if lane is not None and reply is not None:
                _rebuild(context, lane, session, names, reply.rv)
        else:
            failed = failed or member
            tried.add(member.name)
            context.pool.failed_over(member, number, signal)


async def _ask(
    context: PoolContext,
    lane: Lane,
    call: PoolCall,
    target: Callable[[Lane], int] | None,
    object_: int,
    body: bytes,
    until: float,
) -> Reply:
    member = lane.member
    number, flags, session = call.frame[1], call.frame[2] & Flags.FUSED, call.session
    limit = context.pool.limit(number, max(0.001, until - monotonic()))
    sent = monotonic()
    member.outstanding += 1
    try:
        where = lane.sessions.get(session.handle, 0) if target is None else target(lane)
        reply = await lane.ask(number, body, where, object_=object_, flags=flags, limit=limit)
    finally:
        member.outstanding -= 1
    member.served += 1
    context.pool.note(number, member, reply.rv, sent)
    return reply


async def _ask_for_error(
    context: PoolContext,
    call: PoolCall,
    translate: Callable[[Lane], Translated],
    until: float,
    only: Collection[Member] | None,
) -> tuple[Lane | None, Reply]:
    """Let a module say what it says of an object that nobody has who may be asked."""
    session = call.session
    home = [session.home] if session.home.is_usable else []
    for member in [*home, *context.pool.usable]:
        if only is not None and member not in only:
            continue
        try:
            lane = await context.lane(member, until)
            await prepare(context, lane, session, (), until)
            object_, body = translate(lane)
            return lane, await _ask(context, lane, call, None, object_, body, until)
        except (LinkLost, Refused):
            continue
    raise Unserved(unserved(session, call.frame[1]))


def unserved(session: PoolSession, number: int) -> RV:
    """Return what a client is told when nobody can make its call."""
    row = CALLS[number - 1] if number <= len(CALLS) else None
    in_operation = bool(session.operations) or (row is not None and bool(row.operation) and row.step != "start")
    return RV.CKR_DEVICE_REMOVED if in_operation else RV.CKR_TOKEN_NOT_PRESENT


# Where


def _choose(
    context: PoolContext, session: PoolSession, names: Collection[int], tried: Collection[str], is_bound: bool
) -> Member | None:
    able = _able(context, session, names, tried, is_bound)
    prompt = [member for member in able if member.name not in context.late]
    up = [member for member in prompt if member.is_up]
    return choose(context.pool.policy, up or prompt or able, context.pool.turn())


def _others(
    context: PoolContext, session: PoolSession, names: Collection[int], tried: Collection[str], is_bound: bool
) -> bool:
    return bool(_able(context, session, names, tried, is_bound))


def _able(
    context: PoolContext, session: PoolSession, names: Collection[int], tried: Collection[str], is_bound: bool
) -> list[Member]:
    """Return the members that may serve a session; if it is known which of them have the objects, these.

    Args:
        context: The context.
        session: The session.
        names: The objects.
        tried: Names of the members that may not.
        is_bound: Whether the call goes where the operations of the session are, as long as these are somewhere.
    """
    bound = session.bound if is_bound else None
    if bound is not None and not bound.is_lost and session.handle not in bound.stuck and bound.member.name not in tried:
        return [bound.member]
    able = [
        member
        for member in _candidates(context, names)
        if member.name not in tried and _may_serve(context, session, member, names)
    ]
    having = [member for member in able if _has(context.lanes.get(member.name), names)]
    return having or able


def _candidates(context: PoolContext, names: Collection[int]) -> list[Member]:
    """Return the members that can be given work. What session objects need goes on at a member that is drained: they are nowhere else."""
    usable = context.pool.usable
    of_session = [name for name in names if name >= FIRST_SESSION_OBJECT]
    if not of_session:
        return usable
    drained = [lane for lane in context.lanes.values() if lane.member.is_drained and lane.is_ready]
    return [*usable, *(lane.member for lane in drained if _has(lane, of_session))]


def _may_serve(context: PoolContext, session: PoolSession, member: Member, names: Collection[int]) -> bool:
    lane = context.lanes.get(member.name)
    for name in names:
        # A session object is where it was made. When that is lost it is made again, or the member says that it has no such object.
        is_here = lane is not None and lane.directory.handle(name) is not None
        if name in context.objects and not is_here and _is_somewhere(context, name):
            return False
    login = context.login
    if login is not None and not login.can_be_repeated and (lane is None or lane.login is not login):
        return False
    return lane is None or (session.handle not in lane.stuck and (login is None or lane.refused is not login))


def _is_somewhere(context: PoolContext, name: int) -> bool:
    return any(lane.directory.handle(name) is not None for lane in context.lanes.values())


def _has(lane: Lane | None, names: Collection[int]) -> bool:
    return lane is not None and all(lane.directory.handle(name) is not None for name in names)


def _is_known(context: PoolContext, lane: Lane, names: Collection[int], rv: int) -> bool:
    """Tell whether an RV complains of what we know to be there."""
    if rv in _OF_SESSIONS:
        return True
    if rv == RV.CKR_USER_NOT_LOGGED_IN:
        return context.login is not None and lane.login is context.login and context.login.can_be_repeated
    return rv in _OF_OBJECTS and bool(names) and _has(lane, names)


def _leave(context: PoolContext, lane: Lane, session: PoolSession) -> None:
    """Have a session opened anew on a lane where a call has failed, unless objects would go with it."""
    if not session.objects:
        context.drop(lane, session.handle)


def _rebuild(context: PoolContext, lane: Lane, session: PoolSession, names: Collection[int], rv: int) -> None:
    """Forget what an RV says is not there, so that it is made again."""
    if rv in _OF_SESSIONS:
        context.drop(lane, session.handle)
    elif rv == RV.CKR_USER_NOT_LOGGED_IN:
        lane.forget_login()
    elif rv in _OF_OBJECTS:
        for name in names:
            if name < FIRST_SESSION_OBJECT:
                lane.directory.remove_name(name)
        lane.listed = 0.0


async def sole_holder(context: PoolContext, session: PoolSession, names: Collection[int], until: float) -> Member:
    """Return the one member at which a key is used whose state changes by that: the first in the configuration that has it.

    Args:
        context: The context.
        session: The session.
        names: The objects that it must have.
        until: When to stop waiting, by the monotonic clock.

    Raises:
        Unserved: It can't be told, or is not there. Another one that has the key as well would use a state again that was used.
    """
    for member in context.pool.members:
        try:
            if member not in context.pool.usable:
                break
            await prepare(context, await context.lane(member, until), session, names, until)
        except Lacking:
            continue
        except (LinkLost, Refused):
            break
        return member
    raise Unserved(RV.CKR_TOKEN_NOT_PRESENT)


# Making a lane ready


async def within(until: float, work: Coroutine[Any, Any, T], context: PoolContext, name: str) -> T:
    """Return what comes of some work, if that is in time. It goes on afterwards: a login that is broken off may cost the token.

    Args:
        until: When to stop waiting, by the monotonic clock.
        work: What to do.
        context: The context.
        name: What to call it in the log.

    Raises:
        LinkLost: It takes longer (Overdue), or that came of it.
        Refused: That came of it.
    """
    task = context.pool.tasks.start(work, name, (LinkLost, Refused, Lacking, WireError))
    done, _ = await asyncio.wait({task}, timeout=max(0.0, until - monotonic()))
    if not done:
        raise Overdue
    return task.result()


async def prepare(context: PoolContext, lane: Lane, session: PoolSession, names: Collection[int], until: float) -> None:
    """Have the session open on a lane, the login in force and the objects known there.

    Args:
        context: The context.
        lane: The lane.
        session: The session; a stand-in without a handle needs none.
        names: The objects.
        until: When to stop waiting, by the monotonic clock.

    Raises:
        LinkLost: The member is gone, or it takes too long.
        Refused: It refuses a call that is needed for this.
        Lacking: It has not got one of the objects.
    """
    if session.handle and session.handle not in lane.sessions:
        await within(until, _open_session(context, lane, session), context, "pool session")
    # Where no session is open nobody can log in; whoever opens the first one there needs it to be opened, and the next call logs in.
    is_open = session.handle or lane.sessions
    if context.login is not None and lane.login is not context.login and is_open:
        await within(until, log_in(context, lane, context.login), context, "pool login")
    if names and not _has(lane, names):
        await within(until, _look_for(context, lane, session, names), context, "pool listing")


async def _open_session(context: PoolContext, lane: Lane, session: PoolSession) -> None:
    async with lane.preparing:
        await _open(context, lane, session)


async def _open(context: PoolContext, lane: Lane, session: PoolSession) -> None:
    if session.handle in lane.sessions:
        return
    handle = lane.new_handle(session.handle)
    reply = await lane.make(_OPEN, (session.flags, handle), lane.slot, context.pool.deadline)
    if reply.rv != RV.CKR_OK:
        raise Refused(reply.rv)
    lane.sessions[session.handle] = handle
    if context.sessions.get(session.handle) is not session:
        context.drop(lane, session.handle)  # It was closed meanwhile.
        raise LinkLost


async def log_in(context: PoolContext, lane: Lane, login: Login) -> None:
    """Log in at a member with what has worked at another one.

    Raises:
        LinkLost: The member is gone.
        Refused: It does not take the PIN. It is not tried again.
    """
    member = lane.member
    async with lane.preparing:
        if lane.login is login:
            return
        if context.login is not login or not lane.sessions:
            raise LinkLost
        digest = context.pool.digest(login)
        if lane.refused is login or digest in member.refused or not login.can_be_repeated:
            lane.refused = login
            raise LinkLost
        number, request = login.request()
        reply = await lane.ask(number, request.body, min(lane.sessions.values()), limit=0.0)
        if reply.rv in (RV.CKR_OK, RV.CKR_USER_ALREADY_LOGGED_IN):
            lane.forget_login()
            if context.login is login:
                lane.login = login
            return
        if reply.rv in PIN_ERRORS:
            lane.refused = login
            member.refused.add(digest)
            event(
                logging.WARNING,
                "member refuses the PIN",
                token=context.pool.token_name,
                member=member.shown,
                rv=rv_name(reply.rv),
            )
            if login.is_own:
                context.pool.own_pin_refused(member, reply.rv)
            raise LinkLost
        raise Refused(reply.rv)


async def _look_for(context: PoolContext, lane: Lane, session: PoolSession, names: Collection[int]) -> None:
    async with lane.preparing:
        limit = context.pool.deadline
        for name in names:
            made = context.objects.get(name)
            if name >= FIRST_SESSION_OBJECT and made is not None and made[1] is not None:
                await _make_again(context, lane, name, made[0], made[1])
        if _has(lane, names):
            return
        if monotonic() - lane.listed > _LISTED_FOR:
            await list_objects(lane, session.flags or CKF_SERIAL_SESSION, limit)
            context.keep_names(lane)
        if not _has(lane, names):
            raise Lacking


async def _make_again(context: PoolContext, lane: Lane, name: int, owner: int, data: bytes) -> None:
    """Make a session object of C_CreateObject anew at another member."""
    if lane.directory.handle(name) is not None or owner not in context.sessions:
        return
    await _open(context, lane, context.sessions[owner])
    reply = await lane.ask(_CREATE.number, data[HEADER_SIZE:], lane.sessions[owner], limit=context.pool.long_deadline)
    if reply.rv != RV.CKR_OK:
        raise Refused(reply.rv)
    values = decode_reply(_CREATE, reply.body)
    if values and isinstance(values[0], int):
        lane.directory.add(name, values[0])


async def _repeat_operations(context: PoolContext, lane: Lane, session: PoolSession, until: float) -> None:
    """Make the operations of a session again on another lane than that which they were on.

    Raises:
        LinkLost: The member is gone.
        OperationLost: They can't be made again.
        Lacking: It has not got the key.
        Refused: It does not do what the other one did.
    """
    if session.bound is None or (session.bound is lane and not session.is_adrift):
        return
    if not session.journal.is_complete:
        raise OperationLost
    if session.bound is not lane and not session.objects:
        context.drop(session.bound, session.handle)  # What has failed there may have left an operation.
    rv = await _repeat(context, lane, session, until)
    if rv == RV.CKR_OPERATION_ACTIVE and not session.objects:
        context.drop(lane, session.handle)
        rv = await _repeat(context, lane, session, until)
    if rv != RV.CKR_OK:
        raise Refused(rv)
    session.bound = lane
    session.is_adrift = False


async def _repeat(context: PoolContext, lane: Lane, session: PoolSession, until: float) -> int:
    """Make again what is in a session's journal, and return the RV that is not as it was, or that of success."""
    for frame, data in list(session.journal.requests):
        await prepare(context, lane, session, names_in(frame, data), until)
        object_, body = translated(lane, frame, data)
        limit = context.pool.limit(frame[1], max(0.001, until - monotonic()))
        reply = await lane.ask(
            frame[1], body, lane.sessions[session.handle], object_=object_, flags=frame[2] & Flags.FUSED, limit=limit
        )
        if reply.rv not in (RV.CKR_OK, RV.CKR_BUFFER_TOO_SMALL):
            return reply.rv
    return RV.CKR_OK


# At all members


async def everywhere(
    context: PoolContext, members: Sequence[Member], work: Callable[[Lane], Coroutine[Any, Any, Any]], until: float
) -> dict[str, Any]:
    """Do something on the lanes to several members at the same time. Return what came of it, by member; LinkLost or Refused if that did.

    Args:
        context: The context.
        members: The members.
        work: What to do.
        until: When to stop waiting for a lane, by the monotonic clock.
    """

    async def one(member: Member) -> Any:
        try:
            return await work(await context.lane(member, until))
        except (LinkLost, Refused, Lacking) as error:
            return error

    results = await asyncio.gather(*map(one, members))
    return {member.name: result for member, result in zip(members, results, strict=True)}
