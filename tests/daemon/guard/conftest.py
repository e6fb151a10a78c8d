"""A daemon with listeners for several identities, at one token with some keys."""

import tempfile
from pathlib import Path

import pytest
from tests.daemon.conftest import starting
from tests.daemon.guard.guests import CONFIG, Guests
from tests.daemon.pool import tokens


@pytest.fixture(scope="module")
def guests():
    """A daemon with the identities in CONFIG, whose listeners are called like them."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        home = Path(name)
        tokens.original(home)
        member = tokens.member(home, home, "hsm")
        yield Guests(start(member + CONFIG.format(home=home)), home)
