"""Asking the tokens behind views what they can, for those who have given no PIN yet."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import RV, MechanismInfo, Numbers, Room, call_named
from keyway.daemon.backend import BackendError
from keyway.daemon.link import LinkLost
from keyway.daemon.views.far import Far, reach
from keyway.observe.log import event
from keyway.wire.codec import decode_reply, encode_request
from keyway.wire.errors import WireError

if TYPE_CHECKING:
    from keyway.daemon.views.lead import Lead

__all__ = ["ask_mechanisms"]

_LIST: Final = call_named("C_GetMechanismList")
_INFO: Final = call_named("C_GetMechanismInfo")
_MOST: Final = 4096


async def ask_mechanisms(lead: Lead, grace: float) -> None:
    """Ask the token that a view leads to, and note it there. If it can't be asked, which is logged, nothing is noted.

    Args:
        lead: The view.
        grace: Seconds that the other end has to end.
    """
    try:
        far = await reach(lead, None, grace)
        try:
            async with asyncio.timeout(lead.home.options.start_timeout):
                lead.mechanisms = await _asked(far)
        finally:
            await far.finalise(grace)
    except (BackendError, LinkLost, TimeoutError, WireError) as error:
        event(
            logging.WARNING,
            "mechanisms not asked",
            token=lead.token_name,
            view=lead.name,
            reason=str(error) or "no answer",
        )


async def _asked(far: Far) -> dict[int, MechanismInfo]:
    rv, body = await far.call(_LIST.number, encode_request(_LIST, (Room(_MOST, has_buffer=True),)).body, far.slot)
    values = decode_reply(_LIST, body)
    types = values[0].data if rv == RV.CKR_OK and values and isinstance(values[0], Numbers) else None
    told = await asyncio.gather(*(_info(far, type_) for type_ in types or ()))
    return {type_: info for type_, info in zip(types or (), told, strict=True) if info is not None}


async def _info(far: Far, type_: int) -> MechanismInfo | None:
    rv, body = await far.call(_INFO.number, encode_request(_INFO, (type_, True)).body, far.slot)
    values = decode_reply(_INFO, body)
    return values[0] if rv == RV.CKR_OK and values and isinstance(values[0], MechanismInfo) else None
