"""`python -m tests.fidelity run SUITE` for one outcome set, `... compare SUITE` for a verdict."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.fidelity import judge, outcomes, subjects
from tests.fidelity.suites import COMPARED, SUITES
from tests.fidelity.target import from_environment

SUBJECTS = {
    "direct": subjects.direct,
    "keyway": subjects.keyway,
    "pool": subjects.pool,
    "p11-kit": subjects.p11_kit,
    "p11-kit-keyway": subjects.p11_kit_keyway,
}


def _run(suite: str, module: Path, out: Path | None) -> int:
    with tempfile.TemporaryDirectory(prefix="fidelity-") as workdir:
        found = SUITES[suite](from_environment(module, Path(workdir)))
    if out is not None:
        outcomes.dump(found, out)
    else:
        for test, outcome in found.items():
            sys.stdout.write(f"{test} {outcome}\n")
    return 0


def _compare(suites: list[str], subject: str, repeats: int) -> int:
    verdicts = [judge.judge(suite, SUBJECTS[subject], repeats) for suite in suites or COMPARED]
    for verdict in verdicts:
        sys.stdout.write(verdict.report() + "\n")
    return 1 if any(verdict.failed for verdict in verdicts) else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="fidelity", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run one suite on a module, with the token that the environment names")
    run.add_argument("suite", choices=SUITES)
    run.add_argument("--module", type=Path, default=os.environ.get("KEYWAY_MODULE"))
    run.add_argument("--json", type=Path, metavar="FILE", help="where to write the outcomes")
    compare = verbs.add_parser("compare", help="run suites directly and through a subject, and compare")
    compare.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(COMPARED))
    compare.add_argument("--subject", choices=SUBJECTS, default="keyway")
    compare.add_argument("--direct", type=int, default=2, metavar="N", help="direct runs (2)")
    given = parser.parse_args()
    if given.verb == "compare":
        return _compare(given.suites, given.subject, given.direct)
    if given.module is None:
        parser.error("no module: give --module or set KEYWAY_MODULE")
    return _run(given.suite, Path(given.module), given.json)


if __name__ == "__main__":
    sys.exit(main())
