"""The generator and its tables as fixtures."""

import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "spec"))

import model  # noqa: E402 (it is found through the line above)


@pytest.fixture(scope="session")
def spec() -> model.Spec:
    """The tables of the repository."""
    return model.load(TOP / "spec")
