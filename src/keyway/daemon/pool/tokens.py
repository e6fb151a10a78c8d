"""Calls about the pool's token as a whole: what it is, what it can, and its PINs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV, MechanismInfo, Room, SlotInfo, TokenInfo, Version, call_named, padded, rv_name
from keyway.cryptoki.constants import CKF_TOKEN_PRESENT
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.errors import Lacking, Unserved
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import Refused
from keyway.daemon.pool.preparing import arguments, prepare
from keyway.daemon.pool.session import PoolCall
from keyway.gateway.answers import slot_list
from keyway.gateway.pool import merge
from keyway.observe.log import event
from keyway.wire.codec import encode_reply, encode_request

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext
    from keyway.daemon.pool.pool import Pool

__all__ = ["change_pin", "of_slot", "slot_info", "token_info"]

_TOKEN_INFO: Final = call_named("C_GetTokenInfo")
_SET_PIN: Final = call_named("C_SetPIN").number


def slot_info(pool: Pool) -> SlotInfo:
    """Return CK_SLOT_INFO of a pool."""
    flags = CKF_TOKEN_PRESENT if pool.usable else 0
    return SlotInfo(padded(pool.token_name, 64), padded("Keyway", 32), flags, Version(0, 0), Version(0, 0))


def token_info(pool: Pool) -> TokenInfo | None:
    """Return CK_TOKEN_INFO of a pool from what its members told last; None if no member can serve."""
    infos = [member.token for member in pool.usable if member.token is not None]
    if not infos:
        return None
    options = pool.token
    return merge.token_info(
        pool.token_name,
        options.label,
        options.serial,
        infos,
        is_protected=options.writes == "deny",
        has_own_pin=options.pin_file is not None,
    )


async def of_slot(context: PoolContext, call: PoolCall) -> Reply:
    """Answer a call about the slot or the module."""
    row = CALLS[call.frame[1] - 1]
    work = _OF_SLOT.get(row.name)
    if work is None:
        return _reply(call, RV.CKR_FUNCTION_NOT_SUPPORTED)
    await context.pool.known.wait()
    return await work(context, call)


async def _finalize(context: PoolContext, call: PoolCall) -> Reply:
    await context.finalise()
    return _reply(call, RV.CKR_OK)


async def _slot_info(context: PoolContext, call: PoolCall) -> Reply:
    return _info(call, slot_info(context.pool))


async def _token_info(context: PoolContext, call: PoolCall) -> Reply:
    pool = context.pool
    for member in list(pool.usable):
        lane = context.lanes.get(member.name)
        if lane is None and not pool.is_stale:
            break  # What is known is as good; no host is started for it.
        try:
            lane = await context.lane(member, call.since + pool.deadline)
            reply = await lane.ask(
                _TOKEN_INFO.number, encode_request(_TOKEN_INFO, (True,)).body, lane.slot, limit=pool.deadline
            )
            values = lane.values(_TOKEN_INFO, reply)
        except LinkLost:
            continue
        if reply.rv == RV.CKR_OK and values and isinstance(values[0], TokenInfo):
            member.token = values[0]
            pool.is_stale = False
            break
    info = token_info(pool)
    if info is None:
        raise Unserved(RV.CKR_TOKEN_NOT_PRESENT)
    return _info(call, info)


def _info(call: PoolCall, info: SlotInfo | TokenInfo | MechanismInfo) -> Reply:
    is_wanted = bool(arguments(call.frame, call.data)[-1])
    if not is_wanted:
        return _reply(call, RV.CKR_ARGUMENTS_BAD)
    return _reply(call, RV.CKR_OK, encode_reply(CALLS[call.frame[1] - 1], (info,)))


async def _mechanism_list(context: PoolContext, call: PoolCall) -> Reply:
    (room,) = arguments(call.frame, call.data)
    assert isinstance(room, Room)
    answer = slot_list(room, context.pool.mechanisms())
    return _reply(call, answer.rv, encode_reply(CALLS[call.frame[1] - 1], answer.values))


async def _mechanism_info(context: PoolContext, call: PoolCall) -> Reply:
    type_, _ = arguments(call.frame, call.data)
    assert isinstance(type_, int)
    if type_ not in context.pool.mechanisms():
        return _reply(call, RV.CKR_MECHANISM_INVALID)
    infos = [info for member in context.pool.asked() if (info := member.mechanism_infos.get(type_)) is not None]
    if not infos:
        return _reply(call, RV.CKR_MECHANISM_INVALID)
    return _info(call, merge.mechanism_info(infos))


async def _init_token(context: PoolContext, call: PoolCall) -> Reply:
    async def one(lane: Lane) -> Reply:
        return await lane.ask(call.frame[1], call.data[32:], lane.slot, limit=context.pool.long_deadline)

    return await _one_after_another(context, call, one)


async def change_pin(context: PoolContext, call: PoolCall) -> Reply:
    """Set a PIN at all members, one after another. The first decides; if a later one differs, that is reported."""
    session = call.session

    async def one(lane: Lane) -> Reply:
        await prepare(context, lane, session, (), call.since + context.pool.long_deadline)
        return await lane.ask(
            call.frame[1], call.data[32:], lane.sessions[session.handle], limit=context.pool.long_deadline
        )

    reply = await _one_after_another(context, call, one)
    if reply.rv == RV.CKR_OK and call.frame[1] == _SET_PIN and context.login is not None:
        _, new = arguments(call.frame, call.data)
        if isinstance(new, bytes):
            context.login.replace_pin(new)
    return reply


async def _one_after_another(context: PoolContext, call: PoolCall, work: Callable[[Lane], Awaitable[Reply]]) -> Reply:
    pool = context.pool
    if pool.token.writes == "deny":
        return _reply(call, RV.CKR_TOKEN_WRITE_PROTECTED)
    if len(pool.usable) < len(pool.members):
        raise Unserved(RV.CKR_TOKEN_NOT_PRESENT)  # The PINs would differ from now on.
    pool.is_stale = True
    done: list[str] = []
    for member in list(pool.members):
        try:
            reply = await work(await context.lane(member, call.since + pool.long_deadline))
            rv = reply.rv
        except (LinkLost, Refused, Lacking) as error:
            rv = error.rv if isinstance(error, Refused) else RV.CKR_DEVICE_ERROR
        if rv == RV.CKR_OK:
            done.append(member.name)
            member.refused.clear()
            continue
        if done:
            event(
                logging.ERROR,
                "members differ",
                token=pool.token_name,
                call=CALLS[call.frame[1] - 1].name,
                done=",".join(done),
                failed=member.name,
                rv=rv_name(rv),
            )
            return _reply(call, RV.CKR_DEVICE_ERROR)
        return _reply(call, rv)
    return _reply(call, RV.CKR_OK)


def _reply(call: PoolCall, rv: int, body: bytes = b"") -> Reply:
    return Reply((len(body), call.frame[1], 0, 0, 0, rv), body)


_OF_SLOT: Final[dict[str, Callable[[PoolContext, PoolCall], Awaitable[Reply]]]] = {
    "C_Finalize": _finalize,
    "C_GetSlotInfo": _slot_info,
    "C_GetTokenInfo": _token_info,
    "C_GetMechanismList": _mechanism_list,
    "C_GetMechanismInfo": _mechanism_info,
    "C_InitToken": _init_token,
}
