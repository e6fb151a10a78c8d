"""Members and daemons are those of tests/daemon/pool."""

from tests.daemon.conftest import home, start
from tests.daemon.pool.conftest import made, member, passthrough, pool

__all__ = ["home", "made", "member", "passthrough", "pool", "start"]
