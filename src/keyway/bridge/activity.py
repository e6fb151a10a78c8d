"""Which operations of a session may be active, from the calls that were made and their RVs. Pure decisions.

A token may allow one operation at a time or several, so an operation is over only when it is seen to end; what may be active and is not
only costs a round trip.
"""

from typing import Final

from keyway.cryptoki import CALLS, RV, Call, Step

__all__ = ["IDLE", "UNKNOWN", "after"]

_BITS: Final = {name: 1 << bit for bit, name in enumerate(sorted({call.operation for call in CALLS} - {"", "dual"}))}
IDLE: Final = 0
"""No operation is active. A state has a bit for each operation that may be."""
UNKNOWN: Final = (1 << len(_BITS)) - 1
"""Any may be."""

_UNCLEAR: Final = frozenset({"C_SetOperationState", "C_AsyncComplete", "C_AsyncGetID", "C_AsyncJoin"})
_ENDS: Final = frozenset({Step.WHOLE, Step.END})
_DOES_NOT_FIT: Final = frozenset({RV.CKR_SIGNATURE_INVALID, RV.CKR_SIGNATURE_LEN_RANGE})
"""A signature that does not fit the data ends the operation as one that does."""


def after(state: int, call: Call, rv: int, *, wanted: bool = True) -> int:
    """Return the state after a call.

    Args:
        state: That before it.
        call: The call.
        rv: What it answered.
        wanted: Whether the result was asked for, or there is none; else its length alone was.
    """
    bit = _BITS.get(call.operation)
    if bit is None:
        return UNKNOWN if call.name in _UNCLEAR else state
    if call.step is Step.START:
        if rv == RV.CKR_OK:
            return state | bit
        # An init call that fails starts nothing and ends nothing; but something is active that nobody knows of.
        return UNKNOWN if rv == RV.CKR_OPERATION_ACTIVE and state == IDLE else state
    is_over = call.step in _ENDS and ((rv == RV.CKR_OK and wanted) or rv in _DOES_NOT_FIT)
    if is_over or rv == RV.CKR_OPERATION_NOT_INITIALIZED:
        return state & ~bit
    return state if rv in (RV.CKR_OK, RV.CKR_BUFFER_TOO_SMALL) else state | bit
