"""A member fails: who serves then, and what clients see of it."""

import signal

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.app import READ, RSA, App
from tests.daemon.pool.members import Pools, signal_to
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Mechanism, Null, SlotInfo, stripped
from keyway.cryptoki.constants import CKF_TOKEN_PRESENT, CKM_SHA256, CKO_PUBLIC_KEY

FAILOVER, BALANCE, SINGLE, RESERVE, ONE = range(5)
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


class TestReturnValues:
    """What a member answers, by what that says of it (classes A to D of keyway.gateway.pool.signals)."""

    @pytest.mark.parametrize(
        "rv",
        [
            RV.CKR_DEVICE_ERROR,
            RV.CKR_DEVICE_REMOVED,
            RV.CKR_TOKEN_NOT_PRESENT,
            RV.CKR_TOKEN_NOT_RECOGNIZED,
            RV.CKR_GENERAL_ERROR,
            RV.CKR_CRYPTOKI_NOT_INITIALIZED,
            LOST,
        ],
        ids=hex,
    )
    @plain_and_fused
    def test_a_member_that_is_lost_is_probed_and_another_serves(self, pools, fused, rv):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does("C_Sign", f"rv {rv:#x}")
            failures = pools.status()["one"]["failures"]
            one.forget()
            assert app.signed(key, fused=fused) == RV.CKR_OK
            assert (one.calls("C_Sign"), two.calls("C_Sign")) == (1, 1)
            assert pools.status()["one"]["failures"] == failures + 1
            until(lambda: one.calls("C_Initialize"), "it is probed")
            until(pools.is_up, "it serves again")

    @pytest.mark.parametrize(
        "rv",
        [
            RV.CKR_FUNCTION_FAILED,
            RV.CKR_HOST_MEMORY,
            RV.CKR_DEVICE_MEMORY,
            RV.CKR_SESSION_COUNT,
            RV.CKR_TOKEN_RESOURCE_EXCEEDED,
            BUSY,
        ],
        ids=hex,
    )
    @plain_and_fused
    def test_a_busy_member_is_not_marked_and_another_serves(self, pools, fused, rv):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does("C_Sign", f"rv {rv:#x}")
            failures = pools.status()["one"]["failures"]
            assert app.signed(key, fused=fused) == RV.CKR_OK
            assert (one.calls("C_Sign"), two.calls("C_Sign")) == (1, 1)
            told = pools.status()["one"]
            assert (told["state"], told["failures"]) == ("up", failures)

    @pytest.mark.parametrize("rv", [RV.CKR_FUNCTION_FAILED, RV.CKR_DEVICE_ERROR], ids=hex)
    @pytest.mark.parametrize("slot", [FAILOVER, SINGLE], ids=["two", "one"])
    def test_a_module_that_leaves_a_failed_operation_active(self, pools, slot, rv):
        one, _ = pools.members
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            one.does_once("C_Sign", f"rv-stays {rv:#x}")
            assert app.signed(key) == RV.CKR_OK
            for _ in range(3):
                assert app.signed(key) == RV.CKR_OK

    def test_a_busy_pool_of_one_is_asked_once_more(self, pools):
        one, _ = pools.members
        with App(pools.daemon, SINGLE) as app:
            key = app.object("rsa")
            one.does_once("C_Sign", f"rv {RV.CKR_FUNCTION_FAILED:#x}")
            assert app.signed(key) == RV.CKR_OK
            one.does("C_Sign", f"rv {RV.CKR_HOST_MEMORY:#x}")
            one.forget()
            assert app.signed(key) == RV.CKR_HOST_MEMORY
            assert one.calls("C_Sign") == 2

    def test_a_session_that_one_member_has_no_room_for_is_opened_at_another(self, pools):
        one, two = pools.members
        one.does("C_OpenSession", f"rv {RV.CKR_SESSION_COUNT:#x}")
        with App(pools.daemon) as app:
            assert app.signed(app.object("rsa")) == RV.CKR_OK
            assert (one.calls("C_Sign"), two.calls("C_Sign")) == (0, 1)

    @pytest.mark.parametrize("rv", [RV.CKR_SESSION_HANDLE_INVALID, RV.CKR_SESSION_CLOSED], ids=hex)
    @plain_and_fused
    def test_a_lost_session_is_opened_again_at_the_same_member(self, pools, fused, rv):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does_once("C_Sign", f"rv {rv:#x}")
            one.does_once("C_CloseSession", f"rv {rv:#x}")
            one.forget()
            assert app.signed(key, fused=fused) == RV.CKR_OK
            assert (one.calls("C_Sign"), two.calls("C_Sign")) == (2, 0)
            assert one.calls("C_OpenSession") >= 1

    @plain_and_fused
    def test_a_lost_login_is_made_again_at_the_same_member(self, pools, fused):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does_once("C_SignInit", f"rv {RV.CKR_USER_NOT_LOGGED_IN:#x}")
            one.forget()
            assert app.signed(key, fused=fused) == RV.CKR_OK
            assert (one.calls("C_Login"), one.calls("C_Sign"), two.calls("C_Sign")) == (1, 1, 0)

    @pytest.mark.parametrize("rv", [RV.CKR_KEY_HANDLE_INVALID, RV.CKR_OBJECT_HANDLE_INVALID], ids=hex)
    @plain_and_fused
    def test_a_lost_handle_is_looked_for_again_at_the_same_member(self, pools, fused, rv):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does_once("C_SignInit", f"rv {rv:#x}")
            one.forget()
            assert app.signed(key, fused=fused) == RV.CKR_OK
            assert (one.calls("C_SignInit"), one.calls("C_Sign"), two.calls("C_Sign")) == (2, 1, 0)
            assert one.calls("C_FindObjectsInit") == 1

    @pytest.mark.parametrize(
        "rv",
        [RV.CKR_SESSION_HANDLE_INVALID, RV.CKR_USER_NOT_LOGGED_IN, RV.CKR_KEY_HANDLE_INVALID],
        ids=hex,
    )
    @plain_and_fused
    def test_what_can_not_be_repaired_is_tried_elsewhere(self, pools, fused, rv):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does("C_SignInit", f"rv {rv:#x}")
            one.forget()
            assert app.signed(key, fused=fused) == RV.CKR_OK
            assert (one.calls("C_SignInit"), one.calls("C_Sign"), two.calls("C_Sign")) == (2, 0, 1)

    @plain_and_fused
    def test_nobody_is_logged_in(self, pools, fused):
        one, two = pools.members
        with App(pools.daemon, login=False) as app:
            key = app.object("rsa", CKO_PUBLIC_KEY)
            one.does("C_SignInit", f"rv {RV.CKR_USER_NOT_LOGGED_IN:#x}")
            one.forget()
            assert app.signed(key, fused=fused) == RV.CKR_USER_NOT_LOGGED_IN
            assert (one.calls("C_SignInit"), one.calls("C_Login"), two.calls("C_SignInit")) == (1, 0, 0)

    @pytest.mark.parametrize("name", [1, 0x1_2345_6789, 1 << 63], ids=hex)
    @plain_and_fused
    def test_a_handle_that_names_nothing(self, pools, fused, name):
        with App(pools.daemon) as app, App(pools.daemon, ONE) as plain:
            for each in app, plain:
                # SoftHSM's way to say CKR_KEY_HANDLE_INVALID.
                assert each.signed(name, fused=fused) == RV.CKR_OBJECT_HANDLE_INVALID
                assert each.call("C_GetObjectSize", name, 0, target=1)[0] == RV.CKR_OBJECT_HANDLE_INVALID
            assert app.signed(app.object("rsa"), fused=fused) == RV.CKR_OK

    @plain_and_fused
    def test_what_is_the_callers_fault_is_returned_as_it_is(self, pools, fused):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            for rv in (
                RV.CKR_ARGUMENTS_BAD,
                RV.CKR_MECHANISM_INVALID,
                RV.CKR_MECHANISM_PARAM_INVALID,
                RV.CKR_ATTRIBUTE_VALUE_INVALID,
                RV.CKR_TEMPLATE_INCONSISTENT,
                RV.CKR_DATA_LEN_RANGE,
                RV.CKR_ENCRYPTED_DATA_INVALID,
                RV.CKR_SIGNATURE_INVALID,
                RV.CKR_KEY_FUNCTION_NOT_PERMITTED,
                RV.CKR_FUNCTION_NOT_SUPPORTED,
                RV.CKR_ACTION_PROHIBITED,
                RV.CKR_PIN_EXPIRED,
                RV.CKR_PIN_INCORRECT,
                UNKNOWN,
            ):
                one.does_once("C_SignInit", f"rv {rv:#x}")
                one.forget()
                assert app.signed(key, fused=fused) == rv
                assert (one.calls("C_SignInit"), two.calls("C_SignInit")) == (1, 0)
            assert app.signed(key, fused=fused) == RV.CKR_OK

    @plain_and_fused
    def test_a_general_error_of_all_members_is_told(self, pools, fused):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            for each in pools.members:
                each.does("C_Sign", f"rv {RV.CKR_GENERAL_ERROR:#x}")
            assert app.signed(key, fused=fused) == RV.CKR_GENERAL_ERROR
            assert one.calls("C_Sign") == 1
            assert two.calls("C_Sign") >= 1
            for each in pools.members:
                each.behaves()
            assert app.signed(key, fused=fused) == RV.CKR_OK

    def test_an_error_of_two_members_is_that_of_the_last(self, pools):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            one.does("C_Sign", f"rv {RV.CKR_DEVICE_ERROR:#x}")
            two.does("C_Sign", f"rv {RV.CKR_DATA_LEN_RANGE:#x}")
            assert app.signed(key) == RV.CKR_DATA_LEN_RANGE


