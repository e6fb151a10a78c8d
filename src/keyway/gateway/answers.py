"""Answers of the gateway itself, for what no backend is asked or none can be."""

from dataclasses import replace
from typing import Final

from keyway.cryptoki import RV, Info, ModuleInfo, Numbers, Room, SlotInfo, TokenInfo, Version, padded
from keyway.cryptoki.constants import CKF_DONT_BLOCK, CKF_WRITE_PROTECTED
from keyway.gateway.decisions import Answer
from keyway.gateway.routes import Route

__all__ = ["empty_slot", "own_info", "slot_event", "slot_list", "unreachable", "write_protected"]

_UNREACHABLE: Final = {
    Route.SESSION: RV.CKR_SESSION_HANDLE_INVALID,
    Route.SESSION_INFO: RV.CKR_SESSION_HANDLE_INVALID,
    Route.CLOSE_SESSION: RV.CKR_SESSION_HANDLE_INVALID,
    Route.SLOT: RV.CKR_TOKEN_NOT_PRESENT,
    Route.SLOT_INFO: RV.CKR_TOKEN_NOT_PRESENT,
    Route.TOKEN_INFO: RV.CKR_TOKEN_NOT_PRESENT,
    Route.INIT_TOKEN: RV.CKR_TOKEN_NOT_PRESENT,
    Route.OPEN_SESSION: RV.CKR_TOKEN_NOT_PRESENT,
    Route.CLOSE_ALL_SESSIONS: RV.CKR_OK,
}


def unreachable(route: Route) -> Answer:
    """Return the answer to a call of a session or slot whose backend can't be reached.

    A session that such a backend once had is not meant: it is among the context's lost ones.
    """
    return Answer(_UNREACHABLE[route])


def own_info(version: Version) -> Info:
    """Return CK_INFO of the gateway itself.

    Args:
        version: The gateway's version.
    """
    return ModuleInfo(Version(3, 2), padded("Keyway", 32), 0, padded("Keyway gateway", 32), version)


def empty_slot(name: str) -> Info:
    """Return CK_SLOT_INFO of the virtual slot of a token that is not there at present.

    Args:
        name: The token's name in the configuration.
    """
    return SlotInfo(padded(name, 64), padded("Keyway", 32), 0, Version(0, 0), Version(0, 0))


def write_protected(info: TokenInfo) -> TokenInfo:
    """Return CK_TOKEN_INFO of a token that can't be changed from where the client is."""
    return replace(info, flags=info.flags | CKF_WRITE_PROTECTED)


def slot_list(room: Room, slots: tuple[int, ...]) -> Answer:
    """Answer C_GetSlotList (PKCS #11 3.2, section 5.5.1).

    Args:
        room: What the caller offers.
        slots: The slots to tell.
    """
    if room.length is None:
        return Answer(RV.CKR_ARGUMENTS_BAD, (Numbers(None, None),))
    count = len(slots)
    if not room.has_buffer:
        return Answer(RV.CKR_OK, (Numbers(count, None),))
    if room.length < count:
        return Answer(RV.CKR_BUFFER_TOO_SMALL, (Numbers(count, None),))
    return Answer(RV.CKR_OK, (Numbers(count, slots),))


def slot_event(flags: int, slot: int | None) -> Answer:
    """Answer C_WaitForSlotEvent: there are no events, and nothing waits for one, so that nothing hangs.

    Args:
        flags: CKF_DONT_BLOCK or 0.
        slot: What the caller has in the place for the slot.
    """
    return Answer(RV.CKR_NO_EVENT if flags & CKF_DONT_BLOCK else RV.CKR_FUNCTION_NOT_SUPPORTED, (slot,))
