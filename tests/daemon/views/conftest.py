"""A daemon with a token whose PIN tells which of two tokens is meant."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.conftest import starting
from tests.daemon.views import tenants
from tests.daemon.views.tenants import CONFIG, PINS, TENANTS, Tenants


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Where the tokens are that all others are copies of."""
    return tenants.made(tmp_path_factory.mktemp("tenants"))


@contextmanager
def running(made: Path) -> Iterator[Callable[..., Tenants]]:
    """Give what starts a daemon; at the end no PIN may be in its log."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        home = Path(name)
        for pins in (PINS, TENANTS):
            for each, pin in pins.items():
                tenants.write_pin(home / f"{each}.pin", pin)
        started: list[Tenants] = []

        def begin(change: Callable[[str], str] = lambda text: text, **options: Any) -> Tenants:
            text = change(CONFIG.format(home=home) + tenants.backends(home, made, **options))
            started.append(Tenants(start(text), home))
            return started[-1]

        yield begin
        for gateway in started:
            log = gateway.daemon.log()
            assert not [pin for pin in (*PINS.values(), *TENANTS.values()) if pin in log]


@pytest.fixture(scope="module")
def vault(made):
    """A daemon that the tests of a file share."""
    with running(made) as begin:
        yield begin()


@pytest.fixture
def own(made):
    """Starts a daemon for one test."""
    with running(made) as begin:
        yield begin
