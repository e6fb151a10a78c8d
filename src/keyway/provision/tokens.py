"""Tokens: found, told of, initialised, and given PINs."""

from __future__ import annotations

from keyway.cryptoki import CkError, TokenInfo, padded, unpadded
from keyway.cryptoki.constants import (
    CKF_TOKEN_INITIALIZED,
    CKF_USER_PIN_INITIALIZED,
    CKF_USER_PIN_LOCKED,
    CKF_WRITE_PROTECTED,
    CKU_SO,
    CKU_USER,
)
from keyway.provision.models import TokenAnswer
from keyway.provision.problems import Problem, from_rv
from keyway.provision.references import TokenRef
from keyway.provision.session import Context

__all__ = ["answer_of", "change_pin", "find_token", "initialize", "seen_tokens", "set_pin"]


async def seen_tokens(context: Context) -> tuple[dict[int, TokenInfo], dict[int, CkError]]:
    """Return the tokens by their slots, and why the token of a slot is not seen.

    Raises:
        CkError: The slots can't be listed.
    """
    seen: dict[int, TokenInfo] = {}
    unseen: dict[int, CkError] = {}
    for slot in await context.slots(with_token=False):
        try:
            seen[slot] = await context.token_info(slot)
        except CkError as error:
            unseen[slot] = error
    return seen, unseen


async def find_token(context: Context, ref: TokenRef) -> tuple[int, TokenInfo]:
    """Return the one token that is meant, with its slot.

    Raises:
        Problem: `token-missing`, `token-ambiguous`; `backend-down` or the like, if a token does not answer and it may be that one.
        CkError: The slots can't be listed.
    """
    seen, unseen = await seen_tokens(context)
    found = [(slot, info) for slot, info in seen.items() if ref.matches(info)]
    if len(found) > 1:
        raise Problem(
            "token-ambiguous", f"{len(found)} tokens match {ref.text}: a URI with a serial number tells which"
        )
    if found:
        return found[0]
    for slot, error in unseen.items():
        raise from_rv(error.rv, f"no token matches {ref.text}; that in slot {slot} does not answer")
    raise Problem("token-missing", f"no token matches {ref.text}")


async def initialize(context: Context, label: str, slot: int | None, so_pin: bytes, pin: bytes) -> bool:
    """See to it that there is a token with a label, and that it has a user PIN. Return whether it was made now.

    A token that has been initialised before is never initialised again. The caller sees to it that nobody else does the same meanwhile.

    Args:
        context: Where.
        label: The label, up to 32 bytes.
        slot: The slot of a new one. A number that is no slot means any, since modules give tokens other numbers when they initialise them.
        so_pin: PIN of the security officer.
        pin: The user PIN.

    Raises:
        Problem: `no-free-slot`, `slot-occupied`, `token-ambiguous`, or what `find_token` raises.
        CkError: The token refuses.
    """
    ref = TokenRef.parse(label)
    try:
        there, info = await find_token(context, ref)
    except Problem as problem:
        if problem.code != "token-missing":
            raise
    else:
        if not info.flags & CKF_USER_PIN_INITIALIZED:
            await set_pin(context, there, so_pin, pin)
        return False
    chosen = await _empty_slot(context, slot)
    await context.call("C_InitToken", so_pin, padded(label, 32), target=chosen)
    await set_pin(context, chosen, so_pin, pin)
    return True


async def _empty_slot(context: Context, wanted: int | None) -> int:
    seen, _ = await seen_tokens(context)
    empty = [slot for slot, info in seen.items() if not info.flags & CKF_TOKEN_INITIALIZED]
    if wanted is not None and wanted in seen:
        if wanted not in empty:
            raise Problem("slot-occupied", f"slot {wanted} holds {unpadded(seen[wanted].label)}, which is left alone")
        return wanted
    if not empty:
        raise Problem("no-free-slot", "a daemon shows tokens that are not initialised where slots pass through")
    return empty[0]


async def set_pin(context: Context, slot: int, so_pin: bytes, pin: bytes) -> None:
    """Set the user PIN as the security officer (C_InitPIN).

    Raises:
        CkError: The token refuses.
    """
    session = await context.session(slot, writes=True)
    try:
        await session.login(CKU_SO, so_pin)
        await session.call("C_InitPIN", pin)
    finally:
        if not context.is_lost:
            await session.close()


async def change_pin(context: Context, slot: int, old: bytes, new: bytes) -> None:
    """Change the user PIN as the user (C_SetPIN).

    Raises:
        CkError: The token refuses.
    """
    session = await context.session(slot, writes=True)
    try:
        await session.login(CKU_USER, old)
        await session.call("C_SetPIN", old, new)
    finally:
        if not context.is_lost:
            await session.close()


def answer_of(slot: int, info: TokenInfo) -> TokenAnswer:
    """Return what callers are told of a token."""
    return TokenAnswer(
        label=unpadded(info.label) if info.flags & CKF_TOKEN_INITIALIZED else "",
        serial_number=unpadded(info.serial_number),
        model=unpadded(info.model),
        manufacturer=unpadded(info.manufacturer_id),
        slot=slot,
        initialized=bool(info.flags & CKF_TOKEN_INITIALIZED),
        user_pin_set=bool(info.flags & CKF_USER_PIN_INITIALIZED),
        user_pin_locked=bool(info.flags & CKF_USER_PIN_LOCKED),
        write_protected=bool(info.flags & CKF_WRITE_PROTECTED),
    )
