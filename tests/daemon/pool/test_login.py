"""Logins: given once by the client, made at each member when it is needed, and tried nowhere twice."""

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.app import READ, RSA, WRITE, App
from tests.daemon.pool.tokens import LABEL, PIN, SO_PIN
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Attribute, Null, SessionInfo
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_LABEL,
    CKF_PROTECTED_AUTHENTICATION_PATH,
    CKF_USER_PIN_FINAL_TRY,
    CKF_USER_PIN_LOCKED,
    CKO_PRIVATE_KEY,
    CKS_RO_PUBLIC_SESSION,
    CKS_RO_USER_FUNCTIONS,
    CKS_RW_SO_FUNCTIONS,
    CKU_SO,
    CKU_USER,
)

FAILOVER, BALANCE, FORGETFUL, WRITES, ONE, TWO = range(6)
POOLS = [
    section("one", "two", deadline=20),
    section("one", "two", name="spread", policy='"balance"', deadline=20),
    section("one", "two", name="forgetful", remember_pin="false", deadline=20),
    section("one", "two", name="writes", writes='"first"', deadline=20),
]
USER = f"C_Login {CKU_USER}"
PRIVATE = (Attribute(CKA_CLASS, CKO_PRIVATE_KEY), Attribute(CKA_LABEL, b"rsa"))
both_policies = pytest.mark.parametrize("slot", [FAILOVER, BALANCE], ids=["failover", "balance"])


def state(app: App, *, session: int = 1) -> int:
    (info,) = app.good("C_GetSessionInfo", True, target=session)
    assert isinstance(info, SessionInfo)
    return info.state


def logins(pools, function: str = USER) -> tuple[int, ...]:
    """How often somebody logged in at each member."""
    return tuple(each.calls(function) for each in pools.members)


def until_ready(pools) -> None:
    """Wait until a login has been made at all members."""
    until(lambda: all(logins(pools)), "all members are logged in")


class TestLogin:
    @both_policies
    def test_it_is_made_once_at_each_member(self, pools, slot):
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            app.open(2)
            until_ready(pools)
            for session in 1, 2, 1, 2:
                assert app.sign(key, session=session)
            assert logins(pools) == (1, 1)
            assert state(app) == state(app, session=2) == CKS_RO_USER_FUNCTIONS
            assert app.call("C_Login", CKU_USER, PIN.encode(), target=2)[0] == RV.CKR_USER_ALREADY_LOGGED_IN

    def test_it_is_made_again_for_a_new_host(self, pools):
        one, two = pools.members
        with App(pools.daemon) as app:
            key = app.object("rsa")
            until_ready(pools)
            two.kill()
            one.kill()
            assert app.sign(key)
            assert state(app) == CKS_RO_USER_FUNCTIONS
            assert 3 <= sum(logins(pools)) <= 4

    def test_contexts_have_logins_of_their_own(self, pools):
        with App(pools.daemon) as app, App(pools.daemon, login=False) as other:
            assert app.find(*PRIVATE)
            assert other.find(*PRIVATE) == ()
            assert state(other) == CKS_RO_PUBLIC_SESSION
            assert other.call("C_Login", CKU_USER, b"wrong pin", target=1)[0] == RV.CKR_PIN_INCORRECT
            other.login()
            other.good("C_Logout", target=1)
            assert app.signed(app.object("rsa")) == RV.CKR_OK

    def test_user_types(self, pools):
        one, two = pools.members
        with App(pools.daemon, login=False) as app:
            assert app.call("C_Login", 77, PIN.encode(), target=1)[0] == RV.CKR_USER_TYPE_INVALID
            assert app.call("C_Login", CKU_USER, Null(), target=1)[0] == RV.CKR_ARGUMENTS_BAD
            assert (one.calls("C_Login"), two.calls("C_Login")) == (2, 0)

    def test_the_security_officer(self, pools):
        one, _ = pools.members
        with App(pools.daemon, WRITES, login=False, flags=WRITE) as app:
            app.login(SO_PIN, CKU_SO)
            assert state(app) == CKS_RW_SO_FUNCTIONS
            one.kill()
            assert state(app) == CKS_RW_SO_FUNCTIONS
            assert app.call("C_Login", CKU_USER, PIN.encode(), target=1)[0] == RV.CKR_USER_ANOTHER_ALREADY_LOGGED_IN
            app.good("C_Logout", target=1)
            app.login()
            assert app.signed(app.object("rsa")) == RV.CKR_OK

    def test_by_name(self, pool, member):
        pools = pool(member("one", version="3.0"), member("two", version="3.0"), deadline=20)
        with App(pools.daemon, login=False) as app:
            assert app.call("C_LoginUser", CKU_USER, PIN.encode(), b"x", target=1)[0] == RV.CKR_ARGUMENTS_BAD
            app.good("C_LoginUser", CKU_USER, PIN.encode(), str(CKU_USER).encode(), target=1)
            key = app.object("rsa")
            pools.members[0].goes()
            assert app.signed(key) == RV.CKR_OK
            assert pools.members[1].calls("C_LoginUser") == 1


