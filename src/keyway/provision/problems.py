"""What can go wrong, as stable codes with an HTTP status (RFC 9457), and the code of every RV."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from keyway.cryptoki import RV, CkError, rv_name

__all__ = ["CODES", "CONTENT_TYPE", "RV_CODES", "Code", "Problem", "from_error", "from_rv"]

CONTENT_TYPE: Final = "application/problem+json"
TYPE: Final = "urn:keyway:problem:"
"""What precedes a code in the member `type`."""


class Code(NamedTuple):
    """What belongs to a code.

    Attributes:
        status: The HTTP status.
        title: What it means, in general.
    """

    status: HTTPStatus
    title: str


_BAD = HTTPStatus.BAD_REQUEST
_NOT_FOUND = HTTPStatus.NOT_FOUND
_CONFLICT = HTTPStatus.CONFLICT
_FORBIDDEN = HTTPStatus.FORBIDDEN
_UNUSABLE = HTTPStatus.UNPROCESSABLE_ENTITY
_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE

CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        # The request
        "malformed-request": Code(_BAD, "The request is no HTTP that can be understood"),
        "malformed-json": Code(_BAD, "The body is not JSON"),
        "duplicate-member": Code(_BAD, "A JSON object has a member twice"),
        "bad-member": Code(_BAD, "A member is missing, unknown, or of a wrong type or value"),
        "bad-label": Code(_BAD, "The label can't be that of a token or object"),
        "bad-id": Code(_BAD, "The CKA_ID is no hexadecimal number of whole bytes"),
        "bad-key-type": Code(_BAD, "There is no such key type"),
        "bad-usage": Code(_BAD, "A key of this type can't be used so"),
        "bad-subject": Code(_BAD, "The subject is no distinguished name"),
        "bad-extension": Code(_BAD, "An extension of the request can't be made"),
        "bad-reference": Code(_BAD, "The path names no token, key or certificate"),
        "malformed-pem": Code(_BAD, "There is no certificate in what should hold one"),
        "private-key-sent": Code(_BAD, "A private key was sent, which nobody should have"),
        "bad-idempotency-key": Code(_BAD, "The Idempotency-Key can't be used"),
        "idempotency-key-reused": Code(_UNUSABLE, "The Idempotency-Key belongs to another request"),
        "unauthenticated": Code(HTTPStatus.UNAUTHORIZED, "The caller is not known"),
        "forbidden": Code(_FORBIDDEN, "The caller may not do this"),
        "not-found": Code(_NOT_FOUND, "There is nothing at this path"),
        "method-not-allowed": Code(HTTPStatus.METHOD_NOT_ALLOWED, "The path has no such method"),
        "body-too-large": Code(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
        "not-json": Code(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be application/json"),
        "overloaded": Code(_UNAVAILABLE, "Too many requests at a time"),
        "internal-error": Code(HTTPStatus.INTERNAL_SERVER_ERROR, "The API has a defect"),
        # Tokens
        "token-missing": Code(_NOT_FOUND, "There is no such token"),
        "token-ambiguous": Code(_CONFLICT, "Several tokens are meant"),
        "token-not-initialized": Code(_CONFLICT, "The token is not initialised"),
        "token-in-use": Code(_CONFLICT, "Sessions of others are in the way"),
        "no-free-slot": Code(_CONFLICT, "There is no slot with a token to initialise"),
        "slot-occupied": Code(_CONFLICT, "Another token is in this slot"),
        "token-full": Code(HTTPStatus.INSUFFICIENT_STORAGE, "The token has no room"),
        "write-protected": Code(_FORBIDDEN, "The token can't be changed from here"),
        # PINs
        "pin-missing": Code(_BAD, "A PIN is needed"),
        "pin-reference-missing": Code(_BAD, "There is no such reference to a PIN for this token"),
        "pin-wrong": Code(_FORBIDDEN, "The PIN is wrong"),
        "pin-locked": Code(HTTPStatus.LOCKED, "The PIN is locked"),
        "pin-expired": Code(_FORBIDDEN, "The PIN has expired"),
        "pin-invalid": Code(_BAD, "The PIN can't be one: its length, or its characters"),
        "pin-not-set": Code(_CONFLICT, "The user PIN is not set yet"),
        # Keys
        "key-missing": Code(_NOT_FOUND, "There is no such key pair"),
        "key-ambiguous": Code(_CONFLICT, "Several key pairs are meant"),
        "key-exists-with-other-type": Code(_CONFLICT, "There is a key pair of another type with this label"),
        "key-exists-with-other-id": Code(_CONFLICT, "There is a key pair with this label and another CKA_ID"),
        "key-id-in-use": Code(_CONFLICT, "There is another key pair with this CKA_ID"),
        "key-incomplete": Code(_CONFLICT, "The key pair has no public key"),
        "key-pair-mismatch": Code(_CONFLICT, "Private and public key do not belong together"),
        "key-type-not-supported": Code(_UNUSABLE, "The token has no keys of this type"),
        "mechanism-not-supported": Code(_UNUSABLE, "The token, or the key, can't sign so"),
        "key-use-forbidden": Code(_FORBIDDEN, "The token does not let the key be used so"),
        # Certificates
        "certificate-missing": Code(_NOT_FOUND, "There is no such certificate"),
        "certificate-ambiguous": Code(_CONFLICT, "Several certificates are meant"),
        "certificate-exists": Code(_CONFLICT, "The key pair has another certificate: replace it"),
        "certificate-does-not-match": Code(_UNUSABLE, "The certificate is of another key"),
        "certificate-expired": Code(_UNUSABLE, "The certificate has expired"),
        "certificate-not-yet-valid": Code(_UNUSABLE, "The certificate is not valid yet"),
        "no-digital-signature": Code(_UNUSABLE, "The certificate's key usage lacks digitalSignature"),
        "unknown-critical-extension": Code(_UNUSABLE, "The certificate has a critical extension that nobody knows"),
        "chain-broken": Code(_UNUSABLE, "A certificate of the chain has not issued the one before it"),
        # Who answers
        "backend-down": Code(_UNAVAILABLE, "The token can't be reached"),
        "backend-busy": Code(_UNAVAILABLE, "The token is busy, or short of something: try again"),
        "backend-timeout": Code(HTTPStatus.GATEWAY_TIMEOUT, "The token did not answer in time"),
        "session-lost": Code(_UNAVAILABLE, "The session was lost: try again"),
        "refused-by-token": Code(_UNUSABLE, "The token refuses what it was asked for"),
        "token-error": Code(HTTPStatus.BAD_GATEWAY, "The token failed"),
    }
)
"""Every code. Codes are part of the interface: they stay what they are."""


class Problem(Exception):
    """A request that was not fulfilled, as the caller is told.

    Attributes:
        code: One of `CODES`.
        detail: What happened here. Never a PIN.
        rv: The CK_RV that it came from; None if a token had no part in it.
    """

    def __init__(self, code: str, detail: str = "", *, rv: int | None = None) -> None:
        assert code in CODES, code
        super().__init__(code, detail, rv)
        self.code = code
        self.detail = detail
        self.rv = rv

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status."""
        return CODES[self.code].status

    def document(self) -> dict[str, Any]:
        """Return the problem details (RFC 9457, section 3)."""
        told: dict[str, Any] = {
            "type": TYPE + self.code,
            "title": CODES[self.code].title,
            "status": int(self.status),
            "code": self.code,
        }
        if self.detail:
            told["detail"] = self.detail
        if self.rv is not None:
            told["rv"] = rv_name(self.rv)
        return told

    def __str__(self) -> str:
        return ": ".join(
            filter(None, (CODES[self.code].title, self.detail, "" if self.rv is None else rv_name(self.rv)))
        )


