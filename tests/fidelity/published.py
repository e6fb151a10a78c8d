"""The published list of differences: `differences.toml`, each entry with its reason."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.fidelity.outcomes import Difference

LIST = Path(__file__).with_name("differences.toml")
BEHIND_P11_KIT = Path(__file__).with_name("behind-p11-kit.toml")
"""What `p11-kit server` keeps, and Keyway in its place does not."""

BEHIND_A_POOL = Path(__file__).with_name("behind-a-pool.toml")
"""What a pool of one member does not keep."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One permitted difference.

    Attributes:
        suite: The suite it belongs to.
        tests: A pattern for test names, with `*`.
        outcome: A pattern for what Keyway answers instead.
        reason: Why it is so.
    """

    suite: str
    tests: str
    outcome: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        """Whether this entry permits that difference."""
        return fnmatch.fnmatchcase(difference.test, self.tests) and fnmatch.fnmatchcase(
            str(difference.subject), self.outcome
        )


def entries(suite: str, path: Path = LIST) -> list[Entry]:
    """The entries of one suite.

    Raises:
        TypeError: An entry lacks a key or has one too many.
        ValueError: An entry gives no reason.
    """
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("difference", [])
    found = [Entry(**row) for row in rows]
    for entry in found:
        if not entry.reason.strip():
            raise ValueError(f"{path.name}: {entry.suite} {entry.tests}: no reason is given")
    return [entry for entry in found if entry.suite == suite]


def unexplained(differences: Iterable[Difference], listed: Iterable[Entry]) -> list[Difference]:
    """The differences that no entry covers."""
    known = list(listed)
    return [each for each in differences if not any(entry.covers(each) for entry in known)]


def stale(differences: Iterable[Difference], listed: Iterable[Entry]) -> list[Entry]:
    """The entries that cover no difference any more."""
    seen = list(differences)
    return [entry for entry in listed if not any(entry.covers(each) for each in seen)]
