import pytest

from keyway.cryptoki import RV
from keyway.gateway.pool.signals import PIN_ERRORS, SIGNALS, Signal, classify, parse_signal

LOST = {
    RV.CKR_SLOT_ID_INVALID,
    RV.CKR_GENERAL_ERROR,
    RV.CKR_DEVICE_ERROR,
    RV.CKR_DEVICE_REMOVED,
    RV.CKR_TOKEN_NOT_PRESENT,
    RV.CKR_TOKEN_NOT_RECOGNIZED,
    RV.CKR_TOKEN_NOT_INITIALIZED,
    RV.CKR_CRYPTOKI_NOT_INITIALIZED,
    RV.CKR_FIPS_SELF_TEST_FAILED,
    RV.CKR_LIBRARY_LOAD_FAILED,
}
SESSION = {
    RV.CKR_SESSION_HANDLE_INVALID,
    RV.CKR_SESSION_CLOSED,
    RV.CKR_USER_NOT_LOGGED_IN,
    RV.CKR_OBJECT_HANDLE_INVALID,
    RV.CKR_KEY_HANDLE_INVALID,
    RV.CKR_WRAPPING_KEY_HANDLE_INVALID,
    RV.CKR_UNWRAPPING_KEY_HANDLE_INVALID,
}
BUSY = {
    RV.CKR_FUNCTION_FAILED,
    RV.CKR_HOST_MEMORY,
    RV.CKR_DEVICE_MEMORY,
    RV.CKR_SESSION_COUNT,
    RV.CKR_TOKEN_RESOURCE_EXCEEDED,
}
DONE = {
    RV.CKR_OK,
    RV.CKR_CANCEL,
    RV.CKR_NO_EVENT,
    RV.CKR_BUFFER_TOO_SMALL,
    RV.CKR_FUNCTION_CANCELED,
    RV.CKR_FUNCTION_NOT_PARALLEL,
    RV.CKR_PENDING,
}
EXPECTED = {
    **dict.fromkeys(LOST, Signal.LOST),
    **dict.fromkeys(SESSION, Signal.SESSION),
    **dict.fromkeys(BUSY, Signal.BUSY),
    **dict.fromkeys(DONE, Signal.DONE),
}


def test_every_rv_of_the_standard_is_in_the_table_on_purpose():
    assert SIGNALS.keys() == set(RV)


@pytest.mark.parametrize("rv", list(RV), ids=lambda rv: rv.name)
def test_each_rv_has_its_signal(rv: RV):
    assert classify(rv) is EXPECTED.get(rv, Signal.CALLER)


@pytest.mark.parametrize("rv", [0x4, 0x9999, 0x80000001, 0xFFFF_FFFF, 2**64 - 1])
def test_an_rv_that_nobody_knows_is_the_callers_matter(rv: int):
    assert classify(rv) is Signal.CALLER


def test_the_configuration_gives_vendors_rvs_a_meaning():
    vendor = {0x8000_0101: Signal.LOST, RV.CKR_GENERAL_ERROR: Signal.CALLER}
    assert classify(0x8000_0101, vendor) is Signal.LOST
    assert classify(0x8000_0102, vendor) is Signal.CALLER
    assert classify(RV.CKR_GENERAL_ERROR, vendor) is Signal.CALLER
    assert classify(RV.CKR_DEVICE_ERROR, vendor) is Signal.LOST


@pytest.mark.parametrize("rv", [RV.CKR_OK, *sorted(PIN_ERRORS)])
def test_no_configuration_makes_a_pin_error_something_to_repeat(rv: int):
    assert classify(rv, {rv: Signal.LOST}) is SIGNALS[rv]


def test_pin_errors_are_those_that_refuse_a_pin():
    named = {rv for rv in RV if rv.name.startswith("CKR_PIN_")}
    assert named | {RV.CKR_USER_PIN_NOT_INITIALIZED} == PIN_ERRORS
    assert {SIGNALS[rv] for rv in PIN_ERRORS} == {Signal.CALLER}


def test_words_of_the_configuration():
    words = {"lost": Signal.LOST, "session": Signal.SESSION, "busy": Signal.BUSY, "caller": Signal.CALLER}
    assert {word: parse_signal(word) for word in words} == words


@pytest.mark.parametrize("text", ["", "LOST", "done", "lost "])
def test_other_words_are_refused_by_name(text: str):
    with pytest.raises(ValueError, match=f"not {text!r}"):
        parse_signal(text)
