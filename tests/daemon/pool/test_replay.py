"""What must never be made twice, counted on the real tokens; and what may."""

import pytest
from tests.daemon.harness import until
from tests.daemon.pool import tokens
from tests.daemon.pool.app import DATA, RSA, WRITE, App
from tests.daemon.pool.tokens import PIN, SO_PIN
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Attribute, Mechanism, Null, Room, RoomBytes
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_ENCRYPT,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS_BITS,
    CKA_PRIVATE,
    CKA_TOKEN,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKK_AES,
    CKM_AES_ECB,
    CKM_AES_KEY_GEN,
    CKM_HSS,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKM_XMSS,
    CKM_XMSSMT,
    CKO_DATA,
    CKO_SECRET_KEY,
    CKU_CONTEXT_SPECIFIC,
    CKU_SO,
    CKU_USER,
)

FIRST, BALANCE, SINGLE, ONE, TWO = range(5)
POOLS = [
    section("one", "two", writes='"first"', deadline=20),
    section("one", "two", name="spread", policy='"balance"', writes='"first"', deadline=20),
    section("one", name="single", writes='"first"', deadline=20),
]
YES, NO = b"\1", b"\0"
ECB = Mechanism(CKM_AES_ECB, Null())
VALUE = bytes(range(32))
unknown_outcomes = pytest.mark.parametrize("words", ["exit", "exit-after", f"rv-after {RV.CKR_DEVICE_ERROR:#x}"])
both_policies = pytest.mark.parametrize("slot", [FIRST, BALANCE], ids=["failover", "balance"])


def create(app: App, label: str, token: bytes = YES):
    template = (
        Attribute(CKA_CLASS, CKO_DATA),
        Attribute(CKA_TOKEN, token),
        Attribute(CKA_PRIVATE, NO),
        Attribute(CKA_LABEL, label.encode()),
        Attribute(CKA_VALUE, b"value"),
    )
    return app.call("C_CreateObject", template, 0, target=1)


def generate(app: App, label: str, token: bytes = YES):
    template = (
        Attribute(CKA_TOKEN, token),
        Attribute(CKA_LABEL, label.encode()),
        Attribute(CKA_VALUE_LEN, 32),
        Attribute(CKA_ENCRYPT, YES),
        Attribute(CKA_DECRYPT, YES),
    )
    return app.call("C_GenerateKey", Mechanism(CKM_AES_KEY_GEN, Null()), template, 0, target=1)


def generate_pair(app: App, label: str):
    same = (Attribute(CKA_TOKEN, YES), Attribute(CKA_LABEL, label.encode()))
    public = (*same, Attribute(CKA_MODULUS_BITS, 1024))
    return app.call("C_GenerateKeyPair", Mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN, Null()), public, same, 0, 0, target=1)


def copy(app: App, label: str):
    template = (Attribute(CKA_TOKEN, YES), Attribute(CKA_LABEL, label.encode()))
    return app.call("C_CopyObject", app.object("aes", CKO_SECRET_KEY), template, 0, target=1)


def on_tokens(pools, label: str) -> tuple[int, int]:
    """How many objects with a label there are on the token of each member."""
    counts = []
    for slot in ONE, TWO:
        with App(pools.daemon, slot) as app:
            counts.append(len(app.find(Attribute(CKA_LABEL, label.encode()))))
    return counts[0], counts[1]


MAKERS = {"C_CreateObject": create, "C_GenerateKey": generate, "C_GenerateKeyPair": generate_pair, "C_CopyObject": copy}
made_by = pytest.mark.parametrize("function", MAKERS)


GUARDED = """
import sys, pkcs11
from pkcs11 import Attribute, KeyType
module, pin = sys.argv[1:]
with pkcs11.lib(module).get_token(token_label="vault").open(user_pin=pin, rw=True) as session:
    session.generate_keypair(KeyType.RSA, 2048, id=b"\\x04", label="guarded", store=True,
                             private_template={Attribute.ALWAYS_AUTHENTICATE: True})
"""


