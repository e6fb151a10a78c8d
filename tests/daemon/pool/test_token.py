"""What a pool shows of itself: its slot, its token, its mechanisms; and that it keeps what it shows."""

from tests.daemon.harness import until
from tests.daemon.pool.app import WRITE, App
from tests.daemon.pool.tokens import PIN, SO_PIN
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Attribute, MechanismInfo, Null, Numbers, Room, SlotInfo, padded, stripped
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_TOKEN,
    CKF_LOGIN_REQUIRED,
    CKF_PROTECTED_AUTHENTICATION_PATH,
    CKF_SIGN,
    CKF_TOKEN_INITIALIZED,
    CKF_TOKEN_PRESENT,
    CKF_USER_PIN_INITIALIZED,
    CKF_WRITE_PROTECTED,
    CKM_AES_CBC,
    CKM_MD5,
    CKM_RSA_PKCS,
    CKM_SHA256,
    CKM_SHA256_RSA_PKCS,
    CKO_DATA,
    CKU_SO,
    CKU_USER,
)

NARROW = "slots.mechanisms = -,CKM_MD5,CKM_SHA256"
POOLS = [section("one", "two", label='"Our vault"', serial='"0815"', slot=7, deadline=20)]
CONFIGURATION = {"two": (NARROW,)}


def mechanisms(app: App) -> tuple[int, ...]:
    (counted,) = app.good("C_GetMechanismList", Room(0, False), target=app.slot)
    assert isinstance(counted, Numbers)
    (listed,) = app.good("C_GetMechanismList", Room(counted.count, True), target=app.slot)
    assert isinstance(listed, Numbers)
    assert listed.data is not None
    assert len(listed.data) == counted.count
    return listed.data


class TestShown:
    def test_slots(self, pools):
        with App(pools.daemon, 7, session=False) as app:
            assert app.slots(present=True) == app.slots(present=False) == (0, 1, 7)
            (info,) = app.good("C_GetSlotInfo", True, target=7)
            assert isinstance(info, SlotInfo)
            assert info.flags & CKF_TOKEN_PRESENT
            assert stripped(info.slot_description) == b"vault"
            assert app.call("C_GetSlotInfo", True, target=8)[0] == RV.CKR_SLOT_ID_INVALID

    def test_the_token(self, pools):
        with App(pools.daemon, 7) as app, App(pools.daemon, 0) as plain:
            info, one = app.info(), plain.info()
            assert (info.label, info.serial_number) == (padded("Our vault", 32), padded("0815", 16))
            assert (info.manufacturer_id, info.model) == (padded("Keyway", 32), padded("Pool", 16))
            wanted = CKF_LOGIN_REQUIRED | CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED | CKF_WRITE_PROTECTED
            assert info.flags & wanted == wanted
            assert not info.flags & CKF_PROTECTED_AUTHENTICATION_PATH
            assert (info.min_pin_len, info.max_pin_len) == (one.min_pin_len, one.max_pin_len)
            assert app.call("C_GetTokenInfo", False, target=7)[0] == RV.CKR_ARGUMENTS_BAD

    def test_the_mechanisms_of_all_members(self, pools):
        with App(pools.daemon, 7) as app, App(pools.daemon, 0) as one, App(pools.daemon, 1) as two:
            shown = mechanisms(app)
            assert sorted(shown) == sorted(set(mechanisms(one)) & set(mechanisms(two)))
            assert set(mechanisms(one)) - set(shown) == {CKM_MD5, CKM_SHA256}
            (counted,) = app.call("C_GetMechanismList", Room(1, True), target=7)[1]
            assert counted == Numbers(len(shown), None)

    def test_what_they_are(self, pools):
        with App(pools.daemon, 7) as app, App(pools.daemon, 0) as one:
            for type_ in CKM_SHA256_RSA_PKCS, CKM_AES_CBC:
                shown = app.good("C_GetMechanismInfo", type_, True, target=7)
                assert shown == one.good("C_GetMechanismInfo", type_, True, target=0)
            (info,) = app.good("C_GetMechanismInfo", CKM_RSA_PKCS, True, target=7)
            assert isinstance(info, MechanismInfo)
            assert info.flags & CKF_SIGN
            for type_ in CKM_MD5, CKM_SHA256, 0x8000_1234:
                assert app.call("C_GetMechanismInfo", type_, True, target=7)[0] == RV.CKR_MECHANISM_INVALID

    def test_by_default_the_label_is_the_name_and_the_numbers_count(self, pool):
        pools = pool(deadline=20)
        with App(pools.daemon) as app:
            assert app.slots(present=True) == (0, 1, 2)
            info = app.info()
            assert info.label == padded("vault", 32)
            serial = info.serial_number
        assert pools.daemon.stop() == 0
        pools.daemon.start()
        with App(pools.daemon) as app:
            assert app.info().serial_number == serial != padded("", 16)

    def test_a_pool_whose_second_member_comes_later(self, pool, member):
        two = member("two", NARROW)
        two.does("C_Initialize", f"rv {RV.CKR_DEVICE_ERROR:#x}")
        pools = pool("one", two, deadline=20)
        with App(pools.daemon) as app:
            assert CKM_SHA256 in mechanisms(app)
            two.comes_back()
            until(pools.is_up, "it is up")
            assert CKM_SHA256 not in mechanisms(app)
            # What all have had they are not said to have less while one is away.
            two.goes()
            assert CKM_SHA256 not in mechanisms(app)


