"""Operations of several parts: they go on at another member, as far as what they were told is kept."""

from hashlib import sha256

import pytest
from tests.daemon.pool.app import RSA, App
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Mechanism, Null, Output, Room
from keyway.cryptoki.constants import (
    CKF_DIGEST,
    CKF_FIND_OBJECTS,
    CKF_SIGN,
    CKM_AES_CBC_PAD,
    CKM_SHA256,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)

FAILOVER, BALANCE, SINGLE, SMALL, NONE = range(5)
POOLS = [
    section("one", "two", deadline=20),
    section("one", "two", name="spread", policy='"balance"', deadline=20),
    section("one", name="single", deadline=20),
    section("one", "two", name="small", deadline=20, journal=4096),
    section("one", "two", name="none", deadline=20, journal=0),
]
SHA = Mechanism(CKM_SHA256, Null())
AES = Mechanism(CKM_AES_CBC_PAD, bytes(range(16)))
PARTS = [b"a first part, ", b"", b"a second one of more than a block, ", b"and a third"]
WHOLE = b"".join(PARTS)
pools_of_any_kind = pytest.mark.parametrize("slot", [FAILOVER, BALANCE, SINGLE], ids=["failover", "balance", "one"])


class Interrupted:
    """An application at a pool whose serving member is killed before the call with a number."""

    def __init__(self, app: App, pools, at: int) -> None:
        self.app = app
        self._members = pools.members
        self._left = at

    def good(self, name: str, *values):
        """Make a call that succeeds and return its values."""
        if not self._left:
            for each in self._members:
                each.kill()
        self._left -= 1
        return self.app.good(name, *values, target=1)

    def output(self, name: str, *values) -> bytes:
        """Make a call that gives bytes, perhaps none."""
        (output,) = self.good(name, *values, Room(4096, True))
        assert isinstance(output, Output)
        return output.data or b""


def digest(each: Interrupted) -> bytes:
    each.good("C_DigestInit", SHA)
    for part in PARTS:
        each.good("C_DigestUpdate", part)
    return each.output("C_DigestFinal")


def sign(each: Interrupted) -> bytes:
    each.good("C_SignInit", RSA, each.app.object("rsa"))
    for part in PARTS:
        each.good("C_SignUpdate", part)
    (length,) = each.good("C_SignFinal", Room(0, False))
    assert length == Output(256, None)
    return each.output("C_SignFinal")


def verify(each: Interrupted) -> bytes:
    signature = each.app.sign(each.app.object("rsa"), WHOLE)
    each.good("C_VerifyInit", RSA, each.app.object("rsa", CKO_PUBLIC_KEY))
    for part in PARTS:
        each.good("C_VerifyUpdate", part)
    each.good("C_VerifyFinal", signature)
    return signature


def encrypt(each: Interrupted) -> bytes:
    each.good("C_EncryptInit", AES, each.app.object("aes", CKO_SECRET_KEY))
    outputs = [each.output("C_EncryptUpdate", part) for part in PARTS if part]
    return b"".join([*outputs, each.output("C_EncryptFinal")])


def decrypt(each: Interrupted) -> bytes:
    key = each.app.object("aes", CKO_SECRET_KEY)
    each.app.good("C_EncryptInit", AES, key, target=1)
    secret = each.app.output("C_Encrypt", WHOLE)
    each.good("C_DecryptInit", AES, key)
    outputs = [each.output("C_DecryptUpdate", secret[at : at + 20]) for at in range(0, len(secret), 20)]
    outputs.append(each.output("C_DecryptFinal"))
    return b"".join(outputs)


@pytest.mark.parametrize("operation", [digest, sign, verify, encrypt, decrypt], ids=lambda each: each.__name__)
@pools_of_any_kind
def test_killed_before_each_call(pools, slot, operation):
    with App(pools.daemon, slot) as app:
        result = operation(Interrupted(app, pools, -1))
        for at in range(1, 6):
            assert operation(Interrupted(app, pools, at)) == result
        if operation is digest:
            assert result == sha256(WHOLE).digest()


@pytest.mark.parametrize("words", ["exit", "exit-after"])
@pytest.mark.parametrize("function", ["C_SignInit", "C_SignUpdate", "C_SignFinal"])
def test_killed_in_a_call(pools, function, words):
    one, two = pools.members
    with App(pools.daemon) as app:
        one.does_once(function, words)
        assert sign(Interrupted(app, pools, -1)) == app.sign(app.object("rsa"), WHOLE)
        assert one.was_told(function)
        assert two.calls("C_SignFinal")


