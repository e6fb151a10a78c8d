from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keyway.gateway.pool.health import (
    PAUSES,
    PROVEN,
    SLOW_START,
    Event,
    Health,
    State,
    after,
    is_usable,
    probe_due,
    share,
    start,
)

MIDDLE = 0.5
"""The jitter that changes nothing."""

jitters = st.floats(0, 1, exclude_max=True)


def in_state(state: State, failures: int = 0) -> Health:
    retry_at = {State.UP: inf, State.SUSPECT: 100.0, State.DOWN: 101.0, State.PROBING: inf}[state]
    return Health(state, failures, 100.0, retry_at, 90.0)


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        (State.UP, Event.FAILED, State.SUSPECT),
        (State.UP, Event.PROBE_STARTED, State.UP),
        (State.UP, Event.PROBE_PASSED, State.UP),
        (State.UP, Event.PROBE_FAILED, State.SUSPECT),
        (State.UP, Event.SERVED, State.UP),
        (State.SUSPECT, Event.FAILED, State.SUSPECT),
        (State.SUSPECT, Event.PROBE_STARTED, State.SUSPECT),
        (State.SUSPECT, Event.PROBE_PASSED, State.UP),
        (State.SUSPECT, Event.PROBE_FAILED, State.DOWN),
        (State.SUSPECT, Event.SERVED, State.SUSPECT),
        (State.DOWN, Event.FAILED, State.DOWN),
        (State.DOWN, Event.PROBE_STARTED, State.PROBING),
        (State.DOWN, Event.PROBE_PASSED, State.UP),
        (State.DOWN, Event.PROBE_FAILED, State.DOWN),
        (State.DOWN, Event.SERVED, State.DOWN),
        (State.PROBING, Event.FAILED, State.PROBING),
        (State.PROBING, Event.PROBE_STARTED, State.PROBING),
        (State.PROBING, Event.PROBE_PASSED, State.UP),
        (State.PROBING, Event.PROBE_FAILED, State.DOWN),
        (State.PROBING, Event.SERVED, State.PROBING),
        *((state, Event.WANTED, state) for state in State),
    ],
    ids=lambda value: value.name,
)
def test_states_and_events(state: State, event: Event, expected: State):
    assert after(in_state(state), event, 105.0, MIDDLE).state is expected


def test_a_new_member_serves_whole_and_is_not_probed():
    health = start(7.0)
    assert is_usable(health)
    assert not probe_due(health, 1e9)
    assert share(health, 7.0) == 1.0


def test_a_failure_asks_for_one_probe_at_once():
    health = after(start(0.0), Event.FAILED, 5.0, MIDDLE)
    assert is_usable(health)
    assert not probe_due(health, 4.9)
    assert probe_due(health, 5.0)
    probing = after(health, Event.PROBE_STARTED, 5.0, MIDDLE)
    assert not probe_due(probing, 1e9)
    # Calls that fail while the probe is under way ask for no other.
    assert after(probing, Event.FAILED, 6.0, MIDDLE) == probing


def test_a_suspicion_that_was_wrong_costs_nothing():
    health = start(0.0)
    for event in (Event.FAILED, Event.PROBE_STARTED, Event.PROBE_PASSED):
        health = after(health, event, 5.0, MIDDLE)
    assert health.state is State.UP
    assert share(health, 5.0) == 1.0
    assert health.failures == 0


def test_pauses_grow_up_to_the_longest():
    health = after(start(0.0), Event.FAILED, 0.0, MIDDLE)
    pauses = []
    now = 0.0
    for _ in range(9):
        health = after(health, Event.PROBE_STARTED, now, MIDDLE)
        health = after(health, Event.PROBE_FAILED, now, MIDDLE)
        assert health.state is State.DOWN
        pauses.append(round(health.retry_at - now, 6))
        now = health.retry_at
    assert pauses == [1, 1, 2, 5, 10, 60, 300, 300, 300]