class TestTokenObjects:
    @made_by
    @unknown_outcomes
    def test_a_call_with_an_unknown_outcome_is_not_made_again(self, pools, function, words):
        one, two = pools.members
        label = f"{function} {words}"
        with App(pools.daemon, FIRST, flags=WRITE) as app:
            one.does_once(function, words)
            assert MAKERS[function](app, label)[0] == RV.CKR_DEVICE_ERROR
            assert (one.calls(function), two.calls(function)) == (1, 0)
            made = 0 if words == "exit" else 2 if function == "C_GenerateKeyPair" else 1
            assert on_tokens(pools, label) == (made, 0)
            # The session goes on, and finds what there is.
            assert len(app.find(Attribute(CKA_LABEL, label.encode()))) == made

    @made_by
    def test_a_member_that_is_busy_is_not_asked_again(self, pools, function):
        one, two = pools.members
        with App(pools.daemon, FIRST, flags=WRITE) as app:
            one.does("C_CreateObject", f"rv {RV.CKR_FUNCTION_FAILED:#x}")
            assert create(app, "busy")[0] == RV.CKR_FUNCTION_FAILED
            assert (one.calls("C_CreateObject"), two.calls("C_CreateObject")) == (1, 0)

    @both_policies
    def test_all_are_made_at_the_first_member(self, pools, slot):
        one, two = pools.members
        label = f"at the first {slot}"
        with App(pools.daemon, slot, flags=WRITE) as app:
            for _ in range(4):
                assert create(app, label)[0] == RV.CKR_OK
            assert (one.calls("C_CreateObject"), two.calls("C_CreateObject")) == (4, 0)
        assert on_tokens(pools, label) == (4, 0)

    @pytest.mark.parametrize("words", ["exit", "exit-after"])
    def test_destroying_one_is_made_again(self, pools, words):
        one, _ = pools.members
        label = f"destroyed {words}"
        with App(pools.daemon, FIRST, flags=WRITE) as app:
            _, (handle,) = create(app, label)
            one.does_once("C_DestroyObject", words)
            assert app.call("C_DestroyObject", handle, target=1)[0] == RV.CKR_OK
            assert app.find(Attribute(CKA_LABEL, label.encode())) == ()
            assert app.call("C_DestroyObject", handle, target=1)[0] == RV.CKR_OBJECT_HANDLE_INVALID
        assert on_tokens(pools, label) == (0, 0)

    @unknown_outcomes
    def test_changing_one_is_not_made_again(self, pools, words):
        one, two = pools.members
        label = f"changed {words}"
        with App(pools.daemon, FIRST, flags=WRITE) as app:
            _, (handle,) = create(app, label)
            one.does_once("C_SetAttributeValue", words)
            change = (Attribute(CKA_LABEL, b"another label"),)
            assert app.call("C_SetAttributeValue", handle, change, target=1)[0] == RV.CKR_DEVICE_ERROR
            assert (one.calls("C_SetAttributeValue"), two.calls("C_SetAttributeValue")) == (1, 0)


