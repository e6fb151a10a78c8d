"""The transcript of `tests/abi`, and what SoftHSM has not got to compare with."""

import pytest
from tests.fidelity import subjects
from tests.fidelity.outcomes import Status
from tests.fidelity.verdicts import PROPERTY, Kept, KeptByAPool, Lossy, Record, WrongPin


class TestAbi(Lossy, WrongPin, KeptByAPool, Kept):
    suites = ("abi",)


@pytest.mark.timeout(900)
def test_interfaces_and_conduct_are_as_they_should_be(record_property: Record) -> None:
    outcomes = subjects.keyway("checks")
    bad = {test: str(outcome) for test, outcome in outcomes.items() if outcome.status is not Status.PASS}
    record_property(PROPERTY, f"checks: {len(outcomes) - len(bad)} of {len(outcomes)}")
    assert len(outcomes) > 90
    assert not bad
