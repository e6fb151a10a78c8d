from typing import Any

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.tokens import member
from tests.daemon.pool_control.operator import Operated, pool


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Where the token is that all are copies of."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def operated(start, home, made):
    """Starts a daemon with a pool of SoftHSM members."""

    def begin(*names: str, more: str = "", **options: Any) -> Operated:
        names = names or ("one", "two")
        backends = [member(home, made, name, spares=0) for name in names]
        gateway = Operated(start("\n".join([*backends, pool(*names, **options), more])), home)
        until(gateway.is_settled, "all members have been probed")
        return gateway

    return begin