class TestPins:
    @both_policies
    def test_a_wrong_one_is_tried_once(self, pools, slot):
        one, two = pools.members
        with App(pools.daemon, slot, login=False) as app:
            for count in range(1, 3):
                assert app.call("C_Login", CKU_USER, b"wrong pin", target=1)[0] == RV.CKR_PIN_INCORRECT
                assert one.calls("C_Login") + two.calls("C_Login") == count
            app.login()

    @pytest.mark.parametrize("rv", [RV.CKR_PIN_LOCKED, RV.CKR_PIN_EXPIRED, RV.CKR_PIN_INVALID, RV.CKR_PIN_LEN_RANGE])
    def test_what_the_token_says_of_it_is_returned(self, pools, rv):
        one, two = pools.members
        with App(pools.daemon, FIRST, login=False) as app:
            one.does_once("C_Login", f"rv {rv:#x}")
            assert app.call("C_Login", CKU_USER, PIN.encode(), target=1)[0] == rv
            assert (one.calls("C_Login"), two.calls("C_Login")) == (1, 0)

    @unknown_outcomes
    def test_a_login_with_an_unknown_outcome_is_not_made_again(self, pools, words):
        one, two = pools.members
        with App(pools.daemon, FIRST, login=False) as app:
            one.does_once("C_Login", words)
            assert app.call("C_Login", CKU_USER, b"wrong pin", target=1)[0] == RV.CKR_DEVICE_ERROR
            assert (one.calls("C_Login"), two.calls("C_Login")) == (1, 0)
            app.login()
            assert app.signed(app.object("rsa")) == RV.CKR_OK

    def test_a_change_is_made_at_all_members(self, pool):
        pools = pool(writes='"first"', deadline=20)
        with App(pools.daemon, flags=WRITE) as app:
            app.good("C_SetPIN", PIN.encode(), b"another pin", target=1)
            for slot in 1, 2:
                with App(pools.daemon, slot, login=False) as plain:
                    assert plain.call("C_Login", CKU_USER, PIN.encode(), target=1)[0] == RV.CKR_PIN_INCORRECT
                    plain.login("another pin")
            # The PIN that is kept for logins elsewhere is the new one.
            key = app.object("rsa")
            for each in pools.members:
                each.kill()
                assert app.signed(key) == RV.CKR_OK
        assert [each.calls("C_SetPIN") for each in pools.members] == [1, 1]
        assert "another pin" not in pools.daemon.log()

    def test_a_change_is_not_begun_while_a_member_is_down(self, pool):
        pools = pool(writes='"first"', deadline=20)
        one, two = pools.members
        with App(pools.daemon, flags=WRITE) as app:
            two.goes()
            until(lambda: app.signed(app.object("rsa")) == 0 and pools.status()["two"]["state"] == "down", "it is down")
            rv, _ = app.call("C_SetPIN", PIN.encode(), b"another pin", target=1)
            assert rv == RV.CKR_TOKEN_NOT_PRESENT
            assert one.calls("C_SetPIN") == 0

    @pytest.mark.parametrize("words", ["exit", "exit-after", f"rv {RV.CKR_FUNCTION_FAILED:#x}"])
    def test_a_change_with_an_unknown_outcome_is_not_made_again(self, pool, words):
        pools = pool(writes='"first"', deadline=20)
        one, two = pools.members
        with App(pools.daemon, flags=WRITE) as app:
            two.does_once("C_SetPIN", words)
            rv, _ = app.call("C_SetPIN", PIN.encode(), b"another pin", target=1)
            assert rv == RV.CKR_DEVICE_ERROR
            assert (one.calls("C_SetPIN"), two.calls("C_SetPIN")) == (1, 1)
            (entry,) = pools.daemon.events("members differ")
            assert (entry["done"], entry["failed"], entry["call"]) == ("one", "two", "C_SetPIN")

    def test_the_security_officer_sets_the_users_everywhere(self, pool):
        pools = pool(writes='"first"', deadline=20)
        with App(pools.daemon, login=False, flags=WRITE) as app:
            app.login(SO_PIN, CKU_SO)
            app.good("C_InitPIN", b"another pin", target=1)
            app.good("C_Logout", target=1)
            app.login("another pin")
            for slot in 1, 2:
                with App(pools.daemon, slot, login=False) as plain:
                    plain.login("another pin")
        assert [each.calls("C_InitPIN") for each in pools.members] == [1, 1]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, made):
    """Where a token is that has a key for whose every use one must log in, too."""
    home = tmp_path_factory.mktemp("guarded")
    tokens.original(home, GUARDED, copy_of=tokens.original(made))
    return home


