"""Who is closed for asking nothing, and after how long."""

from types import SimpleNamespace
from typing import Any

import pytest

from keyway.daemon.janitor import Janitor

IDLE = 10.0


class Client:
    """A client with a context."""

    def __init__(self, is_idle: bool = True) -> None:
        self.looked = 5
        self.held: object = None
        self.is_abandoned = False
        self.is_closed = False
        binding = SimpleNamespace(links={}, backends={})
        self.service = SimpleNamespace(binding=binding, name="1-1", is_idle=is_idle)

    def facts(self) -> dict[str, object]:
        return {}

    def abort(self) -> None:
        self.is_closed = True


def janitor(client: Client, idle: float = IDLE) -> Janitor:
    daemon: Any = SimpleNamespace(
        clients={client},
        config=SimpleNamespace(limits=SimpleNamespace(idle=idle, greeting=30.0)),
        homes=SimpleNamespace(release=lambda _: None),
    )
    return Janitor(daemon)


def test_a_client_that_asks_for_nothing_is_closed():
    client = Client()
    looks = janitor(client)
    for now in (100.0, 105.0, 110.0):
        looks.look(now)
        assert not client.is_closed
    looks.look(110.1)
    assert client.is_closed


@pytest.mark.parametrize("what", ["a request", "a session", "work that is waited for"])
def test_what_begins_the_time_anew(what):
    client = Client()
    looks = janitor(client)
    looks.look(100.0)
    if what == "a request":
        client.looked += 1
        looks.look(109.0)
    elif what == "a session":
        client.service.is_idle = False
        looks.look(109.0)
        client.service.is_idle = True
    else:
        client.held = object()
        looks.look(109.0)
        client.held = None
    looks.look(112.0)
    looks.look(118.0)
    assert not client.is_closed
    looks.look(122.1)
    assert client.is_closed


def test_never_is_the_default():
    client = Client()
    looks = janitor(client, 0.0)
    for now in (0.0, 1e6):
        looks.look(now)
    assert not client.is_closed
