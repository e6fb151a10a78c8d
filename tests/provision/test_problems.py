import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.cryptoki import RV, CkError, rv_name
from keyway.provision.problems import CODES, RV_CODES, Problem, from_error, from_rv

EXPECTED = {
    RV.CKR_PIN_INCORRECT: ("pin-wrong", 403),
    RV.CKR_PIN_LOCKED: ("pin-locked", 423),
    RV.CKR_TOKEN_NOT_PRESENT: ("backend-down", 503),
    RV.CKR_DEVICE_ERROR: ("backend-down", 503),
    RV.CKR_DEVICE_REMOVED: ("backend-down", 503),
    RV.CKR_DEVICE_MEMORY: ("token-full", 507),
    RV.CKR_TOKEN_WRITE_PROTECTED: ("write-protected", 403),
    RV.CKR_SESSION_READ_ONLY: ("write-protected", 403),
    RV.CKR_USER_PIN_NOT_INITIALIZED: ("pin-not-set", 409),
}


@pytest.mark.parametrize("rv", [rv for rv in RV if rv != RV.CKR_OK], ids=lambda rv: rv.name)
def test_every_rv_has_a_code_and_is_named(rv):
    problem = from_error(CkError(rv, "C_Sign"))
    assert problem.code == RV_CODES[rv]
    document = problem.document()
    assert document["rv"] == rv.name
    assert document["status"] == CODES[problem.code].status >= 400
    assert document["code"] == problem.code
    assert document["type"].endswith(f":{problem.code}")
    assert document["detail"] == "C_Sign"


def test_success_is_no_problem():
    assert RV.CKR_OK not in RV_CODES


@pytest.mark.parametrize(("rv", "expected"), EXPECTED.items(), ids=lambda value: getattr(value, "name", ""))
def test_what_matters_has_a_code_of_its_own(rv, expected):
    problem = from_rv(rv)
    assert (problem.code, problem.status) == expected


@given(st.integers(0, 2**64 - 1).filter(lambda rv: rv not in list(RV)))
def test_rvs_that_nobody_knows_are_failures_of_the_token(rv):
    problem = from_rv(rv)
    assert problem.code == "token-error"
    assert problem.document()["rv"] == rv_name(rv)


def test_codes_are_words_with_hyphens_and_failures():
    for code, (status, title) in CODES.items():
        assert code.replace("-", "").isalpha()
        assert code == code.lower()
        assert 400 <= status < 600
        assert title


def test_a_problem_without_a_token_names_no_rv():
    assert Problem("not-found").document().keys() == {"type", "title", "status", "code"}
