"""Opening and closing the sessions of a context: at one member at first, at the others when they are needed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import RV, call_named
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.preparing import Translated, arguments
from keyway.daemon.pool.serving import serve
from keyway.daemon.pool.session import PoolCall, PoolSession
from keyway.wire.codec import encode_request
from keyway.wire.header import Flags

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext

__all__ = ["close_all_sessions", "close_session", "open_session"]

_OPEN: Final = call_named("C_OpenSession")
_CLOSE: Final = call_named("C_CloseSession").number


async def open_session(context: PoolContext, call: PoolCall) -> Reply:
    """Open a session at the member that is chosen. The reply says that it can be made anew anywhere."""
    flags, handle = arguments(call.frame, call.data)
    assert isinstance(flags, int)

    def translate(lane: Lane) -> Translated:
        if isinstance(handle, int):
            lane.used.add(handle)
        return encode_request(_OPEN, (flags, handle))

    lane, reply = await serve(context, call, (), translate, target=lambda lane: lane.slot)
    if reply.rv == RV.CKR_OK and lane is not None and isinstance(handle, int):
        session = PoolSession(handle, flags, lane.member, context.pool.journal)
        context.sessions[handle] = session
        lane.sessions[handle] = handle
    return Reply((0, call.frame[1], Flags.RENEWABLE if reply.rv == RV.CKR_OK else 0, 0, 0, reply.rv), b"")


async def close_session(context: PoolContext, call: PoolCall) -> Reply:
    """Close a session wherever it is open. It is closed then, whatever the members say."""
    handle = call.session.handle
    context.session_closed(handle)
    await _close(context, handle)
    return _ok(call)


async def close_all_sessions(context: PoolContext, call: PoolCall) -> Reply:
    """Close all sessions."""
    open_ = list(context.sessions)
    for handle in open_:
        context.session_closed(handle)
        await _close(context, handle)
    return _ok(call)


async def _close(context: PoolContext, handle: int) -> None:
    async def one(lane: Lane) -> None:
        lane.used.discard(handle)
        there = lane.sessions.pop(handle, None)
        if there is None:
            return
        if not lane.sessions:
            lane.forget_login()
        with suppress(LinkLost):
            await lane.ask(_CLOSE, b"", there, limit=context.pool.deadline)

    await asyncio.gather(*map(one, list(context.lanes.values())))


def _ok(call: PoolCall) -> Reply:
    return Reply((0, call.frame[1], 0, 0, 0, RV.CKR_OK), b"")
