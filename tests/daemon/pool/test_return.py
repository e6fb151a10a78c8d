"""A member that is back serves the sessions that were open before."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.tokens import PIN, member, pool
from tests.daemon.raw import RawClient

from keyway.cryptoki import Attribute, Mechanism, Null, Numbers, ObjectsRoom, Room
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_LABEL,
    CKF_SERIAL_SESSION,
    CKM_SHA256_RSA_PKCS,
    CKO_PRIVATE_KEY,
    CKU_USER,
)


@pytest.mark.parametrize("policy", ["failover", "balance"])
def test_it_serves_again(start, home, policy):
    configuration = member(home, home, "one", spares=0) + member(home, home, "two", spares=0)
    daemon = start(configuration + pool("one", "two", policy=f'"{policy}"', deadline=20))
    with RawClient(daemon.socket) as client:
        client.initialize()
        client.good("C_OpenSession", CKF_SERIAL_SESSION, 1, target=0)
        client.good("C_Login", CKU_USER, PIN.encode(), target=1)
        template = (Attribute(CKA_CLASS, CKO_PRIVATE_KEY), Attribute(CKA_LABEL, b"rsa"))
        client.good("C_FindObjectsInit", template, target=1)
        (found,) = client.good("C_FindObjects", ObjectsRoom(1, has_count=True, has_buffer=True), target=1)
        client.good("C_FindObjectsFinal", target=1)
        assert isinstance(found, Numbers)
        assert found.data
        (key,) = found.data

        def serves(name):
            """Sign, and tell whether a member has done so since this was last asked."""
            before = _served(daemon, name)
            client.good("C_SignInit", Mechanism(CKM_SHA256_RSA_PKCS, Null()), key, target=1)
            client.good("C_Sign", b"data", Room(512, True), target=1)
            return _served(daemon, name) > before

        until(lambda: serves("one"), "the first member serves")
        for host in _hosts(daemon, home, "one"):
            with suppress(ProcessLookupError):
                os.kill(host, signal.SIGKILL)
        until(lambda: serves("two"), "the second serves meanwhile")
        until(lambda: serves("one"), "the first serves again")


def _served(daemon, name):
    members = daemon.status()["pools"]["vault"]["members"]
    return next(each["served"] for each in members if each["member"] == name)


def _hosts(daemon, home, name):
    conf = f"SOFTHSM2_CONF={home / name}.conf".encode()
    return {pid for pid in daemon.hosts() if conf in _environment(pid)}


def _environment(pid):
    with suppress(OSError), Path(f"/proc/{pid}/environ").open("rb") as file:
        return file.read().split(b"\0")
    return []
