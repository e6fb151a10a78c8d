from collections.abc import Callable
from pathlib import Path

import pytest
from tests.daemon.conftest import home, start
from tests.daemon.harness import RunningDaemon, softhsm, until
from tests.daemon.tokens import make
from tests.front.client import MessageClient
from tests.p11kit.stock import RELEASES

__all__ = ["front", "home", "listener", "release", "start"]

Start = Callable[..., RunningDaemon]


def listener(home: Path, name: str = "front", **options: object) -> str:
    """Return a [listener] section for p11-kit's clients. Options are TOML."""
    given = {"address": f'"unix:{home}/{name}"', "protocol": '"p11-kit"', **options}
    return "\n".join([f"[listener.{name}]", *(f"{key} = {value}" for key, value in given.items()), ""])


class Front:
    """A daemon with a listener for p11-kit's clients."""

    def __init__(self, daemon: RunningDaemon, path: Path) -> None:
        self.daemon = daemon
        self.path = path
        until(lambda: daemon.events("ready"), "all listeners are there")

    def connect(self, version: int = 2) -> MessageClient:
        return MessageClient(self.path, version)

    @property
    def variables(self) -> dict[str, str]:
        """What tells stock clients where it is."""
        return {"P11_KIT_SERVER_ADDRESS": f"unix:path={self.path}"}


@pytest.fixture
def front(start: Start, home: Path) -> Front:
    """A daemon over one SoftHSM with a token called demo, whose slots are the module's own."""
    front = Front(start(softhsm(home) + listener(home)), home / "front")
    make(front.daemon, "demo")
    return front


@pytest.fixture(params=RELEASES, ids=lambda release: f"version {release.version}")
def release(request):
    """A stock client's."""
    return request.param
