from dataclasses import replace
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.cryptoki import CK_UNAVAILABLE_INFORMATION, MechanismInfo, TokenInfo, Version, constants, padded, unpadded
from keyway.cryptoki.constants import (
    CK_EFFECTIVELY_INFINITE,
    CKF_CLOCK_ON_TOKEN,
    CKF_DECRYPT,
    CKF_ENCRYPT,
    CKF_ERROR_STATE,
    CKF_HW,
    CKF_LOGIN_REQUIRED,
    CKF_PROTECTED_AUTHENTICATION_PATH,
    CKF_RNG,
    CKF_TOKEN_INITIALIZED,
    CKF_USER_PIN_INITIALIZED,
    CKF_USER_PIN_LOCKED,
    CKF_WRITE_PROTECTED,
)
from keyway.gateway.pool.merge import mechanism_info, mechanisms, pool_serial, token_info

NO_LIMIT, UNTOLD = CK_EFFECTIVELY_INFINITE, CK_UNAVAILABLE_INFORMATION
INFO = TokenInfo(
    label=padded("member", 32),
    manufacturer_id=padded("Vendor", 32),
    model=padded("HSM", 16),
    serial_number=padded("0001", 16),
    flags=0,
    max_session_count=10,
    session_count=1,
    max_rw_session_count=10,
    rw_session_count=1,
    max_pin_len=255,
    min_pin_len=4,
    total_public_memory=100,
    free_public_memory=50,
    total_private_memory=100,
    free_private_memory=50,
    hardware_version=Version(2, 0),
    firmware_version=Version(3, 1),
    utc_time=b"2030010100000000",
)


def merged(*changes: dict[str, object], **arguments: bool) -> TokenInfo:
    infos = [replace(INFO, **each) for each in changes]  # type: ignore[arg-type]
    return token_info("signing", "", "", infos, **{"is_protected": False, "has_own_pin": False, **arguments})


# --- mechanisms -----------------------------------------------------------------------------------------------------------------------


def test_only_what_all_members_can_do_is_told_in_the_order_of_the_first():
    assert mechanisms([[9, 1, 5, 3], [3, 5, 9], [5, 9, 7]]) == (9, 5)
    assert mechanisms([[9, 1]]) == (9, 1)
    assert mechanisms([[9, 1], []]) == ()
    assert mechanisms([]) == ()


@given(st.lists(st.lists(st.integers(0, 9)), min_size=1, max_size=4))
def test_mechanisms_are_an_intersection_without_repetition(lists: list[list[int]]):
    found = mechanisms(iter(lists))
    assert set(found) == set.intersection(*map(set, lists))
    assert len(set(found)) == len(found)
    assert sorted(found, key=lists[0].index) == list(found)


def test_key_sizes_that_all_members_can_do():
    one = MechanismInfo(1024, 4096, CKF_HW | CKF_ENCRYPT | CKF_DECRYPT)
    other = MechanismInfo(2048, 8192, CKF_ENCRYPT)
    assert mechanism_info([one, other]) == MechanismInfo(2048, 4096, CKF_ENCRYPT)
    assert mechanism_info([one]) == one


@pytest.mark.parametrize("nothing", [0, UNTOLD])
def test_key_sizes_that_are_not_told_do_not_count(nothing: int):
    one, other = MechanismInfo(16, 32, 0), MechanismInfo(nothing, nothing, 0)
    assert mechanism_info([one, other]) == mechanism_info([other, one]) == MechanismInfo(16, 32, 0)
    assert mechanism_info([other, other]) == other


# --- tokens ---------------------------------------------------------------------------------------------------------------------------


def test_a_pool_has_a_name_and_a_serial_number_of_its_own():
    info = merged({}, {})
    assert (unpadded(info.label), unpadded(info.manufacturer_id), unpadded(info.model)) == ("signing", "Keyway", "Pool")
    assert info.serial_number.decode() == pool_serial("signing")
    given = token_info("signing", "Shown", "42", [INFO], is_protected=False, has_own_pin=False)
    assert (given.label, given.serial_number) == (padded("Shown", 32), padded("42", 16))


