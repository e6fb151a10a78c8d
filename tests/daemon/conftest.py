import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.harness import RunningDaemon, softhsm, until
from tests.daemon.tokens import PIN, make

LOG = '[log]\nformat = "json"\nlevel = "debug"\n'


@pytest.fixture
def home():
    # Not tmp_path: the path of a unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@contextmanager
def starting(home: Path) -> Iterator[Callable[..., RunningDaemon]]:
    """Give what starts daemons; at the end each must still be there, stop cleanly, and leave no process and no socket."""
    daemons = []

    def start(config: str, **options: Any) -> RunningDaemon:
        daemon = RunningDaemon(home, LOG + config, **options)
        daemons.append(daemon)
        return daemon

    yield start
    for daemon in daemons:
        if daemon.process.poll() is None:
            hosts = daemon.hosts()
            assert daemon.stop() == 0
            assert not daemon.socket.exists()
            # A process that a command had started is init's when that is gone, and there until init looks.
            until(lambda: not [pid for pid in hosts if Path(f"/proc/{pid}").exists()], "no process is left")  # noqa: B023
        assert daemon.events("internal error") == []
        assert "Traceback" not in daemon.log()
        assert PIN not in daemon.log()


@pytest.fixture
def start(home):
    """Starts daemons, as `starting` does."""
    with starting(home) as start:
        yield start


@pytest.fixture
def daemon(start, home):
    """A daemon over one SoftHSM, with the module's own slots and a token called demo in the first."""
    daemon = start(softhsm(home))
    make(daemon, "demo")
    return daemon
