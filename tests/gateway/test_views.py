"""What a context has at a token whose PIN tells which token is meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.cryptoki import CALLS, RV, Target
from keyway.cryptoki.constants import (
    CKF_ASYNC_SESSION,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKS_RO_PUBLIC_SESSION,
    CKS_RW_PUBLIC_SESSION,
    CKU_CONTEXT_SPECIFIC,
    CKU_SO,
    CKU_USER,
)
from keyway.gateway.views import WAYS, ViewSessions, Way, matching

PINS = st.binary(min_size=1, max_size=40)
WRITE = CKF_SERIAL_SESSION | CKF_RW_SESSION


def sessions(*handles):
    made = ViewSessions()
    for handle in handles:
        made.opened(CKF_SERIAL_SESSION, handle)
    return made


class TestMatching:
    @given(st.dictionaries(st.text(min_size=1), PINS), PINS)
    def test_exactly_the_views_with_that_pin(self, selects, pin):
        assert matching(pin, selects) == tuple(name for name, select in selects.items() if select == pin)

    @given(st.dictionaries(st.text(min_size=1), PINS, min_size=1), st.data())
    def test_parts_of_a_pin_are_none(self, selects, data):
        pin = data.draw(st.sampled_from(sorted(selects.values())))
        for other in (pin[:-1], pin + b"\0", pin + pin, b""):
            assert all(selects[name] == other for name in matching(other, selects))

    def test_nothing_to_compare(self):
        assert matching(b"pin", {}) == ()


def test_every_call_has_a_way():
    assert set(WAYS) == {call.number for call in CALLS}
    for call in CALLS:
        if call.target is Target.SLOT:
            assert WAYS[call.number] is not Way.ELSEWHERE
        if call.target is Target.SESSION and call.operation and call.operation != "find":
            assert WAYS[call.number] is Way.KEYS


@pytest.mark.parametrize(
    ("flags", "handle", "rv"),
    [
        (CKF_SERIAL_SESSION, 1, RV.CKR_OK),
        (WRITE, 1, RV.CKR_OK),
        (CKF_SERIAL_SESSION, None, RV.CKR_ARGUMENTS_BAD),
        (CKF_RW_SESSION, 1, RV.CKR_SESSION_PARALLEL_NOT_SUPPORTED),
        (CKF_SERIAL_SESSION | CKF_ASYNC_SESSION, 1, RV.CKR_SESSION_ASYNC_NOT_SUPPORTED),
    ],
)
def test_opening(flags, handle, rv):
    assert ViewSessions().opening(flags, handle) == rv


@pytest.mark.parametrize(
    ("view", "handle", "user", "has_pin", "rv"),
    [
        ("", 1, CKU_USER, True, RV.CKR_OK),
        ("", 1, CKU_USER, False, RV.CKR_ARGUMENTS_BAD),
        ("", 2, CKU_USER, True, RV.CKR_SESSION_HANDLE_INVALID),
        ("", 1, CKU_SO, True, RV.CKR_USER_TYPE_INVALID),
        ("", 1, CKU_CONTEXT_SPECIFIC, True, RV.CKR_OPERATION_NOT_INITIALIZED),
        ("alice", 1, CKU_USER, True, RV.CKR_USER_ALREADY_LOGGED_IN),
        ("alice", 1, CKU_SO, True, RV.CKR_USER_TYPE_INVALID),
        ("alice", 1, CKU_CONTEXT_SPECIFIC, True, RV.CKR_OK),
        ("alice", 1, CKU_CONTEXT_SPECIFIC, False, RV.CKR_ARGUMENTS_BAD),
    ],
)
def test_logging_in(view, handle, user, has_pin, rv):
    made = sessions(1)
    if view:
        made.chose(view)
    assert made.logging_in(handle, user, has_pin=has_pin) == rv


def test_logging_out():
    made = sessions(1)
    assert made.logging_out(1) == RV.CKR_USER_NOT_LOGGED_IN
    assert made.logging_out(2) == RV.CKR_SESSION_HANDLE_INVALID
    made.chose("alice")
    assert made.logging_out(1) == RV.CKR_OK
    made.left()
    assert (made.view, set(made.flags)) == ("", {1})


def test_the_last_session_ends_the_choice():
    made = sessions(1, 2)
    made.chose("alice")
    made.closed(1)
    assert made.view == "alice"
    made.closed(2)
    assert made.view == ""
    made = sessions(1, 2)
    made.chose("alice")
    made.closed_all()
    assert (made.view, made.flags) == ("", {})


def test_info():
    made = sessions(1)
    made.opened(WRITE, 2)
    assert made.info(1, 7).state == CKS_RO_PUBLIC_SESSION
    told = made.info(2, 7)
    assert (told.slot, told.state, told.flags, told.device_error) == (7, CKS_RW_PUBLIC_SESSION, WRITE, 0)


def begin(made, handle=1):
    return made.search(handle, begins=True, goes_on=False, ends=False)


def go_on(made, handle=1):
    return made.search(handle, begins=False, goes_on=True, ends=False)


def end(made, handle=1):
    return made.search(handle, begins=False, goes_on=False, ends=True)


def test_searches():
    made = sessions(1, 2)
    assert go_on(made) == end(made) == RV.CKR_OPERATION_NOT_INITIALIZED
    assert begin(made) == RV.CKR_OK
    assert begin(made) == RV.CKR_OPERATION_ACTIVE
    assert begin(made, 2) == go_on(made) == go_on(made) == end(made) == RV.CKR_OK
    assert end(made) == RV.CKR_OPERATION_NOT_INITIALIZED
    made.cancelled(2)
    assert end(made, 2) == RV.CKR_OPERATION_NOT_INITIALIZED


@pytest.mark.parametrize(
    "ends", [lambda made: made.chose("alice"), lambda made: made.closed(1), ViewSessions.closed_all]
)
def test_what_ends_searches(ends):
    made = sessions(1, 2)
    begin(made)
    ends(made)
    made.opened(CKF_SERIAL_SESSION, 1)
    assert end(made) == RV.CKR_OPERATION_NOT_INITIALIZED


def test_a_fused_search_begins_and_goes_on():
    made = sessions(1)
    assert made.search(1, begins=True, goes_on=True, ends=False) == RV.CKR_OK
    assert end(made) == RV.CKR_OK
