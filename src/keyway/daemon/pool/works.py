"""The calls that take a task: which function does which, and what the client is told when none of them can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV, Mechanism
from keyway.daemon.link import LinkLost
from keyway.daemon.pool import logins, objects, searches, sessions, tokens
from keyway.daemon.pool.errors import OperationLost, Unserved
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import Refused
from keyway.daemon.pool.preparing import arguments, names_in, translated
from keyway.daemon.pool.serving import serve, sole_holder
from keyway.daemon.pool.session import PoolCall
from keyway.daemon.pool.ways import OF_OPERATIONS, WAYS, Way
from keyway.gateway.pool.replay import UNREPEATABLE, Replay, is_repeatable
from keyway.gateway.pool.signals import Signal
from keyway.wire.codec import decode_fused
from keyway.wire.header import HEADER, HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext

__all__ = ["make", "recover"]

_First = tuple[Lane, Signal, Reply | None]


async def make(context: PoolContext, call: PoolCall) -> Reply:
    """Make a call and return the reply that the client gets.

    Raises:
        WireError: It is malformed.
    """
    return await _told(
        context,
        call,
        _WORKS[WAYS[call.frame[1]]](context, call) if call.frame[1] in WAYS else tokens.of_slot(context, call),
    )


async def recover(context: PoolContext, call: PoolCall, lane: Lane, signal: Signal, reply: Reply | None) -> Reply:
    """Go on with a call that failed on the short way, and return the reply that the client gets.

    Args:
        context: The context.
        call: The call.
        lane: Where it was made.
        signal: What came of it.
        reply: The reply; None if there was none.

    Raises:
        WireError: It is malformed.
    """
    return await _told(context, call, _serve(context, call, (lane, signal, reply)))


async def _told(context: PoolContext, call: PoolCall, work: Awaitable[Reply]) -> Reply:
    number = call.frame[1]
    try:
        return await work
    except Unserved as unserved:
        rv: int = unserved.rv
    except OperationLost:
        rv = RV.CKR_DEVICE_REMOVED
    except LinkLost:
        rv = RV.CKR_DEVICE_ERROR
    except Refused as refused:
        rv = refused.rv
    session = call.session
    bound = session.bound
    if bound is not None and (bound.is_lost or (rv == RV.CKR_DEVICE_REMOVED and WAYS.get(number) in OF_OPERATIONS)):
        session.end_operations()
        if not session.objects:
            context.drop(bound, session.handle)  # Where they were, they may still be active.
    return Reply((0, number, 0, 0, 0, rv), b"")


async def _simple(context: PoolContext, call: PoolCall) -> Reply:
    return await _serve(context, call, None)


async def _serve(context: PoolContext, call: PoolCall, first: _First | None) -> Reply:
    """Make a call that one member answers, and that changes nothing but the session's operations."""
    frame, data, session = call.frame, call.data, call.session
    replay = None
    only = None
    names = names_in(frame, data)
    mechanism = _mechanism(call)
    if mechanism is not None and mechanism.type in UNREPEATABLE:
        replay = Replay.NEVER
        if session.bound is None:
            only = [await sole_holder(context, session, names, call.since + context.pool.deadline)]
    elif session.is_stateful:
        replay = Replay.NEVER
    lane, reply = await serve(
        context, call, names, lambda lane: translated(lane, frame, data), first=first, replay=replay, only=only
    )
    if lane is not None and CALLS[frame[1] - 1].operation:
        session.note(lane, frame, data, reply.rv, HEADER.pack(*reply.frame) + reply.body)
        if session.operations and mechanism is not None and not is_repeatable(mechanism):
            session.journal.spoil()  # What the token has made and told, it would make differently.
            session.is_stateful = mechanism.type in UNREPEATABLE
    return reply


def _mechanism(call: PoolCall) -> Mechanism | None:
    """Return the mechanism that a call starts an operation with."""
    row = CALLS[call.frame[1] - 1]
    if call.frame[2] & Flags.FUSED:
        values, _ = decode_fused(row, call.frame[5], memoryview(call.data)[HEADER_SIZE:])
    elif WAYS[call.frame[1]] is Way.BEGIN:
        values = arguments(call.frame, call.data)
    else:
        return None
    return next((value for value in values if isinstance(value, Mechanism)), None)


async def _cancel(context: PoolContext, call: PoolCall) -> Reply:
    session = call.session
    if session.bound is None or session.bound.is_lost:
        session.search = None
        session.end_operations()
    reply = await _serve(context, call, None)
    if reply.rv == RV.CKR_OK and CALLS[call.frame[1] - 1].name == "C_SessionCancel":
        session.search = None
        session.end_operations()
    return reply


async def _state(context: PoolContext, call: PoolCall) -> Reply:
    """Move the state of operations, which means something to the member alone that has made it."""
    session = call.session
    lane, reply = await serve(
        context, call, names_in(call.frame, call.data), lambda lane: translated(lane, call.frame, call.data)
    )
    if lane is not None and reply.rv == RV.CKR_OK and CALLS[call.frame[1] - 1].name == "C_SetOperationState":
        session.end_operations()
        session.operations.add("state")
        session.bound = lane
        session.state_was_set = True
        session.journal.spoil()
    return reply


_WORKS: Final[dict[Way, Callable[[PoolContext, PoolCall], Awaitable[Reply]]]] = {
    Way.OPEN_SESSION: sessions.open_session,
    Way.CLOSE_SESSION: sessions.close_session,
    Way.CLOSE_ALL_SESSIONS: sessions.close_all_sessions,
    Way.LOGIN: logins.login,
    Way.LOGOUT: logins.logout,
    Way.SEARCH_INIT: searches.begin,
    Way.SEARCH: searches.give,
    Way.SEARCH_FINAL: searches.end,
    Way.BEGIN: _simple,
    Way.OPERATION: _simple,
    Way.READ: _simple,
    Way.ANY: _simple,
    Way.SEVERAL: _simple,
    Way.CREATE: objects.create,
    Way.DESTROY: objects.destroy,
    Way.CHANGE: objects.change,
    Way.PIN: tokens.change_pin,
    Way.STATE: _state,
    Way.CANCEL: _cancel,
    Way.AHEAD: searches.read_ahead,
}