RV_CODES: Final[Mapping[int, str]] = MappingProxyType(
    {
        RV.CKR_CANCEL: "refused-by-token",
        RV.CKR_HOST_MEMORY: "backend-busy",
        RV.CKR_SLOT_ID_INVALID: "token-missing",
        RV.CKR_GENERAL_ERROR: "token-error",
        RV.CKR_FUNCTION_FAILED: "token-error",
        RV.CKR_ARGUMENTS_BAD: "refused-by-token",
        RV.CKR_NO_EVENT: "token-error",
        RV.CKR_NEED_TO_CREATE_THREADS: "token-error",
        RV.CKR_CANT_LOCK: "token-error",
        RV.CKR_ATTRIBUTE_READ_ONLY: "refused-by-token",
        RV.CKR_ATTRIBUTE_SENSITIVE: "refused-by-token",
        RV.CKR_ATTRIBUTE_TYPE_INVALID: "refused-by-token",
        RV.CKR_ATTRIBUTE_VALUE_INVALID: "refused-by-token",
        RV.CKR_ACTION_PROHIBITED: "key-use-forbidden",
        RV.CKR_DATA_INVALID: "refused-by-token",
        RV.CKR_DATA_LEN_RANGE: "refused-by-token",
        RV.CKR_DEVICE_ERROR: "backend-down",
        RV.CKR_DEVICE_MEMORY: "token-full",
        RV.CKR_DEVICE_REMOVED: "backend-down",
        RV.CKR_ENCRYPTED_DATA_INVALID: "refused-by-token",
        RV.CKR_ENCRYPTED_DATA_LEN_RANGE: "refused-by-token",
        RV.CKR_AEAD_DECRYPT_FAILED: "refused-by-token",
        RV.CKR_FUNCTION_CANCELED: "token-error",
        RV.CKR_FUNCTION_NOT_PARALLEL: "token-error",
        RV.CKR_FUNCTION_NOT_SUPPORTED: "refused-by-token",
        RV.CKR_KEY_HANDLE_INVALID: "key-missing",
        RV.CKR_KEY_SIZE_RANGE: "key-type-not-supported",
        RV.CKR_KEY_TYPE_INCONSISTENT: "mechanism-not-supported",
        RV.CKR_KEY_NOT_NEEDED: "refused-by-token",
        RV.CKR_KEY_CHANGED: "refused-by-token",
        RV.CKR_KEY_NEEDED: "refused-by-token",
        RV.CKR_KEY_INDIGESTIBLE: "refused-by-token",
        RV.CKR_KEY_FUNCTION_NOT_PERMITTED: "key-use-forbidden",
        RV.CKR_KEY_NOT_WRAPPABLE: "key-use-forbidden",
        RV.CKR_KEY_UNEXTRACTABLE: "key-use-forbidden",
        RV.CKR_MECHANISM_INVALID: "mechanism-not-supported",
        RV.CKR_MECHANISM_PARAM_INVALID: "mechanism-not-supported",
        RV.CKR_OBJECT_HANDLE_INVALID: "key-missing",
        RV.CKR_OPERATION_ACTIVE: "session-lost",
        RV.CKR_OPERATION_NOT_INITIALIZED: "session-lost",
        RV.CKR_PIN_INCORRECT: "pin-wrong",
        RV.CKR_PIN_INVALID: "pin-invalid",
        RV.CKR_PIN_LEN_RANGE: "pin-invalid",
        RV.CKR_PIN_EXPIRED: "pin-expired",
        RV.CKR_PIN_LOCKED: "pin-locked",
        RV.CKR_SESSION_CLOSED: "session-lost",
        RV.CKR_SESSION_COUNT: "backend-busy",
        RV.CKR_SESSION_HANDLE_INVALID: "session-lost",
        RV.CKR_SESSION_PARALLEL_NOT_SUPPORTED: "token-error",
        RV.CKR_SESSION_READ_ONLY: "write-protected",
        RV.CKR_SESSION_EXISTS: "token-in-use",
        RV.CKR_SESSION_READ_ONLY_EXISTS: "token-in-use",
        RV.CKR_SESSION_READ_WRITE_SO_EXISTS: "token-in-use",
        RV.CKR_SIGNATURE_INVALID: "token-error",
        RV.CKR_SIGNATURE_LEN_RANGE: "token-error",
        RV.CKR_TEMPLATE_INCOMPLETE: "refused-by-token",
        RV.CKR_TEMPLATE_INCONSISTENT: "refused-by-token",
        RV.CKR_TOKEN_NOT_PRESENT: "backend-down",
        RV.CKR_TOKEN_NOT_RECOGNIZED: "token-not-initialized",
        RV.CKR_TOKEN_WRITE_PROTECTED: "write-protected",
        RV.CKR_UNWRAPPING_KEY_HANDLE_INVALID: "key-missing",
        RV.CKR_UNWRAPPING_KEY_SIZE_RANGE: "refused-by-token",
        RV.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: "refused-by-token",
        RV.CKR_USER_ALREADY_LOGGED_IN: "token-in-use",
        RV.CKR_USER_NOT_LOGGED_IN: "session-lost",
        RV.CKR_USER_PIN_NOT_INITIALIZED: "pin-not-set",
        RV.CKR_USER_TYPE_INVALID: "refused-by-token",
        RV.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: "token-in-use",
        RV.CKR_USER_TOO_MANY_TYPES: "token-in-use",
        RV.CKR_WRAPPED_KEY_INVALID: "refused-by-token",
        RV.CKR_WRAPPED_KEY_LEN_RANGE: "refused-by-token",
        RV.CKR_WRAPPING_KEY_HANDLE_INVALID: "key-missing",
        RV.CKR_WRAPPING_KEY_SIZE_RANGE: "refused-by-token",
        RV.CKR_WRAPPING_KEY_TYPE_INCONSISTENT: "refused-by-token",
        RV.CKR_RANDOM_SEED_NOT_SUPPORTED: "refused-by-token",
        RV.CKR_RANDOM_NO_RNG: "token-error",
        RV.CKR_DOMAIN_PARAMS_INVALID: "key-type-not-supported",
        RV.CKR_CURVE_NOT_SUPPORTED: "key-type-not-supported",
        RV.CKR_BUFFER_TOO_SMALL: "token-error",
        RV.CKR_SAVED_STATE_INVALID: "token-error",
        RV.CKR_INFORMATION_SENSITIVE: "refused-by-token",
        RV.CKR_STATE_UNSAVEABLE: "token-error",
        RV.CKR_CRYPTOKI_NOT_INITIALIZED: "backend-down",
        RV.CKR_CRYPTOKI_ALREADY_INITIALIZED: "token-error",
        RV.CKR_MUTEX_BAD: "token-error",
        RV.CKR_MUTEX_NOT_LOCKED: "token-error",
        RV.CKR_NEW_PIN_MODE: "refused-by-token",
        RV.CKR_NEXT_OTP: "refused-by-token",
        RV.CKR_EXCEEDED_MAX_ITERATIONS: "token-error",
        RV.CKR_FIPS_SELF_TEST_FAILED: "backend-down",
        RV.CKR_LIBRARY_LOAD_FAILED: "backend-down",
        RV.CKR_PIN_TOO_WEAK: "pin-invalid",
        RV.CKR_PUBLIC_KEY_INVALID: "refused-by-token",
        RV.CKR_FUNCTION_REJECTED: "refused-by-token",
        RV.CKR_TOKEN_RESOURCE_EXCEEDED: "token-full",
        RV.CKR_OPERATION_CANCEL_FAILED: "session-lost",
        RV.CKR_KEY_EXHAUSTED: "key-use-forbidden",
        RV.CKR_PENDING: "token-error",
        RV.CKR_SESSION_ASYNC_NOT_SUPPORTED: "token-error",
        RV.CKR_SEED_RANDOM_REQUIRED: "token-error",
        RV.CKR_OPERATION_NOT_VALIDATED: "refused-by-token",
        RV.CKR_TOKEN_NOT_INITIALIZED: "token-not-initialized",
        RV.CKR_PARAMETER_SET_NOT_SUPPORTED: "key-type-not-supported",
        RV.CKR_VENDOR_DEFINED: "token-error",
    }
)
"""The code of every RV of the standard that is not CKR_OK (PKCS #11 3.2, section 5.1). Others, vendors' own, are `token-error`."""


def from_rv(rv: int, detail: str = "") -> Problem:
    """Return the problem that an RV stands for.

    Args:
        rv: The RV, not CKR_OK.
        detail: What was asked of the token.
    """
    return Problem(RV_CODES.get(rv, "token-error"), detail, rv=rv)


def from_error(error: CkError) -> Problem:
    """Return the problem that a failed call stands for."""
    return from_rv(error.rv, error.reason)