class TestContextSpecificLogin:
    @pytest.fixture
    def app(self, pool, member, guarded):
        pools = pool(member("one", made=guarded), member("two", made=guarded), deadline=20, policy='"balance"')
        with App(pools.daemon) as app:
            self.one, self.two = pools.members
            until(lambda: self.one.calls("C_Login") and self.two.calls("C_Login"), "both members are ready")
            yield app

    def logins(self):
        """How often somebody logged in for one use of a key, at each member."""
        function = f"C_Login {CKU_CONTEXT_SPECIFIC}"
        return self.one.calls(function), self.two.calls(function)

    def test_it_is_made_where_the_operation_is(self, app):
        key = app.object("guarded")
        for count in range(1, 5):
            app.good("C_SignInit", RSA, key, target=1)
            app.login(user=CKU_CONTEXT_SPECIFIC)
            app.output("C_Sign", DATA)
            assert sum(self.logins()) == count

    def test_a_wrong_pin_is_tried_once(self, app):
        app.good("C_SignInit", RSA, app.object("guarded"), target=1)
        assert app.call("C_Login", CKU_CONTEXT_SPECIFIC, b"wrong pin", target=1)[0] == RV.CKR_PIN_INCORRECT
        assert sum(self.logins()) == 1

    @pytest.mark.parametrize("words", ["", "exit", "exit-after"], ids=["before", "in", "after"])
    def test_the_operation_is_lost_with_the_member(self, app, words):
        key = app.object("guarded")
        app.good("C_SignInit", RSA, key, target=1)
        app.login(user=CKU_CONTEXT_SPECIFIC)
        for each in self.one, self.two:
            if words:
                each.does_once("C_Sign", words)
            else:
                each.kill()
        assert app.call("C_Sign", DATA, Room(256, True), target=1)[0] in (RV.CKR_DEVICE_REMOVED, RV.CKR_DEVICE_ERROR)
        assert sum(self.logins()) == 1
        assert self.one.calls("C_Sign") + self.two.calls("C_Sign") == bool(words)
        for each in self.one, self.two:
            each.behaves()
        app.good("C_SignInit", RSA, key, target=1)
        app.login(user=CKU_CONTEXT_SPECIFIC)
        app.output("C_Sign", DATA)
        assert sum(self.logins()) == 2


@pytest.mark.parametrize("type_", [CKM_HSS, CKM_XMSS, CKM_XMSSMT], ids=["HSS", "XMSS", "XMSSMT"])
class TestStatefulKeys:
    """Signatures that change their key: passthrough.c makes others in their place."""

    @pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
    def test_all_are_made_at_the_first_member(self, pools, type_, fused):
        one, two = pools.members
        with App(pools.daemon, BALANCE) as app:
            key = app.object("rsa")
            until(lambda: one.calls("C_Login") and two.calls("C_Login"), "both members are ready")
            for count in range(1, 5):
                assert app.signed(key, mechanism=Mechanism(type_, Null()), fused=fused) == RV.CKR_OK
                assert (one.calls("C_Sign"), two.calls("C_Sign")) == (count, 0)

    @pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
    @pytest.mark.parametrize("words", ["exit", "exit-after", f"rv-after {RV.CKR_DEVICE_ERROR:#x}", "rv-after 0x6"])
    def test_none_is_made_again(self, pools, type_, fused, words):
        one, two = pools.members
        with App(pools.daemon, FIRST) as app:
            key = app.object("rsa")
            one.does_once("C_Sign", words)
            assert app.signed(key, mechanism=Mechanism(type_, Null()), fused=fused) != RV.CKR_OK
            assert (one.calls("C_Sign"), two.calls("C_Sign")) == (1, 0)
            until(lambda: app.signed(key, mechanism=Mechanism(type_, Null()), fused=fused) == 0, "it is used again")
            assert two.calls("C_Sign") == 0

    def test_none_is_begun_again(self, pools, type_):
        one, two = pools.members
        with App(pools.daemon, FIRST) as app:
            app.good("C_SignInit", Mechanism(type_, Null()), app.object("rsa"), target=1)
            one.kill()
            assert app.call("C_Sign", DATA, Room(256, True), target=1)[0] == RV.CKR_DEVICE_REMOVED
            assert (one.calls("C_Sign"), two.calls("C_Sign")) == (0, 0)


