"""What is known of a session's operations, from the calls that were made and their RVs. Pure decisions.

A token may allow one operation at a time or several; what is not understood makes the state unknown, and an unknown state only costs
a round trip. libkeyway.so decides the same way (docs/architecture.md, on learning).
"""

from typing import Final, NamedTuple

from keyway.cryptoki import CALLS, RV, Call
from keyway.cryptoki.table import Effect, Step

__all__ = ["IDLE", "UNKNOWN", "Activity"]

_NONE_OF_ITS_OWN: Final = frozenset({"", "dual"})
_BITS: Final = {
    name: 1 << bit for bit, name in enumerate(sorted({call.operation for call in CALLS} - _NONE_OF_ITS_OWN))
}
_UNCLEAR: Final = frozenset({"C_SetOperationState", "C_AsyncComplete", "C_AsyncGetID", "C_AsyncJoin"})
_ENDS: Final = frozenset({Step.WHOLE, Step.END})
_DOES_NOT_FIT: Final = frozenset({RV.CKR_SIGNATURE_INVALID, RV.CKR_SIGNATURE_LEN_RANGE})
"""A signature that does not fit the data ends the operation as one that does."""


class Activity(NamedTuple):
    """Operations, a bit each.

    Attributes:
        possible: Those that may be active.
        certain: Those of them that are.
    """

    possible: int
    certain: int

    def doubted(self) -> "Activity":
        """Return the same operations, but they may have ended."""
        return Activity(self.possible, 0)

    def after(self, call: Call, rv: int, *, wanted: bool = True, mechanism: bool = True) -> "Activity":
        """Return what is known after a call.

        Args:
            call: The call.
            rv: What it answered.
            wanted: Whether the result was asked for, or there is none; else its length alone was.
            mechanism: Whether an init call was given a mechanism; without one it ends the operation.
        """
        bit = _BITS.get(call.operation)
        if bit is None:
            return self._after_other(call)
        if call.step is Step.START:
            return self._after_start(bit, rv, mechanism=mechanism)
        if call.step in _ENDS and ((rv == RV.CKR_OK and wanted) or rv in _DOES_NOT_FIT):
            return Activity(self.possible & ~bit, self.certain & ~bit)
        if rv in (RV.CKR_OK, RV.CKR_BUFFER_TOO_SMALL):
            return self
        if rv == RV.CKR_OPERATION_NOT_INITIALIZED:
            return self.doubted()
        return Activity(self.possible | bit, self.certain & ~bit)

    def _after_start(self, bit: int, rv: int, *, mechanism: bool) -> "Activity":
        if rv == RV.CKR_OK:
            # One that was certain goes on for all we know: tokens may have several at a time. One that failed was ended by the standard;
            # a token that keeps it, and has one at a time, would not have started another.
            return Activity(self.certain | bit, self.certain | bit) if mechanism else self.doubted()
        # An init call that fails starts nothing and ends nothing.
        return UNKNOWN if rv == RV.CKR_OPERATION_ACTIVE and self == IDLE else self

    def _after_other(self, call: Call) -> "Activity":
        if call.name in _UNCLEAR:
            return UNKNOWN
        # A token may end operations with the login that they need.
        is_doubtful = call.operation or call.name in _CANCELS or call.effect in (Effect.LOGIN, Effect.TOKEN)
        return self.doubted() if is_doubtful else self


_CANCELS: Final = frozenset({"C_SessionCancel", "C_CancelFunction"})

IDLE: Final = Activity(0, 0)
"""No operation is active."""
UNKNOWN: Final = Activity((1 << len(_BITS)) - 1, 0)
"""Any may be."""
