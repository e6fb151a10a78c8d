"""Whether a call that failed is made again, and where."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from keyway.cryptoki import CALLS, SHAPES, Call, Effect, Mechanism, Parameter, Structured
from keyway.cryptoki import Step as CallStep
from keyway.cryptoki.constants import (
    CKM_ACTI,
    CKM_HOTP,
    CKM_HSS,
    CKM_SECURID,
    CKM_X2RATCHET_DECRYPT,
    CKM_X2RATCHET_ENCRYPT,
    CKM_XMSS,
    CKM_XMSSMT,
)
from keyway.gateway.pool.signals import Signal

__all__ = [
    "REPLAYS",
    "UNREPEATABLE",
    "Attempt",
    "Replay",
    "Step",
    "is_repeatable",
    "is_repeatable_parameter",
    "next_step",
]


class Replay(Enum):
    """What may be done about a call of which nobody knows whether it was executed."""

    AGAIN = "made again: it has no second effect"
    OPERATION = "made again, after what the operation has had before"
    NEVER = "not made again: it may have had an effect"
    REMOVAL = "made again; an invalid handle then means that it was executed"


_EXCEPTIONS: Final = {
    # A session that a lost host has opened is gone with it, and one that is gone is closed.
    "C_OpenSession": Replay.AGAIN,
    "C_CloseSession": Replay.AGAIN,
    "C_CloseAllSessions": Replay.AGAIN,
    # Who is logged out stays so.
    "C_Logout": Replay.AGAIN,
    # What is cancelled stays so. C_CancelFunction does nothing at all.
    "C_SessionCancel": Replay.AGAIN,
    "C_CancelFunction": Replay.AGAIN,
    # It changes nothing, but there must be an operation whose state it reads.
    "C_GetOperationState": Replay.OPERATION,
    # The state was saved on one token and is meaningless on another.
    "C_SetOperationState": Replay.NEVER,
    "C_DestroyObject": Replay.REMOVAL,
    # They speak of a call that one member alone knows.
    "C_AsyncComplete": Replay.NEVER,
    "C_AsyncGetID": Replay.NEVER,
    "C_AsyncJoin": Replay.NEVER,
}
"""Calls whose row in the call table does not tell."""


def _replay(call: Call) -> Replay:
    if call.name in _EXCEPTIONS:
        return _EXCEPTIONS[call.name]
    if call.operation == "find" or call.step in (CallStep.START, CallStep.WHOLE):
        return Replay.AGAIN
    if call.operation:
        return Replay.OPERATION
    return Replay.AGAIN if call.repeat and call.effect is Effect.NONE else Replay.NEVER


REPLAYS: Final[Mapping[int, Replay]] = MappingProxyType({call.number: _replay(call) for call in CALLS})
"""Call number to what may be done. A START or WHOLE call of an operation is AGAIN: it has no effect beyond the session. What the
session had before it is made anew first in any case."""

UNREPEATABLE: Final[frozenset[int]] = frozenset(
    {
        # One-time signatures: each uses up a part of the key.
        CKM_HSS,
        CKM_XMSS,
        CKM_XMSSMT,
        # One-time passwords: each advances a counter.
        CKM_SECURID,
        CKM_HOTP,
        CKM_ACTI,
        # The double ratchet: each message changes the key.
        CKM_X2RATCHET_ENCRYPT,
        CKM_X2RATCHET_DECRYPT,
    }
)
"""Mechanisms that are stateful by nature: what they have done is never done a second time, and never on another member."""


def is_repeatable(mechanism: Mechanism | None, *, was_delivered: bool = True) -> bool:
    """Tell whether an operation, or a call that is one, may be made a second time.

    Args:
        mechanism: The mechanism; None for a NULL pointer.
        was_delivered: Whether the client may have got a part of the results, what the token wrote to the parameter among them.
    """
    if mechanism is None:
        return True
    if mechanism.type in UNREPEATABLE:
        return False
    return not was_delivered or is_repeatable_parameter(mechanism.parameter)


def is_repeatable_parameter(parameter: Parameter) -> bool:
    """Tell whether a mechanism parameter, or that of a message function, is one to which the token writes nothing.

    What it writes, such as an IV that it has chosen, it may choose differently the second time.
    """
    return not isinstance(parameter, Structured) or not SHAPES[parameter.shape].out


class Step(Enum):
    """What to do after an attempt."""

    RETURN = "give the client the answer as it is"
    SAME = "make the call again on the same member, once that is repaired"
    OTHER = "make the call again on another member"
    GIVE_UP = "tell the client that the token is gone"


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt to have a call executed ended.

    Attributes:
        was_sent: Whether the call may have been executed. It was not if it was never sent, or if the RV proves it; and a session object that
            it may have made does not count if the host that had it is gone.
        is_replayable: Whether what the session has had before can be made anew, and the call itself a second time: the journal is complete and
            the mechanism allows it. True where nothing of the kind is needed.
        same: How often the call was already made again on this member.
        others_left: Whether another member can serve the call and was not tried for it.
        is_known: For SESSION: whether the session, login or handle that the RV complains of is known to be live.
        in_time: Whether the call's deadline is not over.
        has_rv: Whether the member answered with an RV. Only a LOST member may have not; for the other signals it is not looked at.
    """

    was_sent: bool
    is_replayable: bool
    same: int
    others_left: bool
    is_known: bool
    in_time: bool
    has_rv: bool = False


def next_step(signal: Signal, replay: Replay, attempt: Attempt) -> Step:
    """Return what to do next.

    Args:
        signal: What the attempt says of the member.
        replay: What may be done about the call.
        attempt: How the attempt ended.
    """
    if signal in (Signal.DONE, Signal.CALLER):
        return Step.RETURN
    if signal is Signal.SESSION and not attempt.is_known:
        return Step.RETURN
    # An RV of the token is the best answer there is, also where nothing more can be tried.
    end = Step.RETURN if attempt.has_rv or signal is not Signal.LOST else Step.GIVE_UP
    may_not = replay is Replay.NEVER and (attempt.was_sent or signal is Signal.BUSY)
    if may_not or not attempt.is_replayable or not attempt.in_time:
        return end
    if signal is Signal.SESSION and not attempt.same:
        return Step.SAME
    if attempt.others_left:
        return Step.OTHER
    return end if attempt.same else Step.SAME
