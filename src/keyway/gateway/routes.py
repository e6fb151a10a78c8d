"""Which way each call goes, as a table made from the call table."""

from enum import Enum
from typing import Final

from keyway.cryptoki import CALLS, Target

__all__ = ["AFTER_CLOSES", "PLAIN_WITH_OWN_SLOTS", "PLAIN_WITH_VIRTUAL_SLOTS", "REPEATED", "ROUTES", "TURNS", "Route"]


class Route(Enum):
    """What the gateway does with a call of an open context."""

    SESSION = "to the backend of the session"
    SESSION_INFO = "the same; the answer names a slot"
    SLOT = "to the backend of the slot"
    SLOT_INFO = "the same; answered for a token that is not there"
    TOKEN_INFO = "the same; the answer tells of write protection"  # noqa: S105 (no password)
    INIT_TOKEN = "the same; refused where the token is write-protected"  # noqa: S105 (no password)
    OPEN_SESSION = "the same; success makes a session"
    CLOSE_SESSION = "to the backend of the session; success ends it"
    CLOSE_ALL_SESSIONS = "to the backend of the slot; success ends its sessions"
    INFO = "the module's own answer if it is the only one"
    SLOT_LIST = "the module's own answer if its slots are shown as they are"
    SLOT_EVENT = "likewise"
    INITIALIZE = "opens the context"
    FINALIZE = "ends the context"
    ELSEWHERE = "answered by the client itself, never sent"


_BY_NAME: Final = {
    "C_Initialize": Route.INITIALIZE,
    "C_Finalize": Route.FINALIZE,
    "C_GetInfo": Route.INFO,
    "C_GetSlotList": Route.SLOT_LIST,
    "C_GetSlotInfo": Route.SLOT_INFO,
    "C_GetTokenInfo": Route.TOKEN_INFO,
    "C_InitToken": Route.INIT_TOKEN,
    "C_WaitForSlotEvent": Route.SLOT_EVENT,
    "C_OpenSession": Route.OPEN_SESSION,
    "C_CloseSession": Route.CLOSE_SESSION,
    "C_CloseAllSessions": Route.CLOSE_ALL_SESSIONS,
    "C_GetSessionInfo": Route.SESSION_INFO,
}
_BY_TARGET: Final = {Target.SESSION: Route.SESSION, Target.SLOT: Route.SLOT, Target.NONE: Route.ELSEWHERE}

ROUTES: Final = {
    call.number: Route.ELSEWHERE if call.local else _BY_NAME.get(call.name, _BY_TARGET[call.target]) for call in CALLS
}
"""Call number to route."""

_TAKES_TURNS: Final = {
    "C_Login": True,
    "C_LoginUser": True,
    "C_InitPIN": True,
    "C_SetPIN": True,
    "C_InitToken": True,
    "C_GetSlotList": False,
    "C_GetSlotInfo": False,
    "C_GetTokenInfo": False,
    "C_OpenSession": False,
}
"""Calls that take turns over all hosts of a backend, and whether the turn is exclusive: those that write what describes
a token, and those that read it (keyway.backend.turns). C_Initialize is exclusive too."""

TURNS: Final = {call.number: _TAKES_TURNS[call.name] for call in CALLS if call.name in _TAKES_TURNS}
"""The same by call number."""

_COUNTING: Final = frozenset(
    {
        "C_GetTokenInfo",
        "C_InitToken",
        "C_OpenSession",
        "C_CloseSession",
        "C_CloseAllSessions",
        "C_Login",
        "C_LoginUser",
    }
)

AFTER_CLOSES: Final = frozenset(call.number for call in CALLS if call.name in _COUNTING)
"""Calls that tell, or depend on, which sessions are open: they come after the ends of sessions that nobody waits for."""

_WITHOUT_STATE: Final = frozenset({Route.SLOT, Route.SLOT_INFO, Route.TOKEN_INFO, Route.SLOT_LIST, Route.INFO})

REPEATED: Final = frozenset(
    call.number
    for call in CALLS
    if call.name == "C_OpenSession" or (call.repeat and ROUTES[call.number] in _WITHOUT_STATE)
)
"""Calls that are made once more on the next host when theirs ends under them: they need no state of the lost host, and leave
none. A session that the lost host may have opened is gone with it."""

PLAIN_WITH_OWN_SLOTS: Final = frozenset(
    number for number, route in ROUTES.items() if route in (Route.SESSION, Route.SESSION_INFO) and number not in TURNS
)
"""Calls of a session that change nothing that the gateway keeps, where slots are the module's own: relayed without a look."""

PLAIN_WITH_VIRTUAL_SLOTS: Final = frozenset(
    number for number in PLAIN_WITH_OWN_SLOTS if ROUTES[number] is Route.SESSION
)
"""The same where slots are virtual."""
