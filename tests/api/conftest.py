import tempfile
from pathlib import Path

import pytest
from tests.api.openssl import Ca
from tests.api.running import PIN, SO_PIN, Caller, RunningApi
from tests.daemon.harness import RunningDaemon, softhsm

LOG = '[log]\nformat = "json"\nlevel = "debug"\n'
API = '[limits]\ndrain = 0.2\n[api]\naddress = "tcp://127.0.0.1:0"\nanonymous = "all"\n'


@pytest.fixture(scope="module")
def shared():
    """A directory for all tests of a file. Short, for the sake of unix sockets."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def daemon(shared):
    """A daemon over one SoftHSM whose slots pass through, so that tokens can be made."""
    daemon = RunningDaemon(shared, LOG + softhsm(shared) + API)
    yield daemon
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log()
    assert PIN not in daemon.log()
    assert SO_PIN not in daemon.log()


@pytest.fixture(scope="module")
def api(shared, daemon):
    """The API in front of it, open to everybody."""
    api = RunningApi(shared, shared / "keyway.toml")
    yield api
    api.stop()


@pytest.fixture(scope="module")
def caller(api):
    return Caller(api)


@pytest.fixture(scope="module")
def ca(shared):
    return Ca(shared)
