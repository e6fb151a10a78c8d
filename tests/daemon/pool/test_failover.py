"""A member fails: who serves then, and what clients see of it."""

import signal

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.app import RSA, App
from tests.daemon.pool.members import signal_to
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Mechanism, Null
from keyway.cryptoki.constants import CKM_SHA256

FAILOVER, BALANCE, SINGLE, RESERVE = range(4)
POOLS = [
    section("one", "two", deadline=20),
    section("one", "two", name="spread", policy='"balance"', deadline=20),
    section("one", name="single", deadline=20),
    section("pkcs11:token=vault?backend=one&standby=yes", "two", name="reserve", deadline=20),
]
LOST, BUSY, UNKNOWN = 0x8000_0383, 0x8000_0384, 0x8000_0385
ERROR_CLASSES = {"0x80000383": "lost", "0x80000384": "busy", "CKR_PIN_INCORRECT": "lost"}
SHA = Mechanism(CKM_SHA256, Null())
both_policies = pytest.mark.parametrize("slot", [FAILOVER, BALANCE], ids=["failover", "balance"])
plain_and_fused = pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])


class TestKilledHost:
    @both_policies
    def test_between_calls(self, pools, slot):
        one, two = pools.members
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            signature = app.sign(key)
            for killed in ([one], [two], [one, two]):
                for each in killed:
                    each.kill()
                assert app.sign(key) == signature

    @pytest.mark.parametrize("words", ["exit", "exit-after"])
    @plain_and_fused
    @both_policies
    def test_in_a_call(self, pools, slot, fused, words):
        one, two = pools.members
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            one.does("C_Sign", words)
            signed = 0

            def is_tried():
                nonlocal signed
                assert app.signed(key, fused=fused) == RV.CKR_OK
                signed += 1
                return one.calls("C_Sign")

            until(is_tried, "the member that ends is asked")
            assert two.calls("C_Sign") == signed

    @both_policies
    def test_in_the_middle_of_several_parts(self, pools, slot):
        one, two = pools.members
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            app.good("C_SignInit", RSA, key, target=1)
            app.good("C_SignUpdate", b"first ", target=1)
            serving = max(one, two, key=lambda each: each.calls("C_SignUpdate"))
            serving.kill()
            app.good("C_SignUpdate", b"second", target=1)
            assert app.output("C_SignFinal") == app.sign(key, b"first second")

    def test_of_a_pool_of_one_between_calls(self, pools):
        one, _ = pools.members
        with App(pools.daemon, SINGLE) as app:
            key = app.object("rsa")
            signature = app.sign(key)
            one.kill()
            assert app.sign(key) == signature

    @pytest.mark.parametrize("words", ["exit", "exit-after"])
    def test_of_a_pool_of_one_in_a_call(self, pools, words):
        one, _ = pools.members
        with App(pools.daemon, SINGLE) as app:
            key = app.object("rsa")
            one.does_once("C_Sign", words)
            assert app.signed(key) == RV.CKR_OK
            assert app.signed(key) == RV.CKR_OK

    def test_of_a_pool_of_one_in_the_middle_of_several_parts(self, pools):
        one, _ = pools.members
        with App(pools.daemon, SINGLE) as app:
            app.good("C_DigestInit", SHA, target=1)
            app.good("C_DigestUpdate", b"first ", target=1)
            one.kill()
            app.good("C_DigestUpdate", b"second", target=1)
            digest = app.output("C_DigestFinal")
            app.good("C_DigestInit", SHA, target=1)
            assert app.output("C_Digest", b"first second") == digest

    def test_is_logged_with_what_was_under_way(self, pools):
        one, _ = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does_once("C_Sign", "exit")
            assert app.signed(key) == RV.CKR_OK
            host = one.process("C_Sign")

            def entries():
                return [entry for entry in pools.daemon.events("module host ended") if entry["host"] == host]

            until(entries, "the end is in the log")
            (entry,) = entries()
            assert (entry["backend"], entry["member"], entry["token"], entry["calls"]) == (
                "one",
                "one",
                "vault",
                "C_Sign",
            )
            assert "exited with status 1" in entry["how"]
            assert pools.daemon.status()["pools"]["vault"]["failovers"] >= 1

    def test_of_one_client_leaves_others_alone(self, pools):
        one, _ = pools.members
        with App(pools.daemon, SINGLE) as app, App(pools.daemon, SINGLE) as other:
            key = other.object("rsa")
            app.object("rsa")
            others = one.process("C_FindObjects")
            assert other.signed(key) == RV.CKR_OK
            host = one.process("C_Sign")
            assert host != others
            signal_to(others, signal.SIGKILL)
            assert app.signed(key) == RV.CKR_OK
            assert other.signed(key) == RV.CKR_OK
            assert one.process("C_Sign") == host
