"""A verdict on one suite: direct runs, the subject's run, and the published list."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.fidelity import published, subjects
from tests.fidelity.outcomes import Comparison, Difference, Outcome, compare

EXTRA_DIRECT_RUNS = 3
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one suite.

    Attributes:
        suite: Its name.
        comparison: The subject's outcomes beside the direct ones.
        unexplained: Differences that are not on the published list.
        stale: Entries of the list that no difference needs any more.
    """

    suite: str
    comparison: Comparison
    unexplained: tuple[Difference, ...]
    stale: tuple[published.Entry, ...]

    @property
    def failed(self) -> bool:
        """Whether there is something to mend: in the code, or in the list."""
        return bool(self.unexplained or self.stale)

    def summary(self) -> str:
        """The counts, in one line."""
        found = self.comparison
        parts = [f"{self.suite}: kept {len(found.kept)} of {len(found.good)}"]
        listed = len(found.differences) - len(self.unexplained)
        for count, what in (
            (len(self.unexplained), "unexplained"),
            (listed, "published"),
            (len(found.shielded), "shielded from a crash"),
            (len(found.flaky), "flaky"),
        ):
            if count:
                parts.append(f"{count} {what}")
        return ", ".join(parts)

    def report(self) -> str:
        """The counts, and every difference that is not published."""
        lines = [self.summary()]
        if self.comparison.flaky:
            lines.append(f"  flaky directly: {' '.join(sorted(self.comparison.flaky))}")
        lines += [f"  {difference}" for difference in self.unexplained[:SHOWN]]
        if len(self.unexplained) > SHOWN:
            lines.append(f"  and {len(self.unexplained) - SHOWN} more")
        lines += [f"  published, but no difference: {entry.tests} {entry.outcome}" for entry in self.stale]
        return "\n".join(lines)


@functools.cache
def _direct_runs(suite: str) -> list[dict[str, Outcome]]:
    """The direct runs so far. Kept, since two tests want them."""
    return []


def direct_runs(suite: str, count: int) -> list[dict[str, Outcome]]:
    """At least so many direct runs of a suite.

    Raises:
        subjects.SuiteBroken: A run ended without an outcome set.
    """
    runs = _direct_runs(suite)
    while len(runs) < count:
        runs.append(subjects.direct(suite))
    return list(runs)


_OTHERS: dict[str, dict[str, Outcome]] = {}


def of_other(suite: str, other: Callable[[str], dict[str, Outcome]]) -> dict[str, Outcome]:
    """The outcomes of a suite through the other subject that `beside` has had last; had now if there are none.

    Args:
        suite: Name of the suite.
        other: Runs it.

    Raises:
        subjects.SuiteBroken: A run ended without an outcome set.
    """
    return _OTHERS.get(suite) or other(suite)


def judge(
    suite: str,
    subject: Callable[[str], dict[str, Outcome]],
    repeats: int = 2,
    own: Iterable[published.Entry] | None = None,
) -> Verdict:
    """Runs a suite directly and through a subject, and compares.

    What looks like a difference may be a test that is flaky but rarely so: before it is believed the direct side
    is run a few times more.

    Args:
        suite: Name of the suite.
        subject: Runs it through what is to be judged.
        repeats: How many direct runs come first.
        own: What the subject may lose besides what is published for all; None if it is the one that the published list is kept for.

    Raises:
        subjects.SuiteBroken: A run ended without an outcome set.
    """
    runs = direct_runs(suite, repeats)
    through = subject(suite)
    needed = published.entries(suite) if own is None else list(own)
    listed = [*published.entries(suite), *(own or ())]
    for _ in range(EXTRA_DIRECT_RUNS):
        comparison = compare(runs, through)
        open_questions = published.unexplained(comparison.differences, listed)
        if not open_questions:
            break
        runs = direct_runs(suite, len(runs) + 1)
    comparison = compare(runs, through)
    return Verdict(
        suite,
        comparison,
        tuple(published.unexplained(comparison.differences, listed)),
        tuple(published.stale(comparison.differences, needed)),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """How a subject stands beside another one: what that one keeps of the direct outcomes, it should keep as well.

    Attributes:
        suite: The suite's name.
        kept: The subject's comparison with the direct outcomes, and the other one's.
        unexplained: What only the other one keeps, and is not on the list.
        stale: Entries of the list that nothing needs any more.
    """

    suite: str
    kept: tuple[Comparison, Comparison]
    unexplained: tuple[Difference, ...]
    stale: tuple[published.Entry, ...]

    def summary(self, name: str, other: str) -> str:
        """The counts, in one line."""
        mine, theirs = self.kept
        return f"{self.suite}: {name} kept {len(mine.kept)} of {len(mine.good)}, {other} {len(theirs.kept)}"

    def report(self) -> str:
        """What is to be mended, in the code or in the list."""
        lines = [f"  {difference}" for difference in self.unexplained[:SHOWN]]
        lines += [f"  on the list, but kept: {entry.tests} {entry.outcome}" for entry in self.stale]
        return "\n".join(lines)


def beside(
    suite: str,
    subject: Callable[[str], dict[str, Outcome]],
    other: Callable[[str], dict[str, Outcome]],
    listed: list[published.Entry],
    repeats: int = 2,
) -> Standing:
    """Runs a suite through a subject and through another one, and looks for what only the other one keeps.

    What is found is believed when it is found again.

    Args:
        suite: Name of the suite.
        subject: Runs it through what is to be judged.
        other: Runs it through what it is measured by.
        listed: What it need not keep.
        repeats: How many direct runs come first.

    Raises:
        subjects.SuiteBroken: A run ended without an outcome set.
    """
    runs = direct_runs(suite, repeats)
    _OTHERS[suite] = other(suite)
    theirs = compare(runs, _OTHERS[suite])
    for _ in range(2):
        mine = compare(runs, subject(suite))
        behind = [each for each in mine.differences if each.test in theirs.kept]
        unexplained = published.unexplained(behind, listed)
        if not unexplained:
            break
    return Standing(suite, (mine, theirs), tuple(unexplained), tuple(published.stale(behind, listed)))
