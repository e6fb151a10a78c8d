"""What is behind a view goes, or is not there."""

import os
import signal

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.app import RSA, WRITE
from tests.daemon.tokens import generate_rsa
from tests.daemon.views.tenants import OF_A, OF_B, PINS, SLOT, labels, log_in

from keyway.cryptoki import RV, Room
from keyway.cryptoki.constants import CKU_USER


def kill(gateway):
    """Kill all hosts, and wait until the daemon has noticed."""
    before = len(gateway.daemon.events("view lost"))
    for pid in gateway.daemon.hosts():
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(gateway.daemon.events("view lost")) > before, "the loss is noticed")


class TestLoss:
    def test_sessions_do_not_come_back(self, own):
        gateway = own(spares=0)
        with gateway.app("alice") as app:
            app.open(2)
            key = app.object("a-rsa")
            kill(gateway)
            assert app.signed(key) == RV.CKR_DEVICE_REMOVED
            assert app.call("C_Login", CKU_USER, PINS["alice"].encode(), target=2)[0] == RV.CKR_DEVICE_REMOVED
            app.good("C_CloseSession", target=1)
            app.open(3)
            assert app.find(session=3) == ()
            log_in(app, "bob", session=3)
            assert labels(app, 3) == OF_B
        assert gateway.daemon.status()["backends"]["hsm"]["crashes"] == 1

    def test_what_was_being_done_has_failed(self, own):
        gateway = own(spares=0)
        with gateway.app("alice", flags=WRITE) as app:
            sent = generate_rsa(app, 1, 8192)
            kill(gateway)
            frame = app.receive()
            assert (frame.header.id, frame.header.rv) == (sent, RV.CKR_DEVICE_ERROR)

    def test_others_do_not_notice(self, own):
        gateway = own(spares=0)
        with gateway.app("alice") as alice, gateway.app() as waiting:
            kill(gateway)
            assert alice.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_DEVICE_REMOVED
            log_in(waiting, "alice")
            assert labels(waiting) == OF_A

    def test_a_client_that_goes_leaves_nothing(self, own):
        gateway = own(spares=0)
        with gateway.app("alice"), gateway.app("bob"):
            assert gateway.daemon.status()["backends"]["hsm"]["hosts"] == 2
            shown = {each["hosts"]["views:vault"] for each in gateway.daemon.contexts()}
            assert shown == {"vault/alice", "vault/bob"}
        gateway.daemon.wait_quiet(0)
        with gateway.app("alice") as app:
            app.good("C_Finalize")
        gateway.daemon.wait_quiet(0)

    def test_a_logout_ends_what_is_behind(self, own):
        gateway = own(spares=0)
        with gateway.app("alice") as app:
            app.good("C_Logout", target=1)
            until(lambda: not gateway.daemon.status()["backends"]["hsm"]["hosts"], "the host has ended")
        assert not gateway.daemon.events("module host ended")


class TestAbsence:
    @pytest.fixture
    def half(self, own):
        """A gateway where alice's token can't be reached."""
        more = '[backend.gone]\naddress = "unix:/nonexistent/socket"\n'
        return own(lambda text: text.replace("tenant-a?backend=hsm", "tenant-a?backend=gone", 1) + more)

    def test_the_right_pin_is_not_blamed(self, half):
        with half.app() as app:
            for _ in range(3):
                assert app.call("C_Login", CKU_USER, PINS["alice"].encode(), target=1)[0] == RV.CKR_DEVICE_ERROR
            log_in(app, "bob")
            assert labels(app) == OF_B
        assert half.daemon.events("view can't be reached")

    def test_mechanisms_are_those_of_the_others(self, half):
        with half.app(session=False) as app:
            (counted,) = app.good("C_GetMechanismList", Room(0, False), target=SLOT)
            assert counted.count

    def test_a_token_that_is_not_there(self, own):
        gateway = own(lambda text: text.replace("token=tenant-a?backend", "token=tenant-x?backend", 1))
        with gateway.app() as app:
            assert app.call("C_Login", CKU_USER, PINS["alice"].encode(), target=1)[0] == RV.CKR_DEVICE_ERROR
            assert app.call("C_SignInit", RSA, 1, target=1)[0] == RV.CKR_USER_NOT_LOGGED_IN
        assert {each["reason"] for each in gateway.daemon.events("view can't be reached")} == {"the token is not there"}