class TestLogout:
    @both_policies
    def test_it_is_made_everywhere(self, pools, slot):
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            until_ready(pools)
            app.good("C_Logout", target=1)
            assert [each.calls("C_Logout") for each in pools.members] == [1, 1]
            assert app.find(*PRIVATE) == ()
            assert app.signed(key) != RV.CKR_OK
            for each in pools.members:
                each.kill()
            assert state(app) == CKS_RO_PUBLIC_SESSION
            assert app.find(*PRIVATE) == ()
            assert logins(pools) == (1, 1)
            app.login()
            assert app.sign(key)

    def test_of_nobody(self, pools):
        with App(pools.daemon, login=False) as app, App(pools.daemon, ONE, login=False) as plain:
            assert app.call("C_Logout", target=1) == plain.call("C_Logout", target=1)

    def test_a_host_that_dies_in_it(self, pools):
        one, _ = pools.members
        with App(pools.daemon) as app:
            one.does_once("C_Logout", "exit")
            app.good("C_Logout", target=1)
            assert app.find(*PRIVATE) == ()
            app.login()
            assert app.find(*PRIVATE)

    @pytest.mark.parametrize("name", ["C_CloseSession", "C_CloseAllSessions"])
    def test_with_the_last_session(self, pools, name):
        with App(pools.daemon) as app:
            until_ready(pools)
            app.open(2)
            app.good("C_CloseSession", target=1)
            assert app.find(*PRIVATE, session=2)
            app.good(name, target=2 if name == "C_CloseSession" else app.slot)
            app.open(3)
            assert state(app, session=3) == CKS_RO_PUBLIC_SESSION
            assert app.find(*PRIVATE, session=3) == ()
            app.login(session=3)
            assert app.find(*PRIVATE, session=3)
            for each in pools.members:
                each.kill()
            assert app.sign(app.object("rsa", session=3), session=3)


class TestDifferentPins:
    @pytest.fixture
    def differing(self, pool):
        """A pool whose second member has another PIN."""
        pools = pool(deadline=20)
        with App(pools.daemon, 2, flags=WRITE) as plain:
            plain.good("C_SetPIN", PIN.encode(), b"another pin", target=1)
        pools.settle()
        return pools

    def test_a_member_that_refuses_the_pin_is_asked_once(self, differing):
        one, two = differing.members
        with App(differing.daemon) as app:
            key = app.object("rsa")
            signature = app.sign(key)
            until(lambda: differing.daemon.events("member refuses the PIN"), "it is in the log")
            one.kill()
            assert app.sign(key) == signature
            # Nor by others with the same PIN, or later.
            with App(differing.daemon) as other:
                assert other.sign(other.object("rsa")) == signature
            app.good("C_Logout", target=1)
            app.login()
            assert app.sign(key) == signature
            assert (two.calls(USER), two.calls("C_Sign")) == (1, 0)
            one.goes()
            assert app.signed(key) == RV.CKR_TOKEN_NOT_PRESENT
            assert (two.calls(USER), two.calls("C_Sign")) == (1, 0)
        (entry,) = differing.daemon.events("member refuses the PIN")
        assert (entry["token"], entry["member"], entry["rv"]) == ("vault", "two", "CKR_PIN_INCORRECT")

    def test_its_own_pin_is_tried_there(self, differing):
        one, two = differing.members
        with App(differing.daemon, login=False) as app:
            # The first member decides.
            assert app.call("C_Login", CKU_USER, b"another pin", target=1)[0] == RV.CKR_PIN_INCORRECT
            assert (one.calls(USER), two.calls(USER)) == (1, 0)
            app.login()
            assert app.signed(app.object("rsa")) == RV.CKR_OK

    def test_the_member_that_decides_refuses(self, differing):
        one, two = differing.members
        with App(differing.daemon, 1, flags=WRITE) as plain:
            plain.good("C_SetPIN", PIN.encode(), b"a third pin", target=1)
        one.forget()
        with App(differing.daemon, login=False) as app:
            assert app.call("C_Login", CKU_USER, PIN.encode(), target=1)[0] == RV.CKR_PIN_INCORRECT
            assert (one.calls(USER), two.calls(USER)) == (1, 0)