@given(jitters, st.integers(0, 20))
def test_a_pause_varies_by_a_tenth_at_most(jitter: float, failures: int):
    pause = PAUSES[min(failures, len(PAUSES) - 1)]
    health = after(in_state(State.PROBING, failures), Event.PROBE_FAILED, 0.0, jitter)
    assert 0.9 * pause <= health.retry_at <= 1.1 * pause


def test_a_member_that_returns_starts_slowly():
    health = after(in_state(State.PROBING, 3), Event.PROBE_PASSED, 1000.0, MIDDLE)
    shares = [round(share(health, 1000.0 + second), 6) for second in (0, 2.5, 5, 7.5, 10, 11)]
    assert shares == [0.1, 0.325, 0.55, 0.775, 1.0, 1.0]


def test_failures_are_forgotten_when_the_member_has_served_for_long():
    up = after(in_state(State.PROBING, 4), Event.PROBE_PASSED, 1000.0, MIDDLE)
    assert up.failures == 4
    assert after(up, Event.SERVED, 1000.0 + PROVEN - 1, MIDDLE).failures == 4
    assert after(up, Event.SERVED, 1000.0 + PROVEN, MIDDLE).failures == 0


def test_a_member_that_fails_again_soon_waits_longer():
    up = after(in_state(State.PROBING, 4), Event.PROBE_PASSED, 1000.0, MIDDLE)
    suspect = after(up, Event.FAILED, 1001.0, MIDDLE)
    down = after(suspect, Event.PROBE_FAILED, 1001.0, MIDDLE)
    assert down.retry_at == pytest.approx(1001.0 + PAUSES[4])


class Member(RuleBasedStateMachine):
    """A member to which anything may happen in any order, also late and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.health = start(self.now)
        self.before = self.health

    def _happen(self, event: Event, jitter: float = MIDDLE) -> None:
        self.before = self.health
        self.health = after(self.health, event, self.now, jitter)

    @rule(seconds=st.floats(0, 400))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(event=st.sampled_from(Event), jitter=jitters)
    def something_happens(self, event: Event, jitter: float) -> None:
        self._happen(event, jitter)
        if self.health is not self.before:
            assert self.health.since in (self.now, self.before.since)

    @precondition(lambda self: probe_due(self.health, self.now))
    @rule(passes=st.booleans(), jitter=jitters)
    def a_due_probe_is_made(self, passes: bool, jitter: float) -> None:
        self._happen(Event.PROBE_STARTED)
        assert not probe_due(self.health, self.now)
        self._happen(Event.PROBE_PASSED if passes else Event.PROBE_FAILED, jitter)
        assert self.health.state is (State.UP if passes else State.DOWN)

    @invariant()
    def probes_are_due_only_when_nobody_knows(self) -> None:
        waits = self.health.state in (State.SUSPECT, State.DOWN)
        assert waits or self.health.retry_at == inf
        if self.health.state is State.DOWN:
            assert 0 < self.health.retry_at - self.health.since < 1.11 * PAUSES[-1]

    @invariant()
    def a_share_is_a_share(self) -> None:
        assert 0.1 <= share(self.health, self.now) <= 1.0
        assert self.health.slow_until <= self.now + SLOW_START

    @invariant()
    def it_serves_unless_a_probe_has_failed(self) -> None:
        assert is_usable(self.health) == (self.health.state in (State.UP, State.SUSPECT))
        if not is_usable(self.health):
            assert self.health.failures > 0


TestMember = Member.TestCase


def test_a_member_that_is_wanted_is_probed_before_its_time_but_not_all_the_time():
    down = Health(State.DOWN, 6, 100.0, 400.0, 90.0)
    wanted = after(down, Event.WANTED, 130.0, MIDDLE)
    assert probe_due(wanted, 130.0)
    assert not probe_due(after(down, Event.WANTED, 100.1, MIDDLE), 100.9)
    soon = Health(State.DOWN, 1, 100.0, 100.95, 90.0)
    assert after(soon, Event.WANTED, 100.1, MIDDLE).retry_at == 100.95
    assert after(in_state(State.UP), Event.WANTED, 130.0, MIDDLE) == in_state(State.UP)