class TestLostOperation:
    @pytest.mark.parametrize(("slot", "size"), [(SMALL, 5000), (NONE, 1)], ids=["small", "none"])
    def test_what_is_not_kept_can_not_be_made_again(self, pools, slot, size):
        one, _ = pools.members
        with App(pools.daemon, slot) as app:
            app.good("C_DigestInit", SHA, target=1)
            app.good("C_DigestUpdate", bytes(size), target=1)
            one.kill()
            assert app.call("C_DigestUpdate", b"more", target=1)[0] == RV.CKR_DEVICE_REMOVED
            # The operation is over, the session is not.
            assert app.call("C_DigestFinal", Room(32, True), target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            assert app.sign(app.object("rsa"))

    def test_what_is_not_kept_is_done_all_the_same(self, pools):
        with App(pools.daemon, SMALL) as app:
            app.good("C_DigestInit", SHA, target=1)
            for _ in range(3):
                app.good("C_DigestUpdate", bytes(3000), target=1)
            assert app.output("C_DigestFinal") == sha256(bytes(9000)).digest()
            # What comes after it is kept again.
            assert digest(Interrupted(app, pools, 3)) == sha256(WHOLE).digest()

    def test_one_session_leaves_others_alone(self, pools):
        one, _ = pools.members
        with App(pools.daemon, SMALL) as app:
            app.open(2)
            for session, size in (1, 5000), (2, 5):
                app.good("C_DigestInit", SHA, target=session)
                app.good("C_DigestUpdate", bytes(size), target=session)
            one.kill()
            assert app.call("C_DigestFinal", Room(32, True), target=1)[0] == RV.CKR_DEVICE_REMOVED
            assert app.output("C_DigestFinal", session=2) == sha256(bytes(5)).digest()

    def test_one_that_the_other_member_does_not_do(self, pools):
        one, two = pools.members
        with App(pools.daemon) as app:
            app.good("C_SignInit", RSA, app.object("rsa"), target=1)
            app.good("C_SignUpdate", b"data", target=1)
            two.does("C_SignInit", f"rv {RV.CKR_KEY_FUNCTION_NOT_PERMITTED:#x}")
            one.goes()
            assert app.call("C_SignUpdate", b"data", target=1)[0] == RV.CKR_DEVICE_REMOVED
            assert app.call("C_SignFinal", Room(256, True), target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED


class TestState:
    """C_GetOperationState and C_SetOperationState, which passthrough.c does for SoftHSM."""

    def test_it_is_that_of_the_member_where_the_operation_is(self, pools):
        one, two = pools.members
        with App(pools.daemon) as app:
            app.good("C_DigestInit", SHA, target=1)
            app.good("C_DigestUpdate", b"data", target=1)
            assert app.output("C_GetOperationState") == str(one.folder).encode()
            one.kill()
            assert app.output("C_GetOperationState") == str(two.folder).encode()
            assert app.output("C_DigestFinal") == sha256(b"data").digest()

    def test_an_operation_that_was_set_is_made_at_no_other_member(self, pools):
        one, two = pools.members
        with App(pools.daemon) as app:
            app.open(2)
            app.good("C_DigestInit", SHA, target=1)
            state = app.output("C_GetOperationState")
            app.good("C_SetOperationState", state, 0, 0, target=2)
            app.good("C_DigestUpdate", b"data", target=2)
            assert app.output("C_DigestFinal", session=2) == sha256(b"data").digest()
            app.good("C_SetOperationState", state, 0, 0, target=2)
            app.good("C_DigestUpdate", b"data", target=2)
            one.kill()
            assert app.call("C_DigestUpdate", b"data", target=2)[0] == RV.CKR_DEVICE_REMOVED
            assert two.calls("C_SetOperationState") == 0
            assert app.call("C_DigestFinal", Room(32, True), target=2)[0] == RV.CKR_OPERATION_NOT_INITIALIZED

    def test_of_another_member(self, pools):
        _, two = pools.members
        with App(pools.daemon) as app:
            rv, _ = app.call("C_SetOperationState", str(two.folder).encode(), 0, 0, target=1)
            assert rv == RV.CKR_SAVED_STATE_INVALID
            assert two.calls("C_SetOperationState") == 0
            assert app.call("C_DigestUpdate", b"data", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED


class TestCancel:
    @pytest.fixture
    def new(self, pool, member):
        """A pool of modules that have C_SessionCancel."""
        return pool(member("one", version="3.0"), member("two", version="3.0"), deadline=20)

    def test_it_ends_an_operation(self, new):
        with App(new.daemon) as app:
            app.good("C_SignInit", RSA, app.object("rsa"), target=1)
            app.good("C_SessionCancel", CKF_SIGN, target=1)
            assert app.call("C_SignUpdate", b"data", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            app.good("C_FindObjectsInit", (), target=1)
            app.good("C_SessionCancel", CKF_FIND_OBJECTS, target=1)
            assert app.call("C_FindObjectsFinal", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            assert digest(Interrupted(app, new, 2)) == sha256(WHOLE).digest()

    def test_one_that_went_with_its_member(self, new):
        one, _ = new.members
        with App(new.daemon) as app:
            app.good("C_DigestInit", SHA, target=1)
            one.kill()
            app.good("C_SessionCancel", CKF_DIGEST, target=1)
            assert app.call("C_DigestUpdate", b"data", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            assert app.signed(app.object("rsa")) == RV.CKR_OK

    def test_modules_that_can_not(self, pools):
        with App(pools.daemon) as app:
            app.good("C_DigestInit", SHA, target=1)
            app.good("C_DigestUpdate", b"data", target=1)
            assert app.call("C_SessionCancel", CKF_DIGEST, target=1)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            assert app.output("C_DigestFinal") == sha256(b"data").digest()
