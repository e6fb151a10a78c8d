"""Making, changing and destroying objects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV, Value, call_named, rv_name
from keyway.cryptoki.constants import CKA_TOKEN
from keyway.daemon.link import LinkLost
from keyway.daemon.pool import writing
from keyway.daemon.pool.errors import Unserved
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import Refused
from keyway.daemon.pool.naming import list_anew, named
from keyway.daemon.pool.preparing import arguments, everywhere, names_in, prepare, translated
from keyway.daemon.pool.serving import serve
from keyway.daemon.pool.session import PoolCall
from keyway.gateway.pool.identity import FIRST_SESSION_OBJECT
from keyway.gateway.pool.replay import Replay
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext

__all__ = ["change", "create", "destroy"]

_COPY: Final = call_named("C_CopyObject").number
_DESTROY: Final = call_named("C_DestroyObject").number


async def create(context: PoolContext, call: PoolCall) -> Reply:
    """Make objects: those of a session at one member, those of the token as the pool's `writes` says."""
    frame, data = call.frame, call.data
    values = arguments(frame, data)
    names = names_in(frame, data)
    is_token = _are_token_objects(frame[1], values)
    if is_token and context.pool.token.writes == "all" and len(context.pool.members) > 1:
        return await writing.create(context, call, values)
    lane, reply = await serve(
        context,
        call,
        names,
        lambda lane: translated(lane, frame, data),
        # What a lost session has made has gone with it. What is on a token stays there, and would be there twice.
        replay=Replay.NEVER if is_token else Replay.AGAIN,
        only=context.pool.first_for_writes() if is_token else None,
    )
    if lane is None or reply.rv != RV.CKR_OK:
        return reply
    return await named(context, lane, call, reply, is_token=is_token)


def _are_token_objects(number: int, values: Sequence[Value]) -> bool:
    told = list(_told(values))
    if number == _COPY and not told:
        return isinstance(values[0], int) and values[0] < FIRST_SESSION_OBJECT
    return any(told)


def _told(values: Sequence[Value]) -> Iterator[bool]:
    for value in values:
        if isinstance(value, tuple):
            for each in value:
                if each.type == CKA_TOKEN and isinstance(each.value, bytes):
                    yield any(each.value)


async def destroy(context: PoolContext, call: PoolCall) -> Reply:
    """Destroy an object at all members that have it."""
    name = call.frame[5]
    reply = await _at_all(context, call)
    if reply.rv == RV.CKR_OK:
        for lane in context.lanes.values():
            lane.directory.remove_name(name)
        context.objects.pop(name, None)
        context.kept = {present: first for present, first in context.kept.items() if first != name}
        for session in context.sessions.values():
            session.objects.discard(name)
    return reply


async def change(context: PoolContext, call: PoolCall) -> Reply:
    """Change attributes of an object at all members that have it. Whoever knows it goes on to know it by the same handle."""
    name = call.frame[5]
    reply = await _at_all(context, call)
    if name in context.objects:
        if reply.rv == RV.CKR_OK:
            context.objects[name] = (context.objects[name][0], None)  # It would be made again as it was.
    elif name < FIRST_SESSION_OBJECT and reply.rv in (RV.CKR_OK, RV.CKR_DEVICE_ERROR):
        context.pool.object_changed(name)
        for lane in list(context.lanes.values()):
            if lane.is_ready and call.session.handle in lane.sessions:
                with suppress(LinkLost, Refused):
                    await list_anew(context, lane, call.session)
        context.pool.object_renamed(name, [present for present, first in context.kept.items() if first == name])
    return reply


async def _at_all(context: PoolContext, call: PoolCall) -> Reply:
    """Make a call about one object at every member that has the object; the first that refuses decides."""
    frame, data, session = call.frame, call.data, call.session
    name = frame[5]
    pool = context.pool
    if name >= FIRST_SESSION_OBJECT or pool.token.writes == "deny":
        _, reply = await serve(context, call, names_in(frame, data), lambda lane: translated(lane, frame, data))
        return reply
    until = call.since + pool.long_deadline
    usable = list(pool.usable)
    is_counted = pool.token.writes == "all"
    if is_counted and len(usable) < pool.quorum:
        raise Unserved(RV.CKR_TOKEN_NOT_PRESENT)

    async def find(lane: Lane) -> Lane:
        await prepare(context, lane, session, [name], until)
        return lane

    found = await everywhere(context, usable, find, until)
    holders = [member for member in usable if isinstance(found[member.name], Lane)]
    missed = {member.shown: "does not serve" for member in pool.members if member not in usable}
    missed |= {member.shown: why for member in usable if (why := _why(found[member.name]))}
    if not holders:
        _, reply = await serve(context, call, names_in(frame, data), lambda lane: translated(lane, frame, data))
        return reply
    if is_counted and len(pool.members) - len(missed) < pool.quorum:
        raise Unserved(RV.CKR_TOKEN_NOT_PRESENT)
    first, *others = holders
    replay = None if frame[1] == _DESTROY else Replay.NEVER
    lane, reply = await serve(
        context, call, [name], lambda lane: translated(lane, frame, data), replay=replay, only=[first]
    )
    if reply.rv != RV.CKR_OK:
        return reply
    pool.objects_changed(context)
    if frame[1] == _DESTROY and lane is not None:
        lane.directory.remove_name(name)

    async def also(lane: Lane) -> None:
        object_, body = translated(lane, frame, data)
        answer = await lane.ask(
            frame[1], body, lane.sessions.get(session.handle, 0), object_=object_, limit=pool.long_deadline
        )
        is_gone = frame[1] == _DESTROY and answer.rv in (RV.CKR_OK, RV.CKR_OBJECT_HANDLE_INVALID)
        if is_gone:
            lane.directory.remove_name(name)
        elif answer.rv != RV.CKR_OK:
            raise Refused(answer.rv)

    done = await everywhere(context, others, also, until)
    missed |= {member.shown: why for member in others if (why := _why(done[member.name]))}
    is_enough = not is_counted or len(pool.members) - len(missed) >= pool.quorum
    for member, why in missed.items():
        _report(context, member, call, why, is_enough=is_enough)
    return reply if is_enough else Reply((0, frame[1], 0, 0, 0, RV.CKR_DEVICE_ERROR), b"")


def _why(result: object) -> str:
    """Return why a member has not done what it should; an empty string if it has, or has not got the object."""
    if isinstance(result, Refused):
        return rv_name(result.rv)
    return "lost" if isinstance(result, LinkLost) else ""


def _report(context: PoolContext, member: str, call: PoolCall, why: str, *, is_enough: bool) -> None:
    event(
        logging.WARNING if is_enough else logging.ERROR,
        "pool write incomplete",
        token=context.pool.token_name,
        member=member,
        call=CALLS[call.frame[1] - 1].name,
        why=why,
    )
