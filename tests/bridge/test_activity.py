import pytest

from keyway.bridge.activity import IDLE, UNKNOWN, after
from keyway.cryptoki import CALLS, RV, call_named

SIGN = after(IDLE, call_named("C_SignInit"), RV.CKR_OK)
DIGEST = after(IDLE, call_named("C_DigestInit"), RV.CKR_OK)
VERIFY = after(IDLE, call_named("C_VerifyInit"), RV.CKR_OK)


@pytest.mark.parametrize(
    ("state", "name", "rv", "wanted", "then"),
    [
        (IDLE, "C_SignInit", RV.CKR_KEY_HANDLE_INVALID, True, IDLE),
        (IDLE, "C_SignInit", RV.CKR_OPERATION_ACTIVE, True, UNKNOWN),
        (DIGEST, "C_SignInit", RV.CKR_OPERATION_ACTIVE, True, DIGEST),
        # Tokens may have several at a time.
        (DIGEST, "C_SignInit", RV.CKR_OK, True, DIGEST | SIGN),
        (DIGEST | SIGN, "C_Sign", RV.CKR_OK, True, DIGEST),
        (SIGN, "C_Sign", RV.CKR_OK, False, SIGN),
        (SIGN, "C_Sign", RV.CKR_BUFFER_TOO_SMALL, True, SIGN),
        # The standard ends it; a token may not.
        (SIGN, "C_Sign", RV.CKR_DATA_LEN_RANGE, True, SIGN),
        (IDLE, "C_Sign", RV.CKR_DATA_LEN_RANGE, True, SIGN),
        (IDLE, "C_SignUpdate", RV.CKR_DEVICE_ERROR, True, SIGN),
        (SIGN, "C_SignUpdate", RV.CKR_OK, True, SIGN),
        (SIGN, "C_SignFinal", RV.CKR_OK, True, IDLE),
        (DIGEST | SIGN, "C_Sign", RV.CKR_OPERATION_NOT_INITIALIZED, True, DIGEST),
        (VERIFY, "C_Verify", RV.CKR_SIGNATURE_INVALID, True, IDLE),
        (VERIFY, "C_VerifyFinal", RV.CKR_SIGNATURE_LEN_RANGE, True, IDLE),
        (SIGN, "C_SetOperationState", RV.CKR_OK, True, UNKNOWN),
        (SIGN | DIGEST, "C_SignEncryptUpdate", RV.CKR_OK, True, SIGN | DIGEST),
        (SIGN, "C_Logout", RV.CKR_OK, True, SIGN),
        (SIGN, "C_SessionCancel", RV.CKR_OK, True, SIGN),
    ],
)
def test_what_may_be_active_after_each_call(state, name, rv, wanted, then):
    assert after(state, call_named(name), rv, wanted=wanted) == then


def test_an_operation_has_a_bit_of_its_own():
    names = {call.operation for call in CALLS if call.operation not in ("", "dual")}
    bits = {after(IDLE, call, RV.CKR_OK) for call in CALLS if call.name.endswith("Init") and call.operation in names}
    assert len(bits) == len(names)
    assert sum(bits) == UNKNOWN