class TestAllMembersAreGone:
    def test_the_session_works_again_when_they_are_back(self, pool):
        pools = pool(deadline=20)
        with App(pools.daemon) as app:
            key = app.object("rsa")
            signature = app.sign(key)
            app.open(2)
            app.good("C_SignInit", RSA, key, target=2)
            app.good("C_SignUpdate", b"first ", target=2)
            for each in pools.members:
                each.goes()
            # Who has an operation going is told another thing than who starts one.
            assert app.call("C_SignUpdate", b"second", target=2)[0] == RV.CKR_DEVICE_REMOVED
            until(lambda: {each["state"] for each in pools.status().values()} == {"down"}, "both are down")
            assert app.signed(key) == RV.CKR_TOKEN_NOT_PRESENT
            assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_TOKEN_NOT_PRESENT
            assert app.call("C_OpenSession", READ, 3, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
            assert app.call("C_GetTokenInfo", True, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
            for each in pools.members:
                each.comes_back()
            until(pools.is_up, "both are up")
            assert app.sign(key) == signature
            assert app.sign(key, session=2) == signature
            app.open(3)
            assert app.sign(key, session=3) == signature

    def test_who_comes_meanwhile_sees_an_empty_slot(self, pool):
        pools = pool("one")
        (one,) = pools.members
        one.goes()
        with App(pools.daemon, session=False) as first:
            assert first.call("C_OpenSession", READ, 1, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
            until(lambda: pools.status()["one"]["state"] == "down", "it is down")
            with App(pools.daemon, session=False) as app:
                assert 0 not in app.slots(present=True)
                assert 0 in app.slots(present=False)
                (info,) = app.good("C_GetSlotInfo", True, target=0)
                assert isinstance(info, SlotInfo)
                assert not info.flags & CKF_TOKEN_PRESENT
                assert stripped(info.slot_description) == b"vault"
                assert app.call("C_GetTokenInfo", True, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
                assert app.call("C_OpenSession", READ, 1, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
                one.comes_back()
                until(pools.is_up, "it is up")
                app.open()
                first.open()


class TestStandby:
    def test_it_serves_only_when_no_other_can(self, pools):
        one, two = pools.members
        with App(pools.daemon, RESERVE) as app:
            key = app.object("rsa")
            signature = app.sign(key)
            assert (one.calls("C_Sign"), two.calls("C_Sign")) == (0, 1)
            two.goes()
            assert app.sign(key) == signature
            until(lambda: pools.status("reserve")["two"]["state"] == "down", "it is down")
            assert app.sign(key) == signature
            assert one.calls("C_Sign") == 2
            two.comes_back()
            until(pools.is_up, "it is back")
            two.forget()

            def is_back():
                assert app.sign(key) == signature
                return two.calls("C_Sign")

            until(is_back, "it serves again")


class TestStart:
    def test_a_member_that_does_not_start_is_used_when_it_does(self, pool, member):
        one = member("one")
        one.does("C_Initialize", f"rv {RV.CKR_DEVICE_ERROR:#x}")
        pools = pool(one, "two", deadline=20)
        two = pools.members[1]
        until(lambda: pools.status()["one"]["state"] == "down", "it is down")
        with App(pools.daemon) as app:
            key = app.object("rsa")
            signature = app.sign(key)
            assert two.calls("C_Sign") == 1
            one.comes_back()
            until(pools.is_up, "it is up")

            def is_used():
                assert app.sign(key) == signature
                return one.calls("C_Sign")

            until(is_used, "it is used")

    def test_a_member_whose_module_is_not_there(self, start, member, home):
        two = member("two")
        gone = f'[backend.gone]\nmodule = "{home}/gone.so"\n'
        pools = Pools(start(gone + two.section + section("gone", "two", deadline=20)), two)
        until(lambda: pools.status()["gone"]["state"] == "down", "it is down")
        assert "gone.so" in pools.status()["gone"]["error"]
        with App(pools.daemon) as app:
            assert app.signed(app.object("rsa")) == RV.CKR_OK
