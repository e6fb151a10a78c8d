"""Calls at a token with views that take time: what needs the token behind, or files."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV, Room, call_named, rv_name
from keyway.cryptoki.constants import CKF_RW_SESSION, CKU_CONTEXT_SPECIFIC, CKU_USER
from keyway.daemon.backend import BackendError
from keyway.daemon.guard.pins import judgement
from keyway.daemon.link import LinkLost
from keyway.daemon.views.answers import Reply, arguments, told
from keyway.daemon.views.far import Far, reach
from keyway.daemon.views.lead import Lead, chosen
from keyway.gateway.answers import slot_list
from keyway.observe.log import event
from keyway.wire.codec import encode_reply, encode_request

if TYPE_CHECKING:
    from keyway.daemon.link import Frame
    from keyway.daemon.views.context import ViewsContext

__all__ = ["close", "close_all", "finalise", "login", "logout", "mechanisms", "open_session"]

_OPEN: Final = call_named("C_OpenSession")
_CLOSE: Final = call_named("C_CloseSession").number
_LOGIN: Final = call_named("C_Login")
_MECHANISM_LIST: Final = call_named("C_GetMechanismList").number


async def login(context: ViewsContext, frame: Frame, data: bytes) -> Reply:
    """Let the PIN choose, and log in where it leads, with the PIN of the token there."""
    user, pin = arguments(frame, data)
    assert isinstance(user, int)
    rv = context.sessions.logging_in(frame[4], user, has_pin=isinstance(pin, bytes))
    if rv != RV.CKR_OK or not isinstance(pin, bytes):
        return Reply(rv)
    lead = chosen(context.home.leads, pin)
    if user == CKU_CONTEXT_SPECIFIC:
        if lead is None or lead is not context.lead or context.far is None:
            return Reply(RV.CKR_PIN_INCORRECT)
        return Reply(await _give_pin(lead, context.far, frame[4], CKU_CONTEXT_SPECIFIC))
    if lead is None:
        return Reply(RV.CKR_PIN_INCORRECT)
    return Reply(await _choose(context, lead, frame[4]))


async def _choose(context: ViewsContext, lead: Lead, session: int) -> int:
    """Open a stream where a PIN leads, with the sessions that the client has, and log in there."""
    home = context.home
    try:
        far = await reach(lead, context, home.ending)
    except BackendError as error:
        event(logging.ERROR, "view can't be reached", token=home.token_name, view=lead.name, reason=str(error))
        return RV.CKR_DEVICE_ERROR
    is_chosen = False
    context.coming = far
    try:
        if context.is_closed:
            raise LinkLost
        assert context.guest is not None  # Views need identities.
        context.guest.enter(far.host, home.token_name, lead.name, far.slot)
        far.attach()
        for handle, flags in context.sessions.flags.items():
            if (rv := await _open(lead, far, handle, flags)) != RV.CKR_OK:
                return rv
        rv = await _give_pin(lead, far, session, CKU_USER)
        # Whatever the token says: the PIN of the client was right.
        if rv != RV.CKR_OK or context.is_closed:
            return RV.CKR_DEVICE_ERROR
        context.choose(lead, far)
        is_chosen = True
        return RV.CKR_OK
    finally:
        context.coming = None
        if not is_chosen:
            far.end(home.ending)
            context.far_busy(False)


async def _give_pin(lead: Lead, far: Far, session: int, user: int) -> int:
    """Give the token behind its own PIN, unless it has refused that before. Return the RV; CKR_DEVICE_ERROR in place of what would blame the client's PIN."""
    async with AsyncExitStack() as stack:
        if not lead.held.is_proven:
            await stack.enter_async_context(lead.trying)
        turn = await lead.home.turns.take(exclusive=True)
        stack.callback(turn.end)
        if (pin := lead.held.read()) is None:
            return RV.CKR_DEVICE_ERROR
        rv, _ = await far.call(_LOGIN.number, encode_request(_LOGIN, (user, pin)).body, session)
    if rv == RV.CKR_OK:
        lead.held.accepted()
        return rv
    if judgement(rv) is False:
        lead.held.refused(rv)
        return RV.CKR_DEVICE_ERROR
    if user == CKU_USER:
        event(logging.WARNING, "view refused", token=lead.token_name, view=lead.name, rv=rv_name(rv))
    return rv