class TestWrites:
    def test_none(self, pool):
        pools = pool(writes='"deny"', deadline=20)
        with App(pools.daemon) as app:
            assert app.info().flags & CKF_WRITE_PROTECTED
            assert app.call("C_OpenSession", WRITE, 2, target=0)[0] == RV.CKR_TOKEN_WRITE_PROTECTED
            rv, _ = app.call("C_InitToken", SO_PIN.encode(), padded("new", 32), target=0)
            assert rv == RV.CKR_TOKEN_WRITE_PROTECTED
            template = (Attribute(CKA_CLASS, CKO_DATA), Attribute(CKA_TOKEN, b"\1"))
            assert app.call("C_CreateObject", template, 0, target=1)[0] == RV.CKR_SESSION_READ_ONLY
            (note,) = app.find(Attribute(CKA_CLASS, CKO_DATA))
            assert app.call("C_DestroyObject", note, target=1)[0] != RV.CKR_OK
            assert app.call("C_SetPIN", PIN.encode(), b"another pin", target=1)[0] != RV.CKR_OK
        assert [each.calls("C_SetPIN") + each.calls("C_InitToken") for each in pools.members] == [0, 0]

    def test_at_the_first_member(self, pool):
        pools = pool(writes='"first"', deadline=20)
        with App(pools.daemon, flags=WRITE) as app:
            assert not app.info().flags & CKF_WRITE_PROTECTED
            template = (Attribute(CKA_CLASS, CKO_DATA), Attribute(CKA_TOKEN, b"\1"))
            app.good("C_CreateObject", template, 0, target=1)

    def test_making_the_tokens_anew(self, pool):
        pools = pool(writes='"first"', deadline=20)
        with App(pools.daemon, session=False) as app:
            rv, _ = app.call("C_InitToken", b"wrong pin", padded("vault", 32), target=0)
            assert rv == RV.CKR_PIN_INCORRECT
            assert [each.calls("C_InitToken") for each in pools.members] == [1, 0]
            app.good("C_InitToken", SO_PIN.encode(), padded("vault", 32), target=0)
            app.open(1, WRITE)
            app.login(SO_PIN, CKU_SO)
            app.good("C_InitPIN", b"another pin", target=1)
            app.good("C_Logout", target=1)
            app.login("another pin")
            assert app.find() == ()
            assert app.call("C_Login", CKU_USER, Null(), target=1)[0] != RV.CKR_OK
        assert [each.calls("C_InitToken") for each in pools.members] == [2, 1]


def test_a_token_of_that_name_that_is_not_there(start, member):
    one = member("one")
    pool = section("pkcs11:token=none?backend=one&name=none", one.uri, deadline=20)
    daemon = start(one.section + pool)
    with App(daemon) as app:
        assert app.signed(app.object("rsa")) == RV.CKR_OK
        told = {each["member"]: each for each in daemon.status()["pools"]["vault"]["members"]}
        assert (told["none"]["state"], told["one"]["state"]) == ("down", "up")
        assert "not there" in told["none"]["error"]