class TestPinThatIsNotKept:
    def test_all_members_are_logged_in_at_once(self, pools):
        one, two = pools.members
        with App(pools.daemon, FORGETFUL) as app:
            assert logins(pools) == (1, 1)
            key = app.object("rsa")
            signature = app.sign(key)
            one.kill()
            assert app.sign(key) == signature
            assert logins(pools) == (1, 1)
            assert two.calls("C_Sign") == 1

    def test_a_client_that_loses_all_of_them_logs_in_anew(self, pools):
        with App(pools.daemon, FORGETFUL) as app:
            key = app.object("rsa")
            for each in pools.members:
                each.kill()
            assert app.signed(key) == RV.CKR_USER_NOT_LOGGED_IN
            assert state(app) == CKS_RO_PUBLIC_SESSION
            app.login()
            assert app.signed(key) == RV.CKR_OK
            assert logins(pools) == (2, 2)


class TestOwnPin:
    @pytest.fixture
    def file(self, home):
        file = home / "pin"
        file.touch(mode=0o600)
        file.write_text(f"{PIN}\n")
        return file

    def test_clients_need_none(self, pool, file):
        pools = pool(deadline=20, pin_file=f'"{file}"')
        one, two = pools.members
        with App(pools.daemon, login=False) as app:
            assert app.info().flags & CKF_PROTECTED_AUTHENTICATION_PATH
            app.good("C_Login", CKU_USER, Null(), target=1)
            key = app.object("rsa")
            signature = app.sign(key)
            one.goes()
            assert app.sign(key) == signature
            assert two.calls(USER) == 1
        # Who has one may use it.
        with App(pools.daemon) as app:
            assert app.sign(app.object("rsa")) == signature
        with App(pools.daemon, login=False) as app:
            assert app.call("C_Login", CKU_USER, b"wrong pin", target=1)[0] == RV.CKR_PIN_INCORRECT
            # It is the user's.
            assert app.call("C_Login", CKU_SO, Null(), target=1)[0] != RV.CKR_OK

    def test_one_that_is_wrong_parks_members_after_one_try(self, pool, file):
        file.write_text("wrong pin")
        pools = pool(deadline=20, pin_file=f'"{file}"')
        one, two = pools.members
        for count in (1, 0), (1, 1):
            with App(pools.daemon, login=False) as app:
                assert app.call("C_Login", CKU_USER, Null(), target=1)[0] == RV.CKR_PIN_INCORRECT
            assert (one.calls(USER), two.calls(USER)) == count
        with App(pools.daemon, session=False) as app:
            assert app.call("C_OpenSession", READ, 1, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
        with App(pools.daemon, 1) as plain:
            assert not plain.info().flags & (CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED)
        assert pools.daemon.events("member parked")
        assert "refused" in pools.status()["one"]["parked"]
        assert "wrong pin" not in pools.daemon.log()

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
    def test_a_file_that_others_can_read_is_not_used(self, pool, file, mode):
        file.chmod(mode)
        self.check_not_used(pool(deadline=20, pin_file=f'"{file}"'))

    def test_a_file_that_is_not_there(self, pool, file):
        file.unlink()
        self.check_not_used(pool(deadline=20, pin_file=f'"{file}"'))

    def test_a_folder_in_its_place(self, pool, file):
        file.unlink()
        file.mkdir(mode=0o700)
        self.check_not_used(pool(deadline=20, pin_file=f'"{file}"'))

    def check_not_used(self, pools):
        with App(pools.daemon, login=False) as app:
            assert app.call("C_Login", CKU_USER, Null(), target=1)[0] not in (RV.CKR_OK, RV.CKR_PIN_INCORRECT)
            (entry,) = pools.daemon.events("pin_file can't be used")
            assert entry["token"] == LABEL
            app.login()
            app.good("C_SignInit", RSA, app.object("rsa"), target=1)