async def open_session(context: ViewsContext, frame: Frame, data: bytes) -> Reply:
    """Open a session at the token that was chosen."""
    flags, handle = arguments(frame, data)
    assert isinstance(flags, int)
    place = handle if isinstance(handle, int) else None
    rv: int = context.sessions.opening(flags, place)
    if rv == RV.CKR_OK and place is not None:
        assert context.lead is not None
        assert context.far is not None
        rv = await _open(context.lead, context.far, place, flags)
        if rv == RV.CKR_OK:
            context.sessions.opened(flags, place)
    return Reply(rv)


async def _open(lead: Lead, far: Far, handle: int, flags: int) -> int:
    turn = await lead.home.turns.take(exclusive=False)
    try:
        rv, _ = await far.call(_OPEN.number, encode_request(_OPEN, (flags, handle)).body, far.slot)
        if rv == RV.CKR_TOKEN_WRITE_PROTECTED and flags & CKF_RW_SESSION:
            # Nobody could know before the PIN that nothing can be written there.
            body = encode_request(_OPEN, (flags & ~CKF_RW_SESSION, handle)).body
            rv, _ = await far.call(_OPEN.number, body, far.slot)
        return rv
    finally:
        turn.end()


async def close(context: ViewsContext, frame: Frame) -> Reply:
    """Close a session there. With the last one the choice ends."""
    assert context.far is not None
    rv, _ = await context.far.call(_CLOSE, b"", frame[4])
    if rv == RV.CKR_OK:
        context.sessions.closed(frame[4])
        if not context.sessions.flags and (far := context.leave()) is not None:
            await far.finalise(context.home.ending)
    return Reply(rv)


async def logout(context: ViewsContext) -> Reply:
    """End the choice. The client's sessions stay, and have nothing active."""
    await _close_there(context)
    return Reply(RV.CKR_OK)


async def close_all(context: ViewsContext) -> Reply:
    """Close all sessions, which ends the choice."""
    await _close_there(context)
    context.sessions.closed_all()
    return Reply(RV.CKR_OK)


async def _close_there(context: ViewsContext) -> None:
    """Close the sessions at the token. A session is closed behind what it was told before, so nothing stays unanswered."""
    far = context.far
    assert far is not None
    for handle in context.sessions.flags:
        await far.call(_CLOSE, b"", handle)
    if context.leave() is not None:
        await far.finalise(context.home.ending)


async def finalise(context: ViewsContext) -> Reply:
    """End the context."""
    context.sessions.closed_all()
    if (far := context.leave()) is not None:
        await far.finalise(context.home.ending)
    return Reply(RV.CKR_OK)


async def mechanisms(context: ViewsContext, frame: Frame, data: bytes) -> Reply:
    """Ask the token that was chosen; while none is, tell what all of them have."""
    if context.far is not None:
        rv, body = await context.far.call(frame[1], data[32:], context.far.slot)
        return Reply(rv, body)
    infos = await context.home.mechanisms()
    if infos is None:
        return Reply(RV.CKR_TOKEN_NOT_PRESENT)
    if frame[1] == _MECHANISM_LIST:
        (room,) = arguments(frame, data)
        assert isinstance(room, Room)
        answer = slot_list(room, tuple(infos))
        return Reply(answer.rv, encode_reply(CALLS[frame[1] - 1], answer.values))
    type_, _ = arguments(frame, data)
    info = infos.get(type_) if isinstance(type_, int) else None
    return Reply(RV.CKR_MECHANISM_INVALID) if info is None else told(frame, data, info)
