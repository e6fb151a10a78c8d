"""What charon's signatures cost through libkeyway.so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemon.pool.tokens import PIN
from tests.strongswan.gateway import KEYS, MEMBERS, SLOT, Gateway, make_keys
from tests.strongswan.network import Here
from tests.strongswan.replay import CALLS, cost

from keyway.config.locate import module_library

ROUND_TRIPS = 2
"""No more than these: a session is opened, and the rest of the signature travels at once."""


@pytest.fixture(scope="module")
def gateway(home: Path) -> Iterator[Gateway]:
    made = Gateway(Here(), home / "moon", make_keys(home / "keys"), "moon", tls=False)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("slot", [SLOT, MEMBERS["one"]], ids=["pool", "token"])
@pytest.mark.parametrize("kind", KEYS)
def test_a_signature(gateway, kind, slot, record_property):
    environment = {**os.environ, "KEYWAY_ADDRESS": f"unix:{gateway.socket}"}
    found = cost(kind, KEYS[kind], module_library(), slot, PIN, environment)
    record_property("round trips", found.round_trips)
    assert found.calls == CALLS[kind]
    assert found.round_trips <= ROUND_TRIPS
