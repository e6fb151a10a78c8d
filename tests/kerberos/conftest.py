import tempfile
from pathlib import Path

import pytest
from tests.daemon.conftest import home, start
from tests.daemon.harness import softhsm
from tests.daemon.tokens import make
from tests.kerberos.realm import running_realm, section

__all__ = ["home", "start"]


@pytest.fixture(scope="module")
def shared_realm():
    with tempfile.TemporaryDirectory(prefix="kt-") as name, running_realm(Path(name)) as realm:
        realm.service("pkcs11/localhost", "host/localhost")
        for user in ("alice", "bob"):
            realm.user(user)
        yield realm


@pytest.fixture
def realm(shared_realm, monkeypatch):
    """A realm with the users alice and bob and the service pkcs11/localhost. The test, and what it starts, are in it, without a ticket."""
    for name, value in shared_realm.environment.items():
        monkeypatch.setenv(name, value)
    return shared_realm


@pytest.fixture
def alice(realm, monkeypatch):
    """Gives the test, and what it starts, a ticket."""
    environment = realm.ticket("alice")
    monkeypatch.setenv("KRB5CCNAME", environment["KRB5CCNAME"])
    return environment


@pytest.fixture
def gateway(start, home, realm):
    """Starts a gateway that wants tickets, over a SoftHSM with a token called demo."""

    def gateway(more=""):
        daemon = start(softhsm(home) + section(realm) + more)
        make(daemon, "demo")
        return daemon

    return gateway
