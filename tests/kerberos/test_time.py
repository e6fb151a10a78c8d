"""Clocks that differ, and tickets that expire while a connection is open."""

import asyncio
import struct
import subprocess
from contextlib import contextmanager

import pytest
from tests.daemon.harness import until
from tests.kerberos.client import HOST, client, port_of
from tests.kerberos.realm import REALM
from tests.transport.ends import Noting

from keyway.address import Gss
from keyway.transport.connect import connect
from keyway.transport.errors import ConnectError, GssError
from keyway.transport.kerberos import Acceptor, Initiator

SHORT = 8
"""Seconds of a ticket that shall expire in a test."""
HEADER = struct.Struct(">HHHHiI")
"""What a file with tickets begins with: version 5.4, length of what follows, the tag of how far the clock is off, its length, seconds, microseconds."""


def put_clock_off(cache, seconds):
    """Have whoever uses a file with tickets believe that its clock is off by so much, which is told there when a KDC has said so."""
    data = cache.read_bytes()
    assert data[:2] == b"\5\4"
    (size,) = struct.unpack_from(">H", data, 2)
    cache.write_bytes(HEADER.pack(0x0504, HEADER.size - 4, 1, 8, seconds, 0) + data[4 + size :])


@pytest.fixture
def strict(realm, home, monkeypatch):
    """What is started meanwhile allows clocks to differ by a number of seconds."""

    @contextmanager
    def strict(seconds):
        path = home / "strict.conf"
        text = (realm.home / "krb5.conf").read_text()
        path.write_text(text.replace("[libdefaults]", f"[libdefaults]\nclockskew = {seconds}"))
        with monkeypatch.context() as patch:
            patch.setenv("KRB5_CONFIG", str(path))
            yield

    return strict


@pytest.fixture
def off(realm, monkeypatch, tmp_path):
    """Gives the test tickets of alice, and puts her clock off."""

    def off(seconds):
        cache = tmp_path / "alice.ccache"
        environment = realm.ticket("alice", "-c", str(cache))
        monkeypatch.setenv("KRB5CCNAME", f"FILE:{cache}")
        subprocess.run(
            ["kvno", f"pkcs11/{HOST}"],
            check=True,
            capture_output=True,
            env={**environment, "KRB5CCNAME": f"FILE:{cache}"},
        )
        put_clock_off(cache, seconds)

    return off


def attempt(daemon):
    """Connect, and return why that fails; empty if it does not."""

    async def test():
        try:
            transport, end = await connect(
                Gss("127.0.0.1", port_of(daemon)), Noting, kerberos=Initiator("", HOST, None), seconds=60
            )
        except ConnectError as error:
            return str(error)
        transport.abort()
        await end.end()
        return ""

    return asyncio.run(test())


class TestClocks:
    def test_that_differ_by_more_than_five_minutes(self, gateway, off):
        daemon = gateway()
        off(3600)
        assert "the clocks of the two machines differ too much" in attempt(daemon)
        until(lambda: daemon.events("connection refused"), "the refusal is in the log")
        reason = daemon.events("connection refused")[-1]["reason"]
        assert "the clocks of the two machines differ too much" in reason
        off(0)
        assert attempt(daemon) == ""

    def test_one_that_is_before_the_ticket(self, gateway, off):
        daemon = gateway()
        off(-3600)
        assert "the ticket is not valid yet: compare the clocks" in attempt(daemon)

    @pytest.mark.parametrize("seconds", [-120, 120])
    def test_how_much_is_allowed_is_up_to_krb5_conf(self, gateway, off, strict, seconds):
        with strict(10):
            daemon = gateway()
        off(seconds)
        assert "the clocks of the two machines differ too much" in attempt(daemon)
        assert daemon.stop() == 0
        daemon.start()
        assert attempt(daemon) == ""

    def test_a_ticket_for_later(self, gateway, realm, monkeypatch):
        daemon = gateway()
        monkeypatch.setenv("KRB5CCNAME", realm.ticket("bob", "-s", "1h")["KRB5CCNAME"])
        assert "the ticket is not valid yet: compare the clocks" in attempt(daemon)


class TestExpiry:
    @pytest.fixture
    def short(self, realm, monkeypatch):
        """Connects as bob with a ticket that soon expires."""

        def short(daemon):
            # On a busy machine the ticket may have expired before it is shown.
            found = []

            def shown():
                monkeypatch.setenv("KRB5CCNAME", realm.ticket("bob", "-l", f"{SHORT}s")["KRB5CCNAME"])
                try:
                    found.append(client(daemon))
                except (GssError, EOFError):
                    return False
                return True

            until(shown, "the ticket is shown in time")
            return found[0]

        return short

    def test_a_connection_goes_on(self, gateway, short, strict):
        with strict(1):
            daemon = gateway()
        with short(daemon) as one:
            one.initialize()
            until(lambda: subprocess.run(["klist", "-s"], check=False).returncode, "the ticket has expired")
            assert "the ticket has expired" in attempt(daemon)
            assert one.good("C_GetInfo", True)
            (context,) = daemon.contexts()
            assert context["principal"] == f"bob@{REALM}"

    def test_a_connection_ends_if_it_shall(self, gateway, realm, short, strict, monkeypatch):
        with strict(1):
            daemon = gateway("outlive_ticket = false\n[limits]\ngreeting = 3600\n")
        with short(daemon) as one:
            assert one.is_closed()
        until(lambda: daemon.events("connection broken"), "it is in the log")
        (entry,) = daemon.events("connection broken")
        assert (entry["reason"], entry["principal"]) == ("the ticket has expired", f"bob@{REALM}")
        monkeypatch.setenv("KRB5CCNAME", realm.ticket("alice")["KRB5CCNAME"])
        with client(daemon) as one:
            one.initialize()
            assert one.good("C_GetInfo", True)

    @pytest.mark.parametrize(("life", "seconds"), [("1h", 3600), ("2h", 7200)])
    def test_the_time_is_that_of_the_ticket(self, realm, monkeypatch, life, seconds):
        monkeypatch.setenv("KRB5CCNAME", realm.ticket("bob", "-l", life)["KRB5CCNAME"])
        acceptor, initiator = Acceptor("", realm.keytab).begin(), Initiator("", HOST, None).begin()
        initiator.step(acceptor.step(initiator.step(b"")))
        # The acceptor allows for clocks that differ by five minutes.
        assert 0 < acceptor.lifetime <= seconds + 300
        assert acceptor.lifetime > seconds - 1800
        assert 0 < initiator.lifetime <= seconds