class TestSessionObjects:
    def test_one_that_the_client_made_is_made_again(self, pools):
        one, two = pools.members
        with App(pools.daemon, FIRST) as app:
            rv, (key,) = secret_key(app)
            assert rv == RV.CKR_OK
            secret = encrypt(app, key)
            one.kill()
            assert encrypt(app, key) == secret
            assert two.calls("C_CreateObject") == 1
            two.kill()
            assert encrypt(app, key) == secret
            assert app.attribute(key, CKA_LABEL) == b"of the session"

    @pytest.mark.parametrize("words", ["exit", "exit-after"])
    def test_its_making_is_made_again(self, pools, words):
        one, _ = pools.members
        with App(pools.daemon, FIRST) as app:
            one.does_once("C_CreateObject", words)
            rv, (key,) = secret_key(app)
            assert rv == RV.CKR_OK
            assert encrypt(app, key)
            assert app.find(Attribute(CKA_LABEL, b"of the session")) == (key,)

    def test_a_generated_one_is_lost(self, pools):
        one, two = pools.members
        with App(pools.daemon, FIRST) as app:
            rv, (_, key) = generate(app, "generated", NO)
            assert rv == RV.CKR_OK
            assert encrypt(app, key)
            one.kill()
            assert app.call("C_EncryptInit", ECB, key, target=1)[0] in INVALID
            assert app.call("C_GetAttributeValue", key, (Attribute(CKA_LABEL, RoomBytes(9)),), target=1)[0] in INVALID
            assert two.calls("C_GenerateKey") == 0
            # The session goes on.
            assert app.signed(app.object("rsa")) == RV.CKR_OK

    def test_a_changed_one_is_lost(self, pools):
        one, _ = pools.members
        with App(pools.daemon, FIRST) as app:
            _, (key,) = secret_key(app)
            app.good("C_SetAttributeValue", key, (Attribute(CKA_LABEL, b"changed"),), target=1)
            assert app.attribute(key, CKA_LABEL) == b"changed"
            one.kill()
            assert app.call("C_GetAttributeValue", key, (Attribute(CKA_LABEL, RoomBytes(9)),), target=1)[0] in INVALID

    def test_a_destroyed_one_stays_so(self, pools):
        one, two = pools.members
        with App(pools.daemon, FIRST) as app:
            _, (key,) = secret_key(app)
            app.good("C_DestroyObject", key, target=1)
            one.kill()
            assert app.call("C_EncryptInit", ECB, key, target=1)[0] in INVALID
            assert two.calls("C_CreateObject") == 0

    def test_one_ends_with_its_session(self, pools):
        one, _ = pools.members
        with App(pools.daemon, FIRST) as app:
            _, (key,) = secret_key(app)
            app.open(2)
            assert encrypt(app, key, session=2)
            app.good("C_CloseSession", target=1)
            assert app.call("C_EncryptInit", ECB, key, target=2)[0] in INVALID
            one.kill()
            assert app.call("C_EncryptInit", ECB, key, target=2)[0] in INVALID


INVALID = (RV.CKR_KEY_HANDLE_INVALID, RV.CKR_OBJECT_HANDLE_INVALID)


def secret_key(app: App):
    template = (
        Attribute(CKA_CLASS, CKO_SECRET_KEY),
        Attribute(CKA_KEY_TYPE, CKK_AES),
        Attribute(CKA_TOKEN, NO),
        Attribute(CKA_LABEL, b"of the session"),
        Attribute(CKA_VALUE, VALUE),
        Attribute(CKA_ENCRYPT, YES),
    )
    return app.call("C_CreateObject", template, 0, target=1)


def encrypt(app: App, key: int, *, session: int = 1) -> bytes:
    app.good("C_EncryptInit", ECB, key, target=session)
    return app.output("C_Encrypt", bytes(16), session=session)
