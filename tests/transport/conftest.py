import asyncio
import tempfile
from pathlib import Path

import pytest
import uvloop
from tests.authority import Authority


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request):
    """Runs coroutines, in each of the loops that the daemon may have."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture
def home():
    # Not tmp_path: the path of a unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture
def authority(home):
    return Authority(home)
