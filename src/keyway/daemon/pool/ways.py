"""Which way each call of a pool's session goes, as a table made from the call table."""

from enum import Enum
from typing import Final

from keyway.cryptoki import CALLS, Effect, Step, Target
from keyway.gateway.routes import ROUTES, Route
from keyway.wire.ahead import READ_AHEAD

__all__ = ["CREATIONS", "LONG", "NAMES_KEY", "OF_OPERATIONS", "WAYS", "Way"]


class Way(Enum):
    """What the pool does with a call."""

    OPEN_SESSION = "opens a session at one member"
    CLOSE_SESSION = "closes it wherever it is open"
    CLOSE_ALL_SESSIONS = "closes all of them"
    LOGIN = "logs in at one member, and at the others when they are needed"
    LOGOUT = "logs out wherever somebody is logged in"
    SEARCH_INIT = "searches at all members"
    SEARCH = "gives handles from what was found"
    SEARCH_FINAL = "forgets what was found"
    BEGIN = "starts an operation at a member that has the key"
    OPERATION = "goes where the operation is"
    READ = "reads an object at a member that has it"
    ANY = "can be made at any member"
    SEVERAL = "names several objects, which one member must have"
    CREATE = "makes objects"
    DESTROY = "destroys an object wherever it is"
    CHANGE = "changes an object wherever it is"
    PIN = "changes a PIN, at all members one after another"
    STATE = "moves the state of operations"
    CANCEL = "ends operations"
    AHEAD = "reads ahead"


_BY_NAME: Final = {
    "C_CloseSession": Way.CLOSE_SESSION,
    "C_Login": Way.LOGIN,
    "C_LoginUser": Way.LOGIN,
    "C_Logout": Way.LOGOUT,
    "C_FindObjectsInit": Way.SEARCH_INIT,
    "C_FindObjects": Way.SEARCH,
    "C_FindObjectsFinal": Way.SEARCH_FINAL,
    "C_GetAttributeValue": Way.READ,
    "C_GetObjectSize": Way.READ,
    "C_WrapKey": Way.SEVERAL,
    "C_WrapKeyAuthenticated": Way.SEVERAL,
    "C_DestroyObject": Way.DESTROY,
    "C_SetAttributeValue": Way.CHANGE,
    "C_InitPIN": Way.PIN,
    "C_SetPIN": Way.PIN,
    "C_GetOperationState": Way.STATE,
    "C_SetOperationState": Way.STATE,
    "C_SessionCancel": Way.CANCEL,
    "C_CancelFunction": Way.CANCEL,
}


def _way(number: int) -> Way:
    call = CALLS[number - 1]
    if call.name in _BY_NAME:
        return _BY_NAME[call.name]
    if call.effect is Effect.OBJECTS and not call.name.startswith("C_Async"):
        return Way.CREATE
    if call.step is Step.START:
        return Way.BEGIN
    return Way.OPERATION if call.operation else Way.ANY


WAYS: Final = {
    **{call.number: _way(call.number) for call in CALLS if call.target is Target.SESSION and not call.local},
    **{number: Way.OPEN_SESSION for number, route in ROUTES.items() if route is Route.OPEN_SESSION},
    **{number: Way.CLOSE_ALL_SESSIONS for number, route in ROUTES.items() if route is Route.CLOSE_ALL_SESSIONS},
    READ_AHEAD: Way.AHEAD,
}
"""Call number to way, of the calls of sessions and those that open and close them."""

OF_OPERATIONS: Final = frozenset({Way.BEGIN, Way.OPERATION, Way.STATE, Way.CANCEL})
"""What is done where the operations of the session are."""

LONG: Final = frozenset(
    call.number
    for call in CALLS
    if call.effect in (Effect.OBJECTS, Effect.TOKEN, Effect.LOGIN) or call.name.startswith("C_WrapKey")
)
"""Calls that may take long by nature: the other deadline is theirs."""

CREATIONS: Final = frozenset(number for number, way in WAYS.items() if way is Way.CREATE)

NAMES_KEY: Final = frozenset(call.number for call in CALLS if any(argument.kind == "object" for argument in call.args))
"""Calls with an object handle in their header."""
