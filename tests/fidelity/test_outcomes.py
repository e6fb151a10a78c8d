"""The comparison itself, on outcome sets made up."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from tests.fidelity import published
from tests.fidelity.outcomes import Difference, Kind, Outcome, Status, compare, dump, flaky_tests, load
from tests.fidelity.suites import COMPARED, SUITES
from tests.fidelity.suites.commands import normalised, unordered
from tests.fidelity.suites.p11test import parsed
from tests.fidelity.verdicts import Kept

GOOD = Outcome(Status.PASS, "CKR_OK 16")
BAD = Outcome(Status.FAIL, "exit 1")
CRASH = Outcome(Status.CRASH)


def test_every_suite_is_compared_in_one_file() -> None:
    files = [import_module(f"tests.fidelity.{path.stem}") for path in Path(__file__).parent.glob("test_*.py")]
    classes = [each for file in files for each in vars(file).values() if isinstance(each, type) and each is not Kept]
    found = [suite for each in classes if issubclass(each, Kept) for suite in each.suites]
    assert sorted(found) == sorted(COMPARED)


def test_equal_runs_are_kept_whole() -> None:
    run = {"a": GOOD, "b": BAD, "c": CRASH}
    comparison = compare([run, run], dict(run))
    assert comparison.good == comparison.kept == {"a"}
    assert not comparison.differences


@pytest.mark.parametrize(
    ("direct", "subject", "kind"),
    [
        (GOOD, BAD, Kind.LOST),
        (GOOD, CRASH, Kind.LOST),
        (GOOD, None, Kind.LOST),
        (GOOD, Outcome(Status.PASS, "CKR_OK 17"), Kind.LOST),
        (GOOD, Outcome(Status.SKIP), Kind.LOST),
        (BAD, GOOD, Kind.NEWLY_PASSING),
        (BAD, Outcome(Status.FAIL, "exit 2"), Kind.CHANGED),
        (BAD, None, Kind.CHANGED),
        (CRASH, None, Kind.CHANGED),
        (None, GOOD, Kind.UNKNOWN),
    ],
)
def test_whatever_is_not_the_same_is_a_difference(direct: Outcome | None, subject: Outcome | None, kind: Kind) -> None:
    before = {"a": GOOD} | ({"t": direct} if direct else {})
    after = {"a": GOOD} | ({"t": subject} if subject else {})
    comparison = compare([before], after)
    assert comparison.differences == (Difference("t", kind, direct, subject),)
    assert comparison.kept == {"a"}


def test_what_crashes_the_caller_directly_may_end_better() -> None:
    comparison = compare([{"t": CRASH}], {"t": Outcome(Status.PASS, "CKR_DEVICE_ERROR")})
    assert comparison.shielded == {"t"}
    assert not comparison.differences


def test_what_differs_between_direct_runs_proves_nothing() -> None:
    runs = [{"t": GOOD, "u": GOOD}, {"t": BAD, "u": GOOD}, {"u": GOOD}]
    assert flaky_tests(runs) == {"t"}
    comparison = compare(runs, {"t": CRASH, "u": GOOD})
    assert comparison.flaky == {"t"}
    assert comparison.good == comparison.kept == {"u"}
    assert not comparison.differences


def test_outcomes_survive_their_file(tmp_path: Path) -> None:
    outcomes = {"a": GOOD, "b": CRASH}
    dump(outcomes, tmp_path / "out.json")
    assert load(tmp_path / "out.json") == outcomes


def _list(tmp_path: Path, reason: str) -> Path:
    path = tmp_path / "differences.toml"
    path.write_text(
        f'[[difference]]\nsuite = "s"\ntests = "forks/*"\noutcome = "pass CKR_OK*"\nreason = "{reason}"\n',
        encoding="utf-8",
    )
    return path


def test_a_published_difference_covers_its_tests_and_its_outcome_only(tmp_path: Path) -> None:
    listed = published.entries("s", _list(tmp_path, "so it is"))
    covered = Difference("forks/child", Kind.LOST, BAD, Outcome(Status.PASS, "CKR_OK"))
    other_test = Difference("threads/one", Kind.LOST, BAD, Outcome(Status.PASS, "CKR_OK"))
    other_outcome = Difference("forks/child", Kind.LOST, BAD, Outcome(Status.PASS, "CKR_GENERAL_ERROR"))
    differences = [covered, other_test, other_outcome]
    assert published.unexplained(differences, listed) == [other_test, other_outcome]
    assert not published.stale(differences, listed)
    assert published.stale([other_test], listed) == listed
    assert not published.entries("another", _list(tmp_path, "so it is"))


def test_a_published_difference_needs_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no reason"):
        published.entries("s", _list(tmp_path, " "))


def test_the_published_list_names_suites_that_exist() -> None:
    listed = [entry for suite in SUITES for entry in published.entries(suite)]
    assert len(listed) == published.LIST.read_text(encoding="utf-8").count("[[difference]]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Slot 0 (0x8c25ad7): ready", "Slot 0 (0x#): ready"),
        ("serial num : 91d050e008c25ad7", "serial num : #"),
        ("ID: 20:ff:00:11:22:33:44:55:66", "ID: #"),
        ("id=%20%AB%CD;type=private", "id=%#;type=private"),
        ("rv = CKR_OK\n\n  (0x0)", "rv = CKR_OK (0x0)"),
        ("in /tmp/place/file", "in DIR/file"),
    ],
)
def test_what_differs_between_runs_is_taken_out_of_a_text(text: str, expected: str) -> None:
    assert normalised(text, [("/tmp/place", "DIR")]) == expected


def test_a_listing_may_come_in_any_order() -> None:
    assert unordered("two\none\n0411ab\n") == unordered("one\n\n0422cd\ntwo") == "one; two"


def test_tables_of_p11test_become_outcomes() -> None:
    printed = """\
[ RUN      ] usage_test
[KEY ID] [LABEL]
[03    ] [ECC256]
[  EC  ] [   256] [ [./][  ] ]
         [ ECDSA ] [      ]
[  FAILED  ] usage_test
[==========] 11 test(s) run.
"""
    assert {test: outcome.status.value for test, outcome in parsed(printed).items()} == {
        "usage_test/1": "pass",
        "usage_test/03/1": "pass",
        "usage_test/03/2": "pass",
        "usage_test/03/3": "fail",
        "usage_test": "fail",
    }
