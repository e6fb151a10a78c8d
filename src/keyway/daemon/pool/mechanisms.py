"""Asking a member what it can."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import RV, MechanismInfo, Numbers, Room, call_named
from keyway.wire.codec import decode_reply, encode_request

if TYPE_CHECKING:
    from keyway.daemon.pool.lane import Lane

__all__ = ["ask_mechanisms"]

_LIST: Final = call_named("C_GetMechanismList")
_INFO: Final = call_named("C_GetMechanismInfo")


async def ask_mechanisms(lane: Lane) -> None:
    """Ask a member for its mechanisms, and note them there.

    Raises:
        LinkLost: The member is gone.
        WireError: It does not speak the wire.
    """
    counted = await lane.make(_LIST, (Room(0, has_buffer=False),), lane.slot, 0.0)
    values = decode_reply(_LIST, counted.body)
    count = values[0].count if counted.rv == RV.CKR_OK and values and isinstance(values[0], Numbers) else 0
    listed = await lane.make(_LIST, (Room(count or 0, has_buffer=True),), lane.slot, 0.0)
    values = decode_reply(_LIST, listed.body)
    types = values[0].data if listed.rv == RV.CKR_OK and values and isinstance(values[0], Numbers) else None
    member = lane.member
    member.mechanisms = types or ()
    infos = await asyncio.gather(*(_info(lane, type_) for type_ in member.mechanisms))
    member.mechanism_infos = dict(zip(member.mechanisms, infos, strict=True))


async def _info(lane: Lane, type_: int) -> MechanismInfo | None:
    reply = await lane.ask(_INFO.number, encode_request(_INFO, (type_, True)).body, lane.slot)
    values = decode_reply(_INFO, reply.body)
    return values[0] if reply.rv == RV.CKR_OK and values and isinstance(values[0], MechanismInfo) else None
