"""Making a call at one member after the other, as the rules allow: the loop round `keyway.gateway.pool.replay.next_step`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV, rv_name
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.errors import Lacking, OperationLost, Overdue, Unserved
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import Refused
from keyway.daemon.pool.preparing import Translated, has, prepare, repeat_operations
from keyway.daemon.pool.session import PoolCall, PoolSession
from keyway.daemon.pool.ways import OF_OPERATIONS, WAYS, Way
from keyway.gateway.pool.choice import choose
from keyway.gateway.pool.identity import FIRST_SESSION_OBJECT
from keyway.gateway.pool.replay import REPLAYS, Attempt, Replay, Step, next_step
from keyway.gateway.pool.signals import Signal, classify
from keyway.wire.ahead import READ_AHEAD
from keyway.wire.header import Flags

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext
    from keyway.daemon.pool.member import Member

__all__ = ["serve", "sole_holder", "unserved"]

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
                    await repeat_operations(context, lane, session, by)
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
    call.member = member
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
    having = [member for member in able if has(context.lanes.get(member.name), names)]
    return having or able


def _candidates(context: PoolContext, names: Collection[int]) -> list[Member]:
    """Return the members that can be given work. What session objects need goes on at a member that is drained: they are nowhere else."""
    usable = context.pool.usable
    of_session = [name for name in names if name >= FIRST_SESSION_OBJECT]
    if not of_session:
        return usable
    drained = [lane for lane in context.lanes.values() if lane.member.is_drained and lane.is_ready]
    return [*usable, *(lane.member for lane in drained if has(lane, of_session))]


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


def _is_known(context: PoolContext, lane: Lane, names: Collection[int], rv: int) -> bool:
    """Tell whether an RV complains of what we know to be there."""
    if rv in _OF_SESSIONS:
        return True
    if rv == RV.CKR_USER_NOT_LOGGED_IN:
        return context.login is not None and lane.login is context.login and context.login.can_be_repeated
    return rv in _OF_OBJECTS and bool(names) and has(lane, names)


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
