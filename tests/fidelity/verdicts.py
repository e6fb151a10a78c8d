"""The same suites on SoftHSM and through Keyway: every outcome is kept, or published with a reason.

What is asked of a suite, as classes that the files of tests put together. Each file is about suites of its own, so that several run side by side, and has
all that is asked of these, so that outcomes that two tests want are had once: the last base of a class is run first, and controls use what it had. The direct side runs twice, to set flaky tests apart; with KEYWAY_FIDELITY=full five times.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar

import pytest
from tests.fidelity import judge, published, subjects
from tests.fidelity.outcomes import compare

DIRECT_RUNS = 5 if os.environ.get("KEYWAY_FIDELITY") == "full" else 2
PROPERTY = "fidelity"
"""Name of the property of a test that is printed at the end of the run."""

Record = Callable[[str, object], None]


@pytest.mark.timeout(900)
class OfSuites:
    """What is asked of some suites.

    Attributes:
        suites: Their names: each test is run for each of them.
    """

    suites: ClassVar[tuple[str, ...]]


class Kept(OfSuites):
    """Each outcome is kept, by both clients."""

    def test_keyway_keeps_every_outcome(self, suite: str, record_property: Record) -> None:
        verdict = judge.judge(suite, subjects.keyway, DIRECT_RUNS)
        record_property(PROPERTY, verdict.summary())
        assert not verdict.failed, verdict.report()

    def test_the_client_of_p11_kit_loses_nothing_that_its_own_server_keeps(
        self, suite: str, record_property: Record
    ) -> None:
        listed = published.entries(suite, published.BEHIND_P11_KIT)
        standing = judge.beside(suite, subjects.p11_kit_keyway, subjects.p11_kit, listed, DIRECT_RUNS)
        record_property(PROPERTY, standing.summary("p11-kit-client.so with Keyway", "with p11-kit server"))
        assert not standing.unexplained, standing.report()
        assert not standing.stale, standing.report()


class KeptByAPool(OfSuites):
    """A pool of one changes nothing but what its slot and token are."""

    def test_a_pool_of_one_keeps_what_is_not_about_slots(self, suite: str, record_property: Record) -> None:
        listed = published.entries(suite, published.BEHIND_A_POOL)
        verdict = judge.judge(suite, subjects.pool, DIRECT_RUNS, listed)
        record_property(PROPERTY, f"{verdict.summary()}; through a pool of one")
        assert not verdict.failed, verdict.report()


class WrongPin(OfSuites):
    """A control: the harness can fail."""

    def test_a_wrong_pin_is_noticed(self, suite: str) -> None:
        comparison = compare(judge.direct_runs(suite, 1)[:1], subjects.direct(suite, {"KEYWAY_PIN": "87654321"}))
        assert len(comparison.kept) < len(comparison.good) * 3 / 4


class Lossy(OfSuites):
    """A control: p11-kit's remoting is known to lose mechanisms, buffers of length 0 and nested templates."""

    def test_a_lossy_remoting_is_noticed(self, suite: str, record_property: Record) -> None:
        comparison = compare(judge.direct_runs(suite, 1)[:1], judge.of_other(suite, subjects.p11_kit))
        record_property(
            PROPERTY, f"(control) {suite} through p11-kit: kept {len(comparison.kept)} of {len(comparison.good)}"
        )
        assert len(comparison.kept) < len(comparison.good) * 9 / 10
