"""The same suites on SoftHSM and through Keyway: every outcome is kept, or published with a reason.

The direct side runs twice, to set flaky tests apart; with KEYWAY_FIDELITY=full five times.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from tests.fidelity import judge, published, subjects
from tests.fidelity.conftest import PROPERTY
from tests.fidelity.outcomes import Status, compare
from tests.fidelity.suites import COMPARED

DIRECT_RUNS = 5 if os.environ.get("KEYWAY_FIDELITY") == "full" else 2

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("suite", COMPARED)
def test_keyway_keeps_every_outcome(suite: str, record_property: Callable[[str, object], None]) -> None:
    verdict = judge.judge(suite, subjects.keyway, DIRECT_RUNS)
    record_property(PROPERTY, verdict.summary())
    assert not verdict.failed, verdict.report()


@pytest.mark.parametrize("suite", COMPARED)
def test_the_client_of_p11_kit_loses_nothing_that_its_own_server_keeps(
    suite: str, record_property: Callable[[str, object], None]
) -> None:
    listed = published.entries(suite, published.BEHIND_P11_KIT)
    standing = judge.beside(suite, subjects.p11_kit_keyway, subjects.p11_kit, listed, DIRECT_RUNS)
    record_property(PROPERTY, standing.summary("p11-kit-client.so with Keyway", "with p11-kit server"))
    assert not standing.unexplained, standing.report()
    assert not standing.stale, standing.report()


@pytest.mark.parametrize("suite", ["abi", "python-pkcs11", "p11test"])
def test_a_pool_of_one_keeps_what_is_not_about_slots(
    suite: str, record_property: Callable[[str, object], None]
) -> None:
    listed = published.entries(suite, published.BEHIND_A_POOL)
    verdict = judge.judge(suite, subjects.pool, DIRECT_RUNS, listed)
    record_property(PROPERTY, f"{verdict.summary()}; through a pool of one")
    assert not verdict.failed, verdict.report()


def test_interfaces_and_conduct_are_as_they_should_be(record_property: Callable[[str, object], None]) -> None:
    outcomes = subjects.keyway("checks")
    bad = {test: str(outcome) for test, outcome in outcomes.items() if outcome.status is not Status.PASS}
    record_property(PROPERTY, f"checks: {len(outcomes) - len(bad)} of {len(outcomes)}")
    assert len(outcomes) > 90
    assert not bad


@pytest.mark.parametrize("suite", ["abi", "python-pkcs11", "p11test"])
def test_a_wrong_pin_is_noticed(suite: str) -> None:
    """A control: the harness can fail."""
    comparison = compare([subjects.direct(suite)], subjects.direct(suite, {"KEYWAY_PIN": "87654321"}))
    assert len(comparison.kept) < len(comparison.good) * 3 / 4


@pytest.mark.parametrize("suite", ["abi", "pykcs11"])
def test_a_lossy_remoting_is_noticed(suite: str, record_property: Callable[[str, object], None]) -> None:
    """A control: p11-kit's remoting is known to lose mechanisms, buffers of length 0 and nested templates."""
    comparison = compare([subjects.direct(suite)], subjects.p11_kit(suite))
    record_property(
        PROPERTY, f"(control) {suite} through p11-kit: kept {len(comparison.kept)} of {len(comparison.good)}"
    )
    assert len(comparison.kept) < len(comparison.good) * 9 / 10
