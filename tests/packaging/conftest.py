"""The wheel, built and installed as a user would have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The source tree."""
    return ROOT


@pytest.fixture(scope="session")
def keyway() -> Path:
    """The command of the environment that runs the tests."""
    return Path(sys.executable).with_name("keyway")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip wheel .` makes.

    Cargo works in the tree's own target directory, so only what changed is compiled again.
    """
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", str(out), str(ROOT))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` directory of an environment that holds the wheel and what it needs, nothing else."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    constraints = str(ROOT / "packaging" / "constraints.txt")
    pip("install", "-c", constraints, str(wheel), python=environment / "bin" / "python")
    return environment / "bin"


def pip(*arguments: str, python: Path = Path(sys.executable)) -> None:
    """Run pip quietly; show its words only if it fails."""
    done = subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CARGO_TERM_COLOR": "never"},
        cwd="/",
    )
    assert done.returncode == 0, done.stdout + done.stderr
