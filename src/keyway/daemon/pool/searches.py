"""Searches: at all members, so that what one of them alone has is found too. The handles are kept here and given from here."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import RV, Numbers, ObjectsRoom, Template, call_named
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.errors import Overdue, Unserved
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import Refused, find, found, list_objects
from keyway.daemon.pool.preparing import Translated, arguments, everywhere, prepare, within
from keyway.daemon.pool.serving import serve, unserved
from keyway.daemon.pool.session import PoolCall
from keyway.wire.ahead import ReadAhead, decode_read_ahead, encode_read_ahead
from keyway.wire.codec import decode_fused, encode_reply, encode_request
from keyway.wire.header import HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext

__all__ = ["begin", "end", "give", "read_ahead"]

_INIT: Final = call_named("C_FindObjectsInit")
_FIND: Final = call_named("C_FindObjects")


async def begin(context: PoolContext, call: PoolCall) -> Reply:
    """Start a search, by making it."""
    (template,) = arguments(call.frame, call.data)
    return await _begin(context, call, template)  # type: ignore[arg-type]


async def _begin(context: PoolContext, call: PoolCall, template: Template) -> Reply:
    session = call.session
    if session.search is not None:
        return _reply(call, RV.CKR_OPERATION_ACTIVE)
    init = PoolCall((0, _INIT.number, 0, 0, session.handle, 0), b"", session)

    def translate(_: Lane) -> Translated:
        return encode_request(_INIT, (template,))

    lane, reply = await serve(context, init, (), translate)
    if reply.rv != RV.CKR_OK or lane is None:
        return _reply(call, reply.rv, flags=Flags.INIT if call.frame[2] & Flags.FUSED else 0)
    until = max(call.since + context.pool.deadline, monotonic() + context.pool.deadline / 2)
    limit = context.pool.deadline

    async def search(each: Lane) -> list[int]:
        if each is lane:
            handles = await found(each, each.sessions[session.handle], limit)
        else:
            await prepare(context, each, session, (), until)
            handles = await find(each, each.sessions[session.handle], template, limit)
        return await _named(context, each, call, handles)

    async def in_time(each: Lane) -> list[int]:
        try:
            return await within(until, search(each), context, "pool search")
        except (LinkLost, Refused) as error:
            if isinstance(error, Overdue):
                context.avoid(each.member)
            context.drop(each, session.handle)  # A search may still be active there.
            raise

    members = [lane.member, *(member for member in context.pool.searched() if member is not lane.member)]
    results = [each for each in (await everywhere(context, members, in_time, until)).values() if isinstance(each, list)]
    if not results:
        raise Unserved(unserved(session, _INIT.number))
    names = [name for each in results for name in each]
    session.search = deque(dict.fromkeys(names))
    return _reply(call, RV.CKR_OK)


async def _named(context: PoolContext, lane: Lane, call: PoolCall, handles: list[int]) -> list[int]:
    """Return the names of handles that a member has found."""
    if lane.directory.unknown(handles):
        async with lane.preparing:
            if lane.directory.unknown(handles):
                await list_objects(lane, call.session.flags, context.pool.deadline)
                context.keep_names(lane)
    return [name for handle in handles if (name := lane.directory.name(handle)) is not None]


async def give(context: PoolContext, call: PoolCall) -> Reply:
    """Give handles of the active search; of a fused request, start it first."""
    session = call.session
    if call.frame[2] & Flags.FUSED:
        (template,), (room,) = decode_fused(_FIND, call.frame[5], memoryview(call.data)[HEADER_SIZE:])
        reply = await _begin(context, call, template)  # type: ignore[arg-type]
        if reply.rv != RV.CKR_OK:
            return reply
    else:
        (room,) = arguments(call.frame, call.data)
    assert isinstance(room, ObjectsRoom)
    if session.search is None:
        return _reply(call, RV.CKR_OPERATION_NOT_INITIALIZED)
    if not room.has_count or not room.has_buffer:
        return _reply(call, RV.CKR_ARGUMENTS_BAD, encode_reply(_FIND, (Numbers(0 if room.has_count else None, None),)))
    given = tuple(session.search.popleft() for _ in range(min(room.maximum, len(session.search))))
    return _reply(call, RV.CKR_OK, encode_reply(_FIND, (Numbers(len(given), given),)))


async def end(context: PoolContext, call: PoolCall) -> Reply:
    """End the active search."""
    if call.session.search is None:
        return _reply(call, RV.CKR_OPERATION_NOT_INITIALIZED)
    call.session.search = None
    return _reply(call, RV.CKR_OK)


async def read_ahead(context: PoolContext, call: PoolCall) -> Reply:
    """Read ahead at the member that has the first of the objects, as far as it has the next ones too."""
    asked = decode_read_ahead(memoryview(call.data)[HEADER_SIZE:])

    def translate(lane: Lane) -> Translated:
        handles: list[int] = []
        for name in asked.objects:
            handle = lane.directory.handle(name)
            if handle is None:
                break
            handles.append(handle)
        return 0, encode_read_ahead(ReadAhead(asked.room, asked.queries, tuple(handles)))

    _, reply = await serve(context, call, asked.objects[:1], translate)
    return reply


def _reply(call: PoolCall, rv: int, body: bytes = b"", flags: int = 0) -> Reply:
    return Reply((len(body), call.frame[1], flags, 0, 0, rv), body)
