import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.daemon.harness import RunningDaemon, backend
from tests.p11kit.stock import RELEASES, StockServer

from keyway.config.locate import softhsm_module

PIN = "pin-7391-for-tests"


@pytest.fixture
def home():
    # Not tmp_path: the path of a unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture
def conf(home):
    """SoftHSM's configuration, with one token."""
    tokens = home / "tokens"
    tokens.mkdir()
    conf = home / "softhsm.conf"
    conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "demo", "--so-pin", PIN, "--pin", PIN],
        env={"SOFTHSM2_CONF": str(conf), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return conf


@pytest.fixture(params=RELEASES, ids=lambda release: f"version {release.version}")
def remote(request, conf):
    """A client of `p11-kit remote`, initialized."""
    with StockServer(softhsm_module(), conf, release=request.param) as server:
        assert server.answered == request.param.version
        server.initialize()
        yield server


@pytest.fixture
def daemon(home, conf):
    """A Keyway daemon over the same tokens."""
    config = backend("softhsm", softhsm_module(), environment=f'{{ SOFTHSM2_CONF = "{conf}" }}')
    daemon = RunningDaemon(home, '[log]\nformat = "json"\nlevel = "debug"\n' + config)
    yield daemon
    assert daemon.stop() == 0
