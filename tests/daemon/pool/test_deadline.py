"""A member answers late, or not at all: how long a client waits, and for whom."""

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.app import RSA, WRITE, App
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Attribute, Mechanism, Null, Room
from keyway.cryptoki.constants import CKA_MODULUS_BITS, CKA_TOKEN, CKM_RSA_PKCS_KEY_PAIR_GEN

FAILOVER, BALANCE, SINGLE, WRITES = range(4)
POOLS = [
    section("one", "two", deadline=3),
    section("one", "two", name="spread", policy='"balance"', deadline=3),
    section("one", name="single", deadline=3),
    section("one", "two", name="writes", writes='"first"', deadline=3),
    "[limits]\nending = 2\n",
]
HAS_PLAIN = False
GENERATION = Mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN, Null())
GONE = (RV.CKR_DEVICE_REMOVED, RV.CKR_TOKEN_NOT_PRESENT)


def generate(app: App, *, on_token: bool) -> int:
    """Start a key generation and return the request's id."""
    kind = Attribute(CKA_TOKEN, bytes([on_token]))
    public = (kind, Attribute(CKA_MODULUS_BITS, 1024))
    return app.send_call("C_GenerateKeyPair", GENERATION, public, (kind,), 0, 0, target=1)


def silent(pools, host: int):
    """What the log says of a host that was given up."""
    return [entry for entry in pools.daemon.events("member silent") if entry["host"] == host]


class TestStoppedHost:
    @pytest.mark.parametrize("slot", [FAILOVER, BALANCE], ids=["failover", "balance"])
    def test_another_member_takes_over(self, pools, slot):
        one, two = pools.members
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            signature = app.sign(key)
            until(lambda: two.calls("C_Login"), "the other member is ready")
            one.freeze()
            host = one.process("C_Login")

            def is_given_up():
                assert app.sign(key) == signature
                return silent(pools, host)

            until(is_given_up, "the host is given up")
            until(pools.is_up, "the member serves again")
            assert app.sign(key) == signature

    def test_a_pool_of_one_gives_up_in_time(self, pools):
        one, _ = pools.members
        with App(pools.daemon, SINGLE) as app:
            key = app.object("rsa")
            one.freeze()
            assert app.signed(key) in GONE
            until(pools.is_up, "it serves again")
            assert app.signed(key) == RV.CKR_OK

    def test_of_a_long_generation_is_noticed(self, pools):
        one, two = pools.members
        with App(pools.daemon, WRITES, flags=WRITE) as app:
            one.does("C_GenerateKeyPair", "hang")
            generate(app, on_token=True)
            until(lambda: one.calls("C_GenerateKeyPair"), "the member is at it")
            one.freeze()
            # Nobody knows whether the key is there.
            assert app.receive().header.rv == RV.CKR_DEVICE_ERROR
            assert (one.calls("C_GenerateKeyPair"), two.calls("C_GenerateKeyPair")) == (1, 0)

    def test_of_a_long_generation_for_the_session_is_made_good_elsewhere(self, pools):
        one, two = pools.members
        with App(pools.daemon, WRITES, flags=WRITE) as app:
            one.does("C_GenerateKeyPair", "hang")
            generate(app, on_token=False)
            until(lambda: one.calls("C_GenerateKeyPair"), "the member is at it")
            one.freeze()
            assert app.receive().header.rv == RV.CKR_OK
            assert (one.calls("C_GenerateKeyPair"), two.calls("C_GenerateKeyPair")) == (1, 1)

    def test_does_not_keep_the_daemon_from_ending(self, pool):
        pools = pool("one", deadline=1, plain=False)
        until(pools.is_quiet, "nothing goes on")
        with App(pools.daemon) as app:
            key = app.object("rsa")
            pools.members[0].freeze()
            assert app.signed(key) in GONE
        # The rest is for `starting` to see.


class TestHungCall:
    @pytest.mark.parametrize("slot", [FAILOVER, BALANCE], ids=["failover", "balance"])
    def test_another_member_takes_over_and_the_first_is_used_afterwards(self, pools, slot):
        one, two = pools.members
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            signature = app.sign(key)
            until(lambda: two.calls("C_Login"), "the other member is ready")
            one.does_once("C_Sign", "hang")

            def is_hanging():
                assert app.sign(key) == signature
                return one.was_told("C_Sign")

            until(is_hanging, "the call hangs")
            host = one.process("C_Sign")
            # Another session has its own way to the member.
            app.open(2)
            assert app.sign(key, session=2) == signature
            one.behaves()
            one.forget()

            def is_used():
                assert app.sign(key) == signature
                return one.calls("C_Sign")

            until(is_used, "the member is used again")
            assert one.process("C_Sign") == host or silent(pools, host)

    def test_a_pool_of_one_gives_up_in_time(self, pools):
        one, _ = pools.members
        with App(pools.daemon, SINGLE) as app:
            key = app.object("rsa")
            one.does_once("C_Sign", "hang")
            assert app.signed(key) in GONE
            until(pools.is_up, "it serves again")
            assert app.signed(key) == RV.CKR_OK

    def test_an_operation_that_nobody_goes_on_with_is_over(self, pools):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            app.good("C_SignInit", RSA, key, target=1)
            app.good("C_SignUpdate", b"data", target=1)
            one.does("C_SignUpdate", "hang")
            two.does("C_SignInit", f"rv {RV.CKR_KEY_FUNCTION_NOT_PERMITTED:#x}")
            assert app.call("C_SignUpdate", b"data", target=1)[0] == RV.CKR_DEVICE_REMOVED
            two.behaves()
            assert app.signed(key) == RV.CKR_OK

    def test_a_host_that_goes_on_hanging_is_given_up_and_killed(self, pools):
        one, _ = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does_once("C_Sign", "hang")
            assert app.signed(key) == RV.CKR_OK
            host = one.process("C_Sign")
            until(lambda: silent(pools, host), "the host is given up")
            until(lambda: host not in one.hosts(), "the host is killed")
            assert app.signed(key) == RV.CKR_OK

    @pytest.mark.parametrize("function", ["C_Initialize", "C_OpenSession", "C_FindObjectsInit", "C_GetAttributeValue"])
    def test_on_the_way_to_a_member(self, pools, function):
        one, two = pools.members
        one.does(function, "hang")
        with App(pools.daemon) as app:
            assert app.signed(app.object("rsa")) == RV.CKR_OK
            assert two.calls("C_Sign") == 1
            one.behaves()


class TestLongCall:
    def test_it_may_take_longer_than_others(self, pools):
        one, two = pools.members
        with App(pools.daemon, WRITES, flags=WRITE) as app, App(pools.daemon, SINGLE) as other:
            one.does("C_GenerateKeyPair", "hang")
            generate(app, on_token=False)
            until(lambda: one.calls("C_GenerateKeyPair"), "the member is at it")
            # When this is given up, the deadline of others is over.
            key = other.object("rsa")
            one.does_once("C_Sign", "hang")
            assert other.signed(key) in GONE
            host = one.process("C_Sign")
            until(lambda: silent(pools, host), "the deadline is over")
            one.behaves("C_GenerateKeyPair")
            assert app.receive().header.rv == RV.CKR_OK
            assert (one.calls("C_GenerateKeyPair"), two.calls("C_GenerateKeyPair")) == (1, 0)
            assert app.call("C_Sign", b"", Room(1, True), target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            app.good("C_SignInit", RSA, app.object("rsa"), target=1)
