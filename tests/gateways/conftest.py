"""Two gateways, each over a pool of its own of tokens with the same keys."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.daemon.conftest import starting
from tests.daemon.pool.conftest import made
from tests.daemon.pool.tokens import member
from tests.daemon.pool.tokens import pool as section

__all__ = ["gateway", "gateways", "made"]

MEMBERS = ("one", "two")
OPTIONS = "[limits]\ndrain = 0\n"
DEADLINE = 20.0
"""Seconds that a call may take at one gateway: a busy machine must not use them up."""


@pytest.fixture
def gateway(made):
    """Starts gateways. At the end each must still be there, stop cleanly, and leave nothing behind."""
    with ExitStack() as stack:

        def begin(more="", **options):
            # Not tmp_path: the path of a unix socket must be short.
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kt-")))
            tokens = "\n".join(member(home, made, name, spares=0) for name in MEMBERS)
            pool = section(*MEMBERS, policy='"balance"', deadline=DEADLINE)
            start = stack.enter_context(starting(home))
            return start(f"{OPTIONS}{tokens}{pool}{more}", **options)

        yield begin


@pytest.fixture
def gateways(gateway):
    """Two of them."""
    return gateway(), gateway()
