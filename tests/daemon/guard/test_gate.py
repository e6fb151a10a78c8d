"""Who counts as one when turns are shared."""

from types import SimpleNamespace
from typing import Any

import pytest

from keyway.access.identity import IdentityRule
from keyway.daemon.guard.gate import Gate, Ledger
from keyway.transport.peer import Peer

HERE: Any = SimpleNamespace(name="here", is_offer=False)


def gate(*rules: IdentityRule) -> Gate:
    return Gate(rules, Ledger(lambda: 0.0), {}, {})


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (Peer(transport="unix", pid=1, uid=7, gid=1), "uid 7"),
        (Peer(transport="tcp", address="192.0.2.1:1000"), "192.0.2.1"),
        (Peer(transport="tcp", address="[2001:db8::1]:1000"), "[2001:db8::1]"),
        (Peer(transport="vsock", address="3:1000"), "3"),
        (Peer(transport="tls", address="192.0.2.1:1000", names=("moon", "sun")), "moon"),
        (Peer(transport="gss", address="192.0.2.1:1000", principal="moon@EXAMPLE.ORG"), "moon@EXAMPLE.ORG"),
        (Peer(transport="stdio"), "stdio"),
    ],
)
def test_who_has_no_identity(peer, name):
    assert gate().name_of(peer, HERE) == name


def test_who_has_one_counts_by_it_wherever_it_comes_from():
    admitting = gate(IdentityRule(name="ops", roles=(), users=frozenset({7, 8})))
    assert [admitting.name_of(Peer(transport="unix", uid=uid), HERE) for uid in (7, 8, 9)] == ["ops", "ops", "uid 9"]
