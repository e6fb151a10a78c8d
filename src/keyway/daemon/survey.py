"""Asking a module for its slots and what is in them."""

import asyncio
from typing import Final

from keyway.cryptoki import RV, Numbers, Room, SlotInfo, TokenInfo, Value, call_named
from keyway.cryptoki.constants import CKF_TOKEN_PRESENT
from keyway.daemon.link import Caller
from keyway.gateway.slots import BackendSlot, SeenSlot
from keyway.wire.codec import decode_reply, encode_request

__all__ = ["survey"]

MAX_SLOTS: Final = 4096
"""Slots of one module that are asked for; more make no sense, and each costs two calls."""


async def survey(link: Caller) -> list[SeenSlot]:
    """Return the slots that the module at the other end has.

    Raises:
        LinkLost: The host ended.
        WireError: It does not speak the wire.
    """
    # All slots at a time: one after another they would cost two round trips each.
    seen = await asyncio.gather(*(_seen(link, slot) for slot in await _slots(link)))
    return [each for each in seen if each is not None]


async def _seen(link: Caller, slot: int) -> SeenSlot | None:
    info = await _ask(link, "C_GetSlotInfo", (True,), slot)
    if not isinstance(info, SlotInfo):
        return None
    token = await _ask(link, "C_GetTokenInfo", (True,), slot) if info.flags & CKF_TOKEN_PRESENT else None
    return SeenSlot(BackendSlot(link.name, slot), info, token if isinstance(token, TokenInfo) else None)


async def _slots(link: Caller) -> tuple[int, ...]:
    # The call without a buffer is the one that makes a module look for new slots.
    counted = await _ask(link, "C_GetSlotList", (0, Room(0, False)))
    if not isinstance(counted, Numbers) or not counted.count:
        return ()
    listed = await _ask(link, "C_GetSlotList", (0, Room(min(counted.count, MAX_SLOTS), True)))
    return listed.data or () if isinstance(listed, Numbers) else ()


async def _ask(link: Caller, name: str, values: tuple[Value, ...], slot: int = 0) -> Value:
    call = call_named(name)
    rv, body = await link.call(call.number, encode_request(call, values).body, slot)
    if rv != RV.CKR_OK:
        return None
    values = decode_reply(call, body)
    return values[0] if values else None
