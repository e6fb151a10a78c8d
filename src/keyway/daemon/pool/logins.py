"""Logging in and out. The first member decides about a PIN; the others are shown it when they are needed, once each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV, Null, call_named
from keyway.cryptoki.constants import CKU_CONTEXT_SPECIFIC, CKU_USER
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.login import Login
from keyway.daemon.pool.preparing import Translated, arguments, everywhere, log_in, prepare
from keyway.daemon.pool.serving import serve
from keyway.daemon.pool.session import PoolCall
from keyway.gateway.pool.replay import Replay
from keyway.wire.codec import encode_request

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext

__all__ = ["login", "logout"]

_LOGOUT: Final = call_named("C_Logout").number


async def login(context: PoolContext, call: PoolCall) -> Reply:
    """Log in at one member; what it answers is the answer."""
    async with context.logging_in:
        return await _login(context, call)


async def _login(context: PoolContext, call: PoolCall) -> Reply:
    row = CALLS[call.frame[1] - 1]
    user_type, pin, *name = arguments(call.frame, call.data)
    assert isinstance(user_type, int)
    assert isinstance(pin, bytes | Null)
    user_name = name[0] if name else None
    assert user_name is None or isinstance(user_name, bytes | Null)
    session = call.session
    is_own = False
    if isinstance(pin, Null) and user_type == CKU_USER and not name and (own := context.pool.own_pin()) is not None:
        pin, is_own = own, True

    # A member that has refused this PIN is not shown it again.
    digest = context.pool.digest(Login(user_type, pin, user_name, is_own=is_own))
    only = [member for member in context.pool.members if digest not in member.refused]

    def translate(_: Lane) -> Translated:
        return encode_request(row, (user_type, pin, *name))

    lane, reply = await serve(
        context, call, (), translate, replay=Replay.NEVER, only=only, is_bound=user_type == CKU_CONTEXT_SPECIFIC
    )
    if lane is None:
        return reply
    if user_type == CKU_CONTEXT_SPECIFIC:
        if reply.rv == RV.CKR_OK and session.operations:
            session.specific_login = True
            session.journal.spoil()
        return reply
    if is_own and reply.rv != RV.CKR_OK:
        context.pool.own_pin_refused(lane.member, reply.rv)
    if reply.rv != RV.CKR_OK or context.login is not None:
        return reply
    lane.forget_login()
    context.login = lane.login = Login(user_type, pin, user_name, is_own=is_own)
    if context.pool.token.remember_pin:
        if not context.login.is_so:
            context.pool.warm_up(context, session)
    else:
        await _everywhere_now(context, call, lane)
        context.login.wipe()
    return reply


async def _everywhere_now(context: PoolContext, call: PoolCall, done: Lane) -> None:
    """Log in at the other members at once, since the PIN is not kept."""
    made = context.login
    assert made is not None

    async def one(lane: Lane) -> None:
        if lane is not done:
            await prepare(context, lane, call.session, (), call.since + context.pool.long_deadline)
            await log_in(context, lane, made)

    until = call.since + context.pool.long_deadline
    await everywhere(context, [each for each in context.pool.usable if each is not done.member], one, until)


async def logout(context: PoolContext, call: PoolCall) -> Reply:
    """Log out wherever somebody is logged in. One member decides about the RV."""
    done, reply = await serve(context, call, (), lambda _: (0, b""))
    if reply.rv != RV.CKR_OK:
        return reply
    others = [lane for lane in context.lanes.values() if lane.login is not None and lane is not done]

    async def one(lane: Lane) -> None:
        if lane.sessions:
            with suppress(LinkLost):
                await lane.ask(_LOGOUT, b"", min(lane.sessions.values()), limit=context.pool.deadline)

    context.logged_out()
    await asyncio.gather(*map(one, others))
    return reply
