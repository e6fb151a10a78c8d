import json
import os
from pathlib import Path

import pytest
from tests.daemon.conftest import home, start
from tests.daemon.pool import tokens
from tests.daemon.pool.conftest import member, passthrough
from tests.daemon.tokens import PIN
from tests.read_ahead.cryptoki import Module, number

from keyway.config.locate import module_library, softhsm_module
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_PRIVATE,
    CKA_TOKEN,
    CKA_VALUE,
    CKK_AES,
    CKO_SECRET_KEY,
)

__all__ = ["home", "member", "passthrough", "secret_key", "start"]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Where the token is that all are copies of: one without objects."""
    home = tmp_path_factory.mktemp("made")
    tokens.original(home, "")
    return home


@pytest.fixture
def token(member):
    """A SoftHSM whose calls can be held. It gets them one by one: what it shows of an object depends on calls that have returned."""
    return member("softhsm", alone="1")


@pytest.fixture
def daemon(start, token):
    """A daemon over that token."""
    daemon = start(token.section)
    token.at(daemon)
    return daemon


@pytest.fixture
def stats(home):
    return home / "stats"


@pytest.fixture
def environment(daemon, home, stats):
    """Where programs find the token, whichever module they load."""
    return {
        **os.environ,
        "SOFTHSM2_CONF": str(home / "softhsm.conf"),
        "KEYWAY_ADDRESS": f"unix:{daemon.socket}",
        "KEYWAY_STATS": str(stats),
    }


@pytest.fixture
def modules(environment, monkeypatch):
    """Makes modules of this process: the vendor's own, and ours."""
    for name in ("SOFTHSM2_CONF", "KEYWAY_ADDRESS", "KEYWAY_STATS"):
        monkeypatch.setenv(name, environment[name])
    started = []

    def start(path: Path) -> Module:
        module = Module(path).start()
        started.append(module)
        return module

    yield start
    for module in started:
        module.stop()


@pytest.fixture
def keyway(modules):
    """An application that has our module, logged in."""
    module = modules(module_library())
    assert module.login(PIN) == 0
    return module


@pytest.fixture
def direct(modules):
    """The same without us."""
    module = modules(softhsm_module())
    assert module.login(PIN) == 0
    return module


@pytest.fixture
def trips(stats):
    """Tells how many round trips a module has made, once it is finalised."""

    def count() -> dict[str, int]:
        counted: dict[str, int] = json.loads(stats.read_text().splitlines()[-1])
        return counted

    return count


def secret_key(label: str, id_: bytes, *more: tuple[int, bytes]) -> tuple[tuple[int, bytes], ...]:
    """The template of an AES key."""
    return (
        (CKA_CLASS, number(CKO_SECRET_KEY)),
        (CKA_KEY_TYPE, number(CKK_AES)),
        (CKA_TOKEN, b"\1"),
        (CKA_PRIVATE, b"\1"),
        (CKA_VALUE, bytes(16)),
        (CKA_LABEL, label.encode()),
        (CKA_ID, id_),
        *more,
    )
