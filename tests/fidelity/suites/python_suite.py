"""Running the test suite of a Python package, taken from its source distribution.

The suite is unpacked alone, beside the installed package: the distribution's own sources have no compiled parts.
A crash costs one test: the rest is run again behind it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fidelity.outcomes import Outcome, Status
from tests.fidelity.suites.cache import CACHE

PLUGIN = Path(__file__).parents[1] / "plugin"
RUN_SECONDS = 240
MOST_CRASHES = 8


@dataclass(frozen=True, slots=True)
class Distribution:
    """A source distribution on PyPI, by its hash.

    Attributes:
        name: Of the project.
        version: Exactly this one.
        sha256: Of the archive.
        folder: The directory with the tests inside the archive.
    """

    name: str
    version: str
    sha256: str
    folder: str


def unpacked(distribution: Distribution) -> Path:
    """The directory that holds the suite's test folder, fetched on the first use."""
    home = CACHE / f"{distribution.name}-{distribution.version}"
    if home.exists():
        return home
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        fetched, fresh = Path(name) / "fetched", Path(name) / "fresh"
        wanted = Path(name) / "wanted.txt"
        wanted.write_text(f"{distribution.name}=={distribution.version} --hash=sha256:{distribution.sha256}\n")
        options = ["--no-deps", "--no-binary", distribution.name, "--dest", str(fetched), "-r", str(wanted)]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *options], check=True)
        (archive,) = fetched.glob("*.tar.gz")
        everything = Path(name) / "all"
        everything.mkdir()
        # Debian's Python 3.11 has no filter for extractall, newer ones warn without one.
        subprocess.run(["tar", "-xzf", str(archive), "-C", str(everything)], check=True)
        (top,) = everything.iterdir()
        shutil.copytree(top / distribution.folder, fresh / distribution.folder)
        fresh.rename(home)
    return home


def run(home: Path, folder: str, environment: Mapping[str, str], workdir: Path) -> dict[str, Outcome]:
    """Runs the tests of a folder with pytest, and goes on after a crash.

    Raises:
        RuntimeError: No test was run at all; what pytest printed says why.
    """
    outcomes: dict[str, Outcome] = {}
    for _ in range(MOST_CRASHES):
        record = workdir / "record"
        record.unlink(missing_ok=True)
        finished = _pytest(home, folder, environment, record, list(outcomes))
        found = _recorded(record)
        outcomes |= found
        if finished or not found:
            break
    if not outcomes:
        raise RuntimeError(f"{home / folder}: no test was run")
    return outcomes


def _pytest(home: Path, folder: str, environment: Mapping[str, str], record: Path, done: list[str]) -> bool:
    """Whether pytest came to its end, rather than dying of a signal or of its time."""
    settings = {**os.environ, **environment, "PYTHONPATH": str(PLUGIN), "FIDELITY_RECORD": str(record)}
    options = ["-p", "fidelity_recorder", "-p", "no:cacheprovider", "-q", "--rootdir", str(home), "-c", os.devnull]
    skipped = [word for test in done for word in ("--deselect", test)]
    command = [sys.executable, "-m", "pytest", *options, *skipped, folder]
    try:
        ended = subprocess.run(command, cwd=home, env=settings, timeout=RUN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode >= 0


def _recorded(record: Path) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    if not record.exists():
        return outcomes
    for line in record.read_text(encoding="utf-8").splitlines():
        test, word, detail = json.loads(line)
        if word == "start":
            outcomes[test] = Outcome(Status.CRASH)  # until it says otherwise
        elif outcomes[test].status in {Status.CRASH, Status.PASS}:
            outcomes[test] = Outcome(Status(word), detail)
    return outcomes
