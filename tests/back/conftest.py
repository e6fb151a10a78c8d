import pytest
from tests.back.remotes import KINDS, Remote, make_conf
from tests.daemon.conftest import home, start
from tests.daemon.harness import backend

from keyway.config.locate import softhsm_module

__all__ = ["home", "start"]


@pytest.fixture
def conf(home):
    """SoftHSM's configuration at the far end, with a token called demo."""
    return make_conf(home, "far", "demo")


@pytest.fixture
def good(home):
    """The section of a backend here, with a token called good."""
    conf = make_conf(home, "good", "good")
    return backend("good", softhsm_module(), environment=f'{{ SOFTHSM2_CONF = "{conf}" }}')


@pytest.fixture
def far(home, conf):
    """Makes far ends by their kinds, and ends them."""
    with Remote(home, conf) as remote:
        yield remote


@pytest.fixture(params=KINDS)
def section(request, far):
    """The section of a backend called far, of every kind."""
    return far.section(request.param)
