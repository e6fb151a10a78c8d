"""Making a lane ready for a call: the session open there, the login in force, the objects known, the operations where they were."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from keyway.cryptoki import CALLS, RV, Value, call_named, rv_name
from keyway.cryptoki.constants import CKF_SERIAL_SESSION
from keyway.daemon.link import Frame, LinkLost
from keyway.daemon.pool.errors import Lacking, OperationLost, Overdue
from keyway.daemon.pool.lane import Lane
from keyway.daemon.pool.listing import Refused, list_objects
from keyway.daemon.pool.session import PoolSession
from keyway.gateway.pool.identity import FIRST_SESSION_OBJECT
from keyway.gateway.pool.signals import PIN_ERRORS
from keyway.gateway.pool.translate import handles, with_handles
from keyway.observe.log import event
from keyway.wire.codec import decode_fused, decode_request, encode_fused, encode_request
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
    "has",
    "log_in",
    "names_in",
    "prepare",
    "repeat_operations",
    "translated",
    "within",
]

T = TypeVar("T")

Translated = tuple[int, bytes]
"""The object for the header of a request, and its body, as they are for one member."""

_OPEN: Final = call_named("C_OpenSession")
_CREATE: Final = call_named("C_CreateObject")
_LISTED_FOR: Final = 0.5
"""Seconds for which a name that is not among what was listed is not looked for again."""


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


def has(lane: Lane | None, names: Collection[int]) -> bool:
    """Tell whether some objects are known on a lane."""
    return lane is not None and all(lane.directory.handle(name) is not None for name in names)


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
    if names and not has(lane, names):
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
        if has(lane, names):
            return
        if monotonic() - lane.listed > _LISTED_FOR:
            await list_objects(lane, session.flags or CKF_SERIAL_SESSION, limit)
            context.keep_names(lane)
        if not has(lane, names):
            raise Lacking


async def _make_again(context: PoolContext, lane: Lane, name: int, owner: int, data: bytes) -> None:
    """Make a session object of C_CreateObject anew at another member."""
    if lane.directory.handle(name) is not None or owner not in context.sessions:
        return
    await _open(context, lane, context.sessions[owner])
    reply = await lane.ask(_CREATE.number, data[HEADER_SIZE:], lane.sessions[owner], limit=context.pool.long_deadline)
    if reply.rv != RV.CKR_OK:
        raise Refused(reply.rv)
    values = lane.values(_CREATE, reply)
    if values and isinstance(values[0], int):
        lane.directory.add(name, values[0])


async def repeat_operations(context: PoolContext, lane: Lane, session: PoolSession, until: float) -> None:
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
