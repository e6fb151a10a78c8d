"""How much, and how many wrong PINs."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.access.attempts import FIRST_WAIT, LONGEST_WAIT, Attempts
from keyway.access.quota import Bucket, Usage
from keyway.access.role import Quota


def test_a_bucket_gives_what_a_second_brings_and_then_that_much_a_second():
    bucket = Bucket(4, 10.0)
    for _ in range(4):
        assert bucket.wait(10.0) == 0
        bucket.take(1)
    assert bucket.wait(10.0) == pytest.approx(0.25)
    assert bucket.wait(10.2) == pytest.approx(0.05)
    assert bucket.wait(10.25) == 0
    bucket.take(1)
    assert bucket.wait(100.0) == 0
    for _ in range(4):
        bucket.take(1)
    assert bucket.wait(100.0) > 0


def test_an_amount_that_is_too_large_is_taken_and_paid_for():
    bucket = Bucket(100, 0.0)
    assert bucket.wait(0.0) == 0
    bucket.take(1000)
    assert bucket.wait(0.0) == pytest.approx(9.01)
    assert bucket.wait(9.0) > 0
    assert bucket.wait(9.1) == 0


def test_no_limit():
    bucket = Bucket(0, 0.0)
    bucket.take(10**12)
    assert bucket.wait(0.0) == 0


def test_a_clock_that_goes_back_gives_nothing():
    bucket = Bucket(1, 10.0)
    bucket.take(1)
    assert bucket.wait(5.0) == pytest.approx(1.0)
    assert bucket.wait(10.5) == pytest.approx(0.5)


@given(st.integers(1, 50), st.lists(st.floats(0, 0.5), max_size=60))
def test_no_more_than_the_rate_is_taken(rate, pauses):
    bucket, now, taken = Bucket(rate, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        if not bucket.wait(now):
            bucket.take(1)
            taken += 1
    assert taken <= rate + rate * now + 1e-3


@given(st.integers(1, 1000), st.integers(1, 5000), st.floats(0, 1e6))
def test_who_waits_as_told_may_go_on(rate, amount, now):
    bucket = Bucket(rate, now)
    bucket.take(amount)
    wait = bucket.wait(now)
    assert bucket.wait(now + wait * (1 + 1e-6) + 1e-6) == 0


def test_sessions():
    usage = Usage(Quota(sessions=2), 0.0)
    assert [usage.open() for _ in range(3)] == [True, True, False]
    usage.close()
    assert usage.sessions == 1
    assert usage.open()
    usage.close(5)
    assert usage.sessions == 0
    free = Usage(Quota(), 0.0)
    assert all(free.open() for _ in range(100))


def test_use_waits_for_both_calls_and_bytes_and_counts_only_what_may_go_on():
    usage = Usage(Quota(operations_per_second=2, bytes_per_second=100), 0.0)
    assert usage.use(0.0, 10) == 0
    assert usage.use(0.0, 200) == 0
    assert usage.use(0.0, 1) == pytest.approx(1.11)
    assert usage.use(0.6, 1) == pytest.approx(0.51)
    assert usage.use(1.2, 1) == 0


def test_a_right_pin_costs_nothing():
    attempts = Attempts(2)
    for now in range(10):
        assert attempts.begin("web", "t", now) == 0
        attempts.end("web", "t", now, True)


def wrong(attempts, now, identity="web", token="t"):
    assert attempts.begin(identity, token, now) == 0
    attempts.end(identity, token, now, False)


def test_wrong_pins_wait_longer_and_longer():
    attempts, now = Attempts(2), 0.0
    wrong(attempts, now)
    wrong(attempts, now)
    waits = []
    for _ in range(14):
        wait = attempts.begin("web", "t", now)
        assert wait > 0
        assert attempts.begin("web", "t", now + wait - 0.5) == pytest.approx(0.5)
        waits.append(wait)
        now += wait
        wrong(attempts, now)
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT


def test_a_right_pin_clears_the_account():
    attempts = Attempts(2)
    wrong(attempts, 0)
    assert attempts.begin("web", "t", 0) == 0
    attempts.end("web", "t", 0, True)
    wrong(attempts, 0)
    wrong(attempts, 0)
    assert attempts.begin("web", "t", 0) > 0


def test_others_and_other_tokens_do_not_wait():
    attempts = Attempts(1)
    wrong(attempts, 0)
    assert attempts.begin("web", "t", 0) > 0
    assert attempts.begin("ops", "t", 0) == 0
    assert attempts.begin("web", "u", 0) == 0


def test_many_at_the_same_time_gain_nothing():
    attempts = Attempts(2)
    assert [attempts.begin("web", "t", 0) > 0 for _ in range(5)] == [False, False, True, True, True]
    attempts.end("web", "t", 0, False)
    attempts.end("web", "t", 0, False)
    assert attempts.begin("web", "t", FIRST_WAIT) == 0
    assert attempts.begin("web", "t", FIRST_WAIT) == FIRST_WAIT, "one at a time"
    attempts.end("web", "t", FIRST_WAIT, None)
    assert attempts.begin("web", "t", FIRST_WAIT) == 0, "a PIN that was not judged is none"


def test_the_last_try_is_for_those_without_a_wrong_pin():
    attempts = Attempts(3)
    wrong(attempts, 0)
    assert attempts.begin("web", "t", 0, is_last=True) == inf
    assert attempts.begin("ops", "t", 0, is_last=True) == 0
    assert attempts.begin("ops", "t", 0, is_last=True) == inf, "the other one is not judged yet"


def test_no_limit_of_wrong_pins():
    attempts = Attempts(0)
    for _ in range(10):
        wrong(attempts, 0)
    assert attempts.begin("web", "t", 0, is_last=True) == 0


def test_an_end_that_nobody_began_changes_nothing():
    attempts = Attempts(1)
    attempts.end("web", "t", 0, False)
    assert attempts.begin("web", "t", 0) == 0


@given(st.integers(1, 4), st.lists(st.floats(0, 20.0), max_size=40))
def test_no_pace_gives_more_than_the_free_ones_before_the_first_wait(free, pauses):
    attempts, now, given_, last = Attempts(free), 0.0, 0, None
    for pause in pauses:
        now += pause
        if attempts.begin("web", "t", now) == 0:
            given_ += 1
            if given_ > free:
                assert last is not None
                assert now - last >= FIRST_WAIT
            attempts.end("web", "t", now, False)
            last = now


def test_a_right_pin_of_several_clears_nothing_until_a_day_has_passed():
    attempts = Attempts(2)

    def right(now):
        assert attempts.begin("web", "t", now) == 0
        attempts.end("web", "t", now, True, is_one_of_several=True)

    wrong(attempts, 0)
    right(1)
    wrong(attempts, 2)
    assert attempts.begin("web", "t", 3) > 0
    right(2 + FIRST_WAIT)
    wrong(attempts, 3 + FIRST_WAIT)
    assert attempts.begin("web", "t", 4 + 2 * FIRST_WAIT) > 0
    right(3 + FIRST_WAIT + LONGEST_WAIT)
    wrong(attempts, 4 + FIRST_WAIT + LONGEST_WAIT)
    assert attempts.begin("web", "t", 4 + FIRST_WAIT + LONGEST_WAIT) == 0
