"""What an RV of a pool's member says about that member, and whose matter it is."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from keyway.cryptoki import RV

__all__ = ["PIN_ERRORS", "SIGNALS", "Signal", "classify", "parse_signal"]


class Signal(Enum):
    """What an answer, or the lack of one, says about the member."""

    DONE = "the member did what it was asked to"
    LOST = "the member can't serve at present"
    SESSION = "the member lives, and has lost a session, a login or a handle"
    BUSY = "the member can't serve this call now"
    CALLER = "the caller's own matter"


SIGNALS: Final[Mapping[int, Signal]] = MappingProxyType(
    {
        RV.CKR_OK: Signal.DONE,
        RV.CKR_CANCEL: Signal.DONE,
        RV.CKR_HOST_MEMORY: Signal.BUSY,
        # The gateway chose the member's slot, the caller can't have made a mistake there: the slot has gone.
        RV.CKR_SLOT_ID_INVALID: Signal.LOST,
        RV.CKR_GENERAL_ERROR: Signal.LOST,
        # The standard allows a plain repeat.
        RV.CKR_FUNCTION_FAILED: Signal.BUSY,
        RV.CKR_ARGUMENTS_BAD: Signal.CALLER,
        RV.CKR_NO_EVENT: Signal.DONE,
        RV.CKR_NEED_TO_CREATE_THREADS: Signal.CALLER,
        RV.CKR_CANT_LOCK: Signal.CALLER,
        RV.CKR_ATTRIBUTE_READ_ONLY: Signal.CALLER,
        RV.CKR_ATTRIBUTE_SENSITIVE: Signal.CALLER,
        RV.CKR_ATTRIBUTE_TYPE_INVALID: Signal.CALLER,
        RV.CKR_ATTRIBUTE_VALUE_INVALID: Signal.CALLER,
        RV.CKR_ACTION_PROHIBITED: Signal.CALLER,
        RV.CKR_DATA_INVALID: Signal.CALLER,
        RV.CKR_DATA_LEN_RANGE: Signal.CALLER,
        RV.CKR_DEVICE_ERROR: Signal.LOST,
        RV.CKR_DEVICE_MEMORY: Signal.BUSY,
        RV.CKR_DEVICE_REMOVED: Signal.LOST,
        RV.CKR_ENCRYPTED_DATA_INVALID: Signal.CALLER,
        RV.CKR_ENCRYPTED_DATA_LEN_RANGE: Signal.CALLER,
        RV.CKR_AEAD_DECRYPT_FAILED: Signal.CALLER,
        RV.CKR_FUNCTION_CANCELED: Signal.DONE,
        # What C_GetFunctionStatus and C_CancelFunction have to answer.
        RV.CKR_FUNCTION_NOT_PARALLEL: Signal.DONE,
        RV.CKR_FUNCTION_NOT_SUPPORTED: Signal.CALLER,
        RV.CKR_KEY_HANDLE_INVALID: Signal.SESSION,
        RV.CKR_KEY_SIZE_RANGE: Signal.CALLER,
        RV.CKR_KEY_TYPE_INCONSISTENT: Signal.CALLER,
        RV.CKR_KEY_NOT_NEEDED: Signal.CALLER,
        RV.CKR_KEY_CHANGED: Signal.CALLER,
        RV.CKR_KEY_NEEDED: Signal.CALLER,
        RV.CKR_KEY_INDIGESTIBLE: Signal.CALLER,
        RV.CKR_KEY_FUNCTION_NOT_PERMITTED: Signal.CALLER,
        RV.CKR_KEY_NOT_WRAPPABLE: Signal.CALLER,
        RV.CKR_KEY_UNEXTRACTABLE: Signal.CALLER,
        RV.CKR_MECHANISM_INVALID: Signal.CALLER,
        RV.CKR_MECHANISM_PARAM_INVALID: Signal.CALLER,
        RV.CKR_OBJECT_HANDLE_INVALID: Signal.SESSION,
        RV.CKR_OPERATION_ACTIVE: Signal.CALLER,
        RV.CKR_OPERATION_NOT_INITIALIZED: Signal.CALLER,
        RV.CKR_PIN_INCORRECT: Signal.CALLER,
        RV.CKR_PIN_INVALID: Signal.CALLER,
        RV.CKR_PIN_LEN_RANGE: Signal.CALLER,
        RV.CKR_PIN_EXPIRED: Signal.CALLER,
        RV.CKR_PIN_LOCKED: Signal.CALLER,
        RV.CKR_SESSION_CLOSED: Signal.SESSION,
        RV.CKR_SESSION_COUNT: Signal.BUSY,
        RV.CKR_SESSION_HANDLE_INVALID: Signal.SESSION,
        RV.CKR_SESSION_PARALLEL_NOT_SUPPORTED: Signal.CALLER,
        RV.CKR_SESSION_READ_ONLY: Signal.CALLER,
        RV.CKR_SESSION_EXISTS: Signal.CALLER,
        RV.CKR_SESSION_READ_ONLY_EXISTS: Signal.CALLER,
        RV.CKR_SESSION_READ_WRITE_SO_EXISTS: Signal.CALLER,
        RV.CKR_SIGNATURE_INVALID: Signal.CALLER,
        RV.CKR_SIGNATURE_LEN_RANGE: Signal.CALLER,
        RV.CKR_TEMPLATE_INCOMPLETE: Signal.CALLER,
        RV.CKR_TEMPLATE_INCONSISTENT: Signal.CALLER,
        RV.CKR_TOKEN_NOT_PRESENT: Signal.LOST,
        RV.CKR_TOKEN_NOT_RECOGNIZED: Signal.LOST,
        RV.CKR_TOKEN_WRITE_PROTECTED: Signal.CALLER,
        RV.CKR_UNWRAPPING_KEY_HANDLE_INVALID: Signal.SESSION,
        RV.CKR_UNWRAPPING_KEY_SIZE_RANGE: Signal.CALLER,
        RV.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: Signal.CALLER,
        RV.CKR_USER_ALREADY_LOGGED_IN: Signal.CALLER,
        RV.CKR_USER_NOT_LOGGED_IN: Signal.SESSION,
        RV.CKR_USER_PIN_NOT_INITIALIZED: Signal.CALLER,
        RV.CKR_USER_TYPE_INVALID: Signal.CALLER,
        RV.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: Signal.CALLER,
        RV.CKR_USER_TOO_MANY_TYPES: Signal.CALLER,
        RV.CKR_WRAPPED_KEY_INVALID: Signal.CALLER,
        RV.CKR_WRAPPED_KEY_LEN_RANGE: Signal.CALLER,
        RV.CKR_WRAPPING_KEY_HANDLE_INVALID: Signal.SESSION,
        RV.CKR_WRAPPING_KEY_SIZE_RANGE: Signal.CALLER,
        RV.CKR_WRAPPING_KEY_TYPE_INCONSISTENT: Signal.CALLER,
        RV.CKR_RANDOM_SEED_NOT_SUPPORTED: Signal.CALLER,
        RV.CKR_RANDOM_NO_RNG: Signal.CALLER,
        RV.CKR_DOMAIN_PARAMS_INVALID: Signal.CALLER,
        RV.CKR_CURVE_NOT_SUPPORTED: Signal.CALLER,
        # It told the length, which is what the caller wants to know.
        RV.CKR_BUFFER_TOO_SMALL: Signal.DONE,
        RV.CKR_SAVED_STATE_INVALID: Signal.CALLER,
        RV.CKR_INFORMATION_SENSITIVE: Signal.CALLER,
        RV.CKR_STATE_UNSAVEABLE: Signal.CALLER,
        # The gateway has initialised it.
        RV.CKR_CRYPTOKI_NOT_INITIALIZED: Signal.LOST,
        RV.CKR_CRYPTOKI_ALREADY_INITIALIZED: Signal.CALLER,
        RV.CKR_MUTEX_BAD: Signal.CALLER,
        RV.CKR_MUTEX_NOT_LOCKED: Signal.CALLER,
        RV.CKR_NEW_PIN_MODE: Signal.CALLER,
        RV.CKR_NEXT_OTP: Signal.CALLER,
        RV.CKR_EXCEEDED_MAX_ITERATIONS: Signal.CALLER,
        # The module refuses to work until somebody repairs it.
        RV.CKR_FIPS_SELF_TEST_FAILED: Signal.LOST,
        RV.CKR_LIBRARY_LOAD_FAILED: Signal.LOST,
        RV.CKR_PIN_TOO_WEAK: Signal.CALLER,
        RV.CKR_PUBLIC_KEY_INVALID: Signal.CALLER,
        RV.CKR_FUNCTION_REJECTED: Signal.CALLER,
        RV.CKR_TOKEN_RESOURCE_EXCEEDED: Signal.BUSY,
        RV.CKR_OPERATION_CANCEL_FAILED: Signal.CALLER,
        # A one-time key that is used up here must not be found fresh elsewhere.
        RV.CKR_KEY_EXHAUSTED: Signal.CALLER,
        RV.CKR_PENDING: Signal.DONE,
        RV.CKR_SESSION_ASYNC_NOT_SUPPORTED: Signal.CALLER,
        RV.CKR_SEED_RANDOM_REQUIRED: Signal.CALLER,
        RV.CKR_OPERATION_NOT_VALIDATED: Signal.CALLER,
        # Somebody has wiped it: there are no keys any more.
        RV.CKR_TOKEN_NOT_INITIALIZED: Signal.LOST,
        RV.CKR_PARAMETER_SET_NOT_SUPPORTED: Signal.CALLER,
        RV.CKR_VENDOR_DEFINED: Signal.CALLER,
    }
)
"""RV to signal, for every RV of the standard (PKCS #11 3.2, section 5.1)."""

PIN_ERRORS: Final[frozenset[int]] = frozenset(
    {
        RV.CKR_PIN_INCORRECT,
        RV.CKR_PIN_INVALID,
        RV.CKR_PIN_LEN_RANGE,
        RV.CKR_PIN_EXPIRED,
        RV.CKR_PIN_LOCKED,
        RV.CKR_PIN_TOO_WEAK,
        RV.CKR_USER_PIN_NOT_INITIALIZED,
    }
)
"""A PIN that was refused with one of these is tried on no other member: that would use up the tries everywhere."""

_FIRM: Final = PIN_ERRORS | {RV.CKR_OK}
_TEXTS: Final = {"lost": Signal.LOST, "session": Signal.SESSION, "busy": Signal.BUSY, "caller": Signal.CALLER}
_NO_VENDOR: Final[Mapping[int, Signal]] = MappingProxyType({})


def classify(rv: int, vendor: Mapping[int, Signal] = _NO_VENDOR) -> Signal:
    """Return what an RV says; one that nobody knows is the caller's matter.

    Args:
        rv: The RV.
        vendor: What the configuration says of this vendor's RVs, also of those of the standard that it gives a meaning of its own. Success and
            PIN errors are never anything else.
    """
    if rv in vendor and rv not in _FIRM:
        return vendor[rv]
    return SIGNALS.get(rv, Signal.CALLER)


def parse_signal(text: str) -> Signal:
    """Return the signal that a word of the configuration means.

    Args:
        text: `lost`, `session`, `busy` or `caller`.

    Raises:
        ValueError: It is no such word.
    """
    try:
        return _TEXTS[text]
    except KeyError:
        raise ValueError(f"must be one of {', '.join(_TEXTS)}, not {text!r}") from None