def test_fields_have_their_width():
    info = token_info("n" * 99, "l" * 99, "s" * 99, [INFO], is_protected=False, has_own_pin=False)
    assert [len(field) for field in (info.label, info.manufacturer_id, info.model, info.serial_number)] == [
        32,
        32,
        16,
        16,
    ]
    assert len(merged({}).utc_time) == 16


@given(st.text())
def test_a_serial_number_is_16_hexadecimal_digits(name: str):
    serial = pool_serial(name)
    assert len(serial) == 16
    assert set(serial) <= set("0123456789abcdef")


def test_serial_numbers_stay_as_they_are():
    assert pool_serial("signing") == "d47ab3bb659a7327"
    assert pool_serial("signing") != pool_serial("Signing")


WARNINGS = {
    constants.CKF_LOGIN_REQUIRED,
    constants.CKF_WRITE_PROTECTED,
    constants.CKF_SEED_RANDOM_REQUIRED,
    constants.CKF_USER_PIN_COUNT_LOW,
    constants.CKF_USER_PIN_FINAL_TRY,
    constants.CKF_USER_PIN_LOCKED,
    constants.CKF_USER_PIN_TO_BE_CHANGED,
    constants.CKF_SO_PIN_COUNT_LOW,
    constants.CKF_SO_PIN_FINAL_TRY,
    constants.CKF_SO_PIN_LOCKED,
    constants.CKF_SO_PIN_TO_BE_CHANGED,
}


@pytest.mark.parametrize("flag", [1 << bit for bit in range(64)], ids=hex)
def test_each_flag_is_a_capability_of_all_or_a_warning_of_any(flag: int):
    of_one = flag if flag in WARNINGS else 0
    assert merged({"flags": flag}, {"flags": flag}).flags == flag
    assert merged({"flags": flag}, {}).flags == of_one
    assert merged({}, {"flags": flag}).flags == of_one


def test_flags_of_a_pool():
    one = CKF_RNG | CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED | CKF_LOGIN_REQUIRED | CKF_ERROR_STATE
    other = CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED | CKF_LOGIN_REQUIRED | CKF_USER_PIN_LOCKED
    assert merged({"flags": one}, {"flags": other}).flags == other


def test_what_the_gateway_adds():
    assert merged({}, is_protected=True).flags == CKF_WRITE_PROTECTED
    assert merged({}, has_own_pin=True).flags == CKF_PROTECTED_AUTHENTICATION_PATH
    assert merged({}).flags == 0


@pytest.mark.parametrize("field", ["max_session_count", "max_rw_session_count"])
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (10, 20, 10),
        (10, NO_LIMIT, 10),
        (10, UNTOLD, 10),
        (NO_LIMIT, NO_LIMIT, NO_LIMIT),
        (UNTOLD, UNTOLD, UNTOLD),
        (NO_LIMIT, UNTOLD, UNTOLD),
    ],
)
def test_limits_of_sessions(field: str, one: int, other: int, expected: int):
    assert attrgetter(field)(merged({field: one}, {field: other})) == expected
    assert attrgetter(field)(merged({field: other}, {field: one})) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        *((f"{use}_{kind}_memory", 0) for use in ("total", "free") for kind in ("public", "private")),
        ("max_pin_len", 0),
        ("min_pin_len", 7),
        ("session_count", 7),
        ("rw_session_count", 7),
    ],
)
def test_other_numbers(field: str, expected: int):
    assert attrgetter(field)(merged({field: 7}, {field: 0}, {field: UNTOLD})) == expected
    assert attrgetter(field)(merged({field: UNTOLD}, {field: UNTOLD})) == UNTOLD


def test_versions_are_the_oldest():
    info = merged({"hardware_version": Version(1, 9), "firmware_version": Version(3, 10)}, {})
    assert (info.hardware_version, info.firmware_version) == (Version(1, 9), Version(3, 1))


def test_a_pool_has_a_clock_if_all_members_have_one():
    assert merged({"flags": CKF_CLOCK_ON_TOKEN}, {"flags": CKF_CLOCK_ON_TOKEN}).utc_time == INFO.utc_time
    assert merged({"flags": CKF_CLOCK_ON_TOKEN}, {}).utc_time == b" " * 16
