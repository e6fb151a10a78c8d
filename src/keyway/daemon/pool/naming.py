"""The names that new objects get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, call_named
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import list_objects
from keyway.daemon.pool.session import PoolCall, PoolSession
from keyway.gateway.pool.translate import made_handles, reply_with
from keyway.wire.codec import encode_reply

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext

__all__ = ["list_anew", "named"]

_CREATE: Final = call_named("C_CreateObject").number


async def list_anew(context: PoolContext, lane: Lane, session: PoolSession) -> None:
    """List the objects of a lane again.

    Raises:
        LinkLost: The member is gone.
        Refused: It does not let us.
    """
    async with lane.preparing:
        await list_objects(lane, session.flags, context.pool.long_deadline)
        context.keep_names(lane)


async def named(context: PoolContext, lane: Lane, call: PoolCall, reply: Reply, *, is_token: bool) -> Reply:
    """Return the reply to a call that has made objects with names in place of handles.

    Args:
        context: The context.
        lane: Where they were made.
        call: The call.
        reply: The member's reply.
        is_token: Whether there are token objects among them.
    """
    row = CALLS[call.frame[1] - 1]
    session = call.session
    values = lane.values(row, reply)
    if not made_handles(row, values):
        return reply
    if is_token:
        await list_anew(context, lane, session)
        context.pool.objects_changed(context)

    def name_of(handle: int) -> int:
        facts = lane.directory.facts(handle)
        if facts is not None and facts.is_token and (known := lane.directory.name(handle)) is not None:
            return known
        name = context.next_object()
        lane.directory.add(name, handle)
        session.objects.add(name)
        context.objects[name] = (session.handle, call.data if row.number == _CREATE else None)
        return name

    body = encode_reply(row, reply_with(row, values, name_of))
    return Reply((len(body), *reply.frame[1:]), body)
