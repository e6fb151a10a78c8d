"""What one context has at a token whose PIN tells which token is meant: its sessions, and whether a PIN has been given.

Before that the token is empty: sessions can be opened, searches find nothing, and all that needs a key needs a login first.
"""

from collections.abc import Mapping
from enum import Enum
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from keyway.cryptoki import CALLS, RV, SessionInfo, Target
from keyway.cryptoki.constants import (
    CKF_ASYNC_SESSION,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKS_RO_PUBLIC_SESSION,
    CKS_RW_PUBLIC_SESSION,
    CKU_CONTEXT_SPECIFIC,
    CKU_USER,
)

__all__ = ["WAYS", "ViewSessions", "Way", "matching"]


class Way(Enum):
    """What becomes of a call at a token with views."""

    SLOT_INFO = "the gateway tells of the slot"
    TOKEN_INFO = "the gateway tells of the token"  # noqa: S105 (no password)
    MECHANISMS = "the token that was chosen tells, or what all have in common is told"
    OPEN = "makes a session"
    CLOSE = "ends a session, and the last one the choice"
    CLOSE_ALL = "ends all sessions, and the choice"
    LOGIN = "the PIN chooses"
    LOGOUT = "ends the choice"
    NEVER = "would change PINs or the token; refused"
    INFO = "told of the session; passed on when there is a choice"
    SEARCH = "finds nothing; passed on when there is a choice"
    NOTHING = "ends what there is not; passed on when there is a choice"
    KEYS = "needs a login; passed on when there is a choice"
    FINALIZE = "ends the context"
    ELSEWHERE = "comes here by mistake"


_BY_NAME: Final = {
    "C_GetSlotInfo": Way.SLOT_INFO,
    "C_GetTokenInfo": Way.TOKEN_INFO,
    "C_GetMechanismList": Way.MECHANISMS,
    "C_GetMechanismInfo": Way.MECHANISMS,
    "C_InitToken": Way.NEVER,
    "C_InitPIN": Way.NEVER,
    "C_SetPIN": Way.NEVER,
    "C_LoginUser": Way.NEVER,
    "C_OpenSession": Way.OPEN,
    "C_CloseSession": Way.CLOSE,
    "C_CloseAllSessions": Way.CLOSE_ALL,
    "C_GetSessionInfo": Way.INFO,
    "C_Login": Way.LOGIN,
    "C_Logout": Way.LOGOUT,
    "C_FindObjectsInit": Way.SEARCH,
    "C_FindObjects": Way.SEARCH,
    "C_FindObjectsFinal": Way.SEARCH,
    "C_SessionCancel": Way.NOTHING,
    "C_Finalize": Way.FINALIZE,
}
_BY_TARGET: Final = {Target.SESSION: Way.KEYS, Target.SLOT: Way.ELSEWHERE, Target.NONE: Way.ELSEWHERE}

WAYS: Final[Mapping[int, Way]] = {call.number: _BY_NAME.get(call.name, _BY_TARGET[call.target]) for call in CALLS}
"""By call number."""


class ViewSessions:
    """The sessions of one context.

    Attributes:
        flags: What C_OpenSession was given, by the open sessions' handles.
        view: The name of the view that a PIN has chosen; empty without.
    """

    def __init__(self) -> None:
        """Begin without sessions."""
        self.flags: dict[int, int] = {}
        self.view = ""
        self._searching: set[int] = set()

    def opening(self, flags: int, handle: int | None) -> RV:
        """Return what C_OpenSession is answered, as far as it is not the chosen token that says so.

        Args:
            flags: Its flags.
            handle: The handle that the client chose; None if it has no place for one.
        """
        if handle is None:
            return RV.CKR_ARGUMENTS_BAD
        if flags & CKF_ASYNC_SESSION:
            return RV.CKR_SESSION_ASYNC_NOT_SUPPORTED
        return RV.CKR_OK if flags & CKF_SERIAL_SESSION else RV.CKR_SESSION_PARALLEL_NOT_SUPPORTED

    def opened(self, flags: int, handle: int) -> None:
        """Note a session."""
        self.flags[handle] = flags

    def closed(self, handle: int) -> None:
        """Note that a session has ended; with the last one ends the login (PKCS #11 3.2, section 5.6.2)."""
        self.flags.pop(handle, None)
        self._searching.discard(handle)
        if not self.flags:
            self.view = ""

    def closed_all(self) -> None:
        """Note that all sessions have ended."""
        self.flags.clear()
        self._searching.clear()
        self.view = ""

    def logging_in(self, handle: int, user: int, *, has_pin: bool) -> RV:
        """Return why a PIN is not looked at; CKR_OK if it is.

        Args:
            handle: The session.
            user: CK_USER_TYPE.
            has_pin: Whether there is one.
        """
        if handle not in self.flags:
            return RV.CKR_SESSION_HANDLE_INVALID
        if user not in (CKU_USER, CKU_CONTEXT_SPECIFIC):
            return RV.CKR_USER_TYPE_INVALID
        if user == CKU_USER and self.view:
            return RV.CKR_USER_ALREADY_LOGGED_IN
        if user == CKU_CONTEXT_SPECIFIC and not self.view:
            return RV.CKR_OPERATION_NOT_INITIALIZED
        return RV.CKR_OK if has_pin else RV.CKR_ARGUMENTS_BAD

    def chose(self, view: str) -> None:
        """Note that a PIN has chosen a view. What the sessions were doing is over."""
        self.view = view
        self._searching.clear()

    def logging_out(self, handle: int) -> RV:
        """Return what C_Logout is answered."""
        if handle not in self.flags:
            return RV.CKR_SESSION_HANDLE_INVALID
        return RV.CKR_OK if self.view else RV.CKR_USER_NOT_LOGGED_IN

    def left(self) -> None:
        """Note that no view is chosen any more. The sessions stay."""
        self.view = ""

    def info(self, handle: int, slot: int) -> SessionInfo:
        """Return CK_SESSION_INFO of a session while nothing is chosen.

        Args:
            handle: An open session.
            slot: Its slot.
        """
        flags = self.flags[handle]
        state = CKS_RW_PUBLIC_SESSION if flags & CKF_RW_SESSION else CKS_RO_PUBLIC_SESSION
        return SessionInfo(slot, state, flags, 0)

    def search(self, handle: int, *, begins: bool, goes_on: bool, ends: bool) -> RV:
        """Return what a call of a search is answered while nothing is chosen: there is nothing to be found.

        Args:
            handle: An open session.
            begins: Whether it begins a search.
            goes_on: Whether it asks for what was found.
            ends: Whether it ends the search.
        """
        if begins and handle in self._searching:
            return RV.CKR_OPERATION_ACTIVE
        if begins:
            self._searching.add(handle)
        if (goes_on or ends) and handle not in self._searching:
            return RV.CKR_OPERATION_NOT_INITIALIZED
        if ends:
            self._searching.discard(handle)
        return RV.CKR_OK

    def cancelled(self, handle: int) -> None:
        """Note that a session's operations were given up."""
        self._searching.discard(handle)


def matching(pin: bytes, selects: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the views that a PIN chooses; there should be one at most.

    All of them are compared, each in a time that depends on neither PIN.

    Args:
        pin: What the client gave.
        selects: The PINs that choose, by the views' names.
    """
    given = sha256(pin).digest()
    return tuple([name for name, select in selects.items() if compare_digest(given, sha256(select).digest())])
