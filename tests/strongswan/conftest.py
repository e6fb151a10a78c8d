"""Folders, gateways and whole labs for the tests of strongSwan."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.strongswan import network


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder for the files of a module's tests, with a short path: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def tunnels() -> None:
    """For tests that need network namespaces and tunnels."""
    if reason := network.why_not():
        pytest.skip(reason)
