"""Outcome sets, and the decision whether two modules behave alike.

An outcome set says of every test of a suite how it ended. The direct side is run several times: what differs
between its own runs is flaky and proves nothing. Of the rest the subject must keep every outcome, good or bad;
what it does not keep is a difference.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class Status(enum.Enum):
    """How a test ended."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    SKIP = "skip"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended, and in what way.

    Attributes:
        status: The verdict of the suite. A transcript has no verdicts: whatever it could write down is a pass.
        detail: What of the outcome must be the same again, such as an RV, a length or an exit status. Nothing
            that differs between two runs on equal tokens.
    """

    status: Status
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.status.value} {self.detail}".rstrip()


Outcomes = Mapping[str, Outcome]


def dump(outcomes: Outcomes, path: Path) -> None:
    """Writes an outcome set as JSON."""
    rows = {test: [outcome.status.value, outcome.detail] for test, outcome in outcomes.items()}
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def load(path: Path) -> dict[str, Outcome]:
    """Reads what `dump` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {test: Outcome(Status(status), detail) for test, (status, detail) in rows.items()}


class Kind(enum.Enum):
    """In what way a subject's outcome is not the direct one."""

    LOST = "lost"  # good directly, otherwise through the subject
    CHANGED = "changed"  # bad in both, but not in the same way
    NEWLY_PASSING = "newly passing"
    UNKNOWN = "not run directly"


@dataclass(frozen=True, slots=True)
class Difference:
    """One test that ended otherwise through the subject; None where it was not run at all."""

    test: str
    kind: Kind
    direct: Outcome | None
    subject: Outcome | None

    def __str__(self) -> str:
        return f"{self.test}: {self.direct} -> {self.subject} ({self.kind.value})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A subject's outcomes beside the direct ones.

    Attributes:
        good: Tests that pass in every direct run.
        kept: Those of them that the subject ends in the same way.
        flaky: Tests that differ between direct runs; not compared.
        shielded: Tests that crash the vendor module in the caller's process, and end otherwise through the
            subject. The crash is not an answer that could be kept.
        differences: Everything else that is not the same, ordered by test.
    """

    good: frozenset[str]
    kept: frozenset[str]
    flaky: frozenset[str]
    shielded: frozenset[str]
    differences: tuple[Difference, ...] = field(default=())


def flaky_tests(direct: Sequence[Outcomes]) -> frozenset[str]:
    """The tests whose outcome is not the same in all runs."""
    every = set().union(*direct)
    return frozenset(test for test in every if len({run.get(test) for run in direct}) > 1)


def compare(direct: Sequence[Outcomes], subject: Outcomes) -> Comparison:
    """Compares one run of the subject with one or more direct runs."""
    flaky = flaky_tests(direct)
    steady = {test: outcome for test, outcome in direct[0].items() if test not in flaky}
    good = frozenset(test for test, outcome in steady.items() if outcome.status is Status.PASS)
    shielded: set[str] = set()
    differences: list[Difference] = []
    for test in sorted((steady.keys() | subject.keys()) - flaky):
        before, after = steady.get(test), subject.get(test)
        if before == after:
            continue
        if before is not None and before.status is Status.CRASH and after is not None:
            shielded.add(test)
        else:
            differences.append(Difference(test, _kind(before, after), before, after))
    lost = {each.test for each in differences}
    return Comparison(good, good - lost, flaky, frozenset(shielded), tuple(differences))


def _kind(direct: Outcome | None, subject: Outcome | None) -> Kind:
    if direct is None:
        return Kind.UNKNOWN
    if direct.status is Status.PASS:
        return Kind.LOST
    if subject is not None and subject.status is Status.PASS:
        return Kind.NEWLY_PASSING
    return Kind.CHANGED
