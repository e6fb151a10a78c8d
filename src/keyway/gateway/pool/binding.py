"""Why a session stays at its member."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Reason", "SessionFacts", "reasons"]


class Reason(StrEnum):
    """What a session has at one member and would not find at another."""

    OPERATION = "operation active"
    SEARCH = "search in progress"
    SESSION_OBJECTS = "session objects"
    OPERATION_STATE = "operation state set"
    SPECIFIC_LOGIN = "context-specific login"
    STATEFUL_KEY = "stateful key"
    SECURITY_OFFICER = "security officer"


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a session has.

    Attributes:
        operations: Names of the active operations, as the call table has them.
        searching: Whether a search is active.
        session_objects: How many session objects live at the member.
        state_was_set: Whether C_SetOperationState succeeded and the operation has not ended.
        specific_login: Whether a context-specific login was made for the active operation.
        is_so: Whether the security officer is logged in.
        has_stateful_key: Whether the active operation changes its key by being used (`replay.UNREPEATABLE`).
    """

    operations: frozenset[str]
    searching: bool
    session_objects: int
    state_was_set: bool
    specific_login: bool
    is_so: bool
    has_stateful_key: bool = False


def reasons(facts: SessionFacts) -> frozenset[Reason]:
    """Return why the session stays where it is; nothing if any member may serve its next call."""
    holds = {
        Reason.OPERATION: bool(facts.operations),
        Reason.SEARCH: facts.searching,
        Reason.SESSION_OBJECTS: facts.session_objects > 0,
        Reason.OPERATION_STATE: facts.state_was_set,
        Reason.SPECIFIC_LOGIN: facts.specific_login,
        Reason.STATEFUL_KEY: facts.has_stateful_key,
        Reason.SECURITY_OFFICER: facts.is_so,
    }
    return frozenset(reason for reason, is_so in holds.items() if is_so)
