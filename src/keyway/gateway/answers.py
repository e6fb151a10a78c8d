"""Answers of the gateway itself, for what no backend is asked or none can be."""

from typing import Final

from keyway.cryptoki import RV, Info, ModuleInfo, Numbers, Room, Version, padded
from keyway.cryptoki.constants import CKF_DONT_BLOCK
from keyway.gateway.decisions import Answer
from keyway.gateway.routes import Route

__all__ = ["own_info", "slot_event", "slot_list", "unreachable"]

_ANSWERS: Final = {
    Route.SESSION: Answer(RV.CKR_SESSION_HANDLE_INVALID),
    Route.SESSION_INFO: Answer(RV.CKR_SESSION_HANDLE_INVALID),
    Route.CLOSE_SESSION: Answer(RV.CKR_SESSION_HANDLE_INVALID),
    Route.SLOT: Answer(RV.CKR_TOKEN_NOT_PRESENT),
    Route.OPEN_SESSION: Answer(RV.CKR_TOKEN_NOT_PRESENT),
    Route.CLOSE_ALL_SESSIONS: Answer(RV.CKR_OK),
}


def unreachable(route: Route) -> Answer:
    """Return the answer to a call of a session or slot whose backend can't be reached.

    A session that such a backend once had is not meant: it is among the context's lost ones.
    """
    return _ANSWERS[route]


def own_info(version: Version) -> Info:
    """Return CK_INFO of the gateway itself.

    Args:
        version: The gateway's version.
    """
    return ModuleInfo(Version(3, 2), padded("Keyway", 32), 0, padded("Keyway gateway", 32), version)


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


def slot_event(flags: int) -> Answer:
    """Answer C_WaitForSlotEvent where slots do not come and go: nothing waits, so that nothing hangs."""
    return Answer(RV.CKR_NO_EVENT if flags & CKF_DONT_BLOCK else RV.CKR_FUNCTION_NOT_SUPPORTED, (None,))
