"""Our own C programs: the transcript of `tests/abi`, built when it is older than its sources."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.fidelity.outcomes import Outcome, Status
from tests.fidelity.suites.cache import CACHE
from tests.fidelity.target import Target

SOURCES = Path(__file__).parents[2] / "abi"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-format-zero-length"]
ENDINGS = {"CRASH": Status.CRASH, "HANG": Status.CRASH, "BROKEN": Status.ERROR}


def program() -> Path:
    """The transcript program, built if need be."""
    binary = CACHE / "transcript"
    sources = sorted(SOURCES.glob("*.[ch]"))
    if binary.exists() and binary.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    fresh = binary.with_suffix(f".{os.getpid()}")
    query = ["pkg-config", "--cflags", "p11-kit-1"]
    include = subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()
    units = [str(source) for source in sources if source.suffix == ".c"]
    subprocess.run(["gcc", *FLAGS, *include, "-o", str(fresh), *units, "-ldl", "-lpthread"], check=True)
    fresh.replace(binary)
    return binary


def _transcript(target: Target, topics: Iterable[str]) -> list[str]:
    environment = {**os.environ, "KEYWAY_TOKEN": target.label, "KEYWAY_PIN": target.pin}
    environment["KEYWAY_SO_PIN"] = target.so_pin
    command = [str(program()), str(target.module), *topics]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=True)
    return done.stdout.splitlines()


def run(target: Target) -> dict[str, Outcome]:
    """Every step of the transcript; a step that got an answer is a pass with that answer."""
    outcomes: dict[str, Outcome] = {}
    for line in _transcript(target, []):
        test, _, answer = line.partition(" ")
        word = answer.partition(" ")[0]
        outcomes[test] = Outcome(ENDINGS[word]) if word in ENDINGS else Outcome(Status.PASS, answer.rstrip())
    return outcomes


def run_checks(target: Target) -> dict[str, Outcome]:
    """The checks of C_GetInterface and of good conduct, where CKR_OK means that a check holds."""
    outcomes: dict[str, Outcome] = {}
    for line in _transcript(target, ["interfaces", "conduct"]):
        test, _, answer = line.partition(" ")
        word = answer.partition(" ")[0]
        status = Status.PASS if word == "CKR_OK" else ENDINGS.get(word, Status.FAIL)
        outcomes[test] = Outcome(status, answer.rstrip())
    return outcomes
