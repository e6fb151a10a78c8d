"""One token, several PINs: each leads to what it is for, and none leads nowhere."""

import pytest
from tests.daemon.pool.app import DATA, READ, RSA, WRITE, App
from tests.daemon.pool.writer import template
from tests.daemon.views.tenants import OF_A, OF_B, OF_CLERK, PINS, SLOT, labels, log_in

from keyway.cryptoki import RV, Attribute, Mechanism, Null, Numbers, ObjectsRoom, Room, SessionInfo, SlotInfo, stripped
from keyway.cryptoki.constants import (
    CKA_ALWAYS_AUTHENTICATE,
    CKA_CLASS,
    CKA_LABEL,
    CKA_MODULUS_BITS,
    CKA_PRIVATE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKF_LOGIN_REQUIRED,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKF_TOKEN_INITIALIZED,
    CKF_TOKEN_PRESENT,
    CKF_USER_PIN_INITIALIZED,
    CKM_AES_CBC,
    CKM_AES_KEY_GEN,
    CKM_RSA_PKCS,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKM_SHA256,
    CKO_DATA,
    CKO_SECRET_KEY,
    CKS_RO_PUBLIC_SESSION,
    CKS_RO_USER_FUNCTIONS,
    CKS_RW_PUBLIC_SESSION,
    CKS_RW_USER_FUNCTIONS,
    CKU_CONTEXT_SPECIFIC,
    CKU_SO,
    CKU_USER,
)

NOTE = template({CKA_CLASS: CKO_DATA, CKA_TOKEN: b"\0", CKA_PRIVATE: b"\0", CKA_LABEL: b"note", CKA_VALUE: b"data"})
ROOM = ObjectsRoom(10, has_count=True, has_buffer=True)


def session_info(app, handle=1):
    (info,) = app.good("C_GetSessionInfo", True, target=handle)
    assert isinstance(info, SessionInfo)
    return info


def mechanisms(app, slot=SLOT):
    (counted,) = app.good("C_GetMechanismList", Room(0, False), target=slot)
    (listed,) = app.good("C_GetMechanismList", Room(counted.count, True), target=slot)
    assert isinstance(listed, Numbers)
    return listed.data


def try_pin(app, pin, user=CKU_USER, session=1):
    return app.call("C_Login", user, pin.encode() if isinstance(pin, str) else pin, target=session)[0]


class TestEachPin:
    def test_leads_to_its_token(self, vault):
        with vault.app("alice") as alice, vault.app("bob") as bob:
            assert labels(alice) == OF_A
            assert labels(bob) == OF_B
            alice.sign(alice.object("a-rsa"))
            bob.sign(bob.object("b-rsa"))

    def test_may_lead_to_the_same_token_with_other_rights(self, vault):
        with vault.app("clerk") as clerk, vault.app("alice") as alice:
            assert labels(clerk) == OF_CLERK
            assert clerk.find(Attribute(CKA_CLASS, CKO_SECRET_KEY)) == ()
            assert len(alice.find(Attribute(CKA_CLASS, CKO_SECRET_KEY))) == 1
            key = clerk.object("a-rsa")
            assert clerk.sign(key) == alice.sign(alice.object("a-rsa"))
            cbc = Mechanism(CKM_AES_CBC, b"\0" * 16)
            assert clerk.call("C_EncryptInit", cbc, key, target=1)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            assert clerk.call("C_DecryptInit", Mechanism(CKM_RSA_PKCS, Null()), key, target=1)[0] == (
                RV.CKR_FUNCTION_NOT_SUPPORTED
            )
            assert CKM_AES_CBC in mechanisms(alice)
            assert CKM_AES_CBC not in mechanisms(clerk)
            assert CKM_RSA_PKCS in mechanisms(clerk)

    def test_shows_what_the_identity_and_the_view_may_see(self, vault):
        with vault.app("clerk", "narrow") as clerk, vault.app("alice", "narrow") as alice:
            assert labels(clerk) == ["a-rsa"]
            assert labels(alice) == ["a-aes", "a-rsa"]
            clerk.sign(clerk.object("a-rsa"))

    def test_hidden_handles_are_hidden_whatever_is_asked(self, vault):
        with vault.app("clerk") as clerk:
            seen = set(clerk.find())
            answers = {clerk.signed(handle) for handle in range(1, 20) if handle not in seen}
            assert answers == {RV.CKR_KEY_HANDLE_INVALID}

    def test_that_may_not_write_has_read_only_sessions(self, vault):
        with vault.app("clerk", flags=WRITE) as clerk, vault.app("alice", flags=WRITE) as alice:
            assert session_info(clerk).state == CKS_RO_USER_FUNCTIONS
            assert session_info(alice).state == CKS_RW_USER_FUNCTIONS
            clerk.open(2, WRITE)
            assert session_info(clerk, 2).state == CKS_RO_USER_FUNCTIONS
            assert clerk.call("C_CreateObject", NOTE, 0, target=1)[0] != RV.CKR_OK
            alice.good("C_CreateObject", NOTE, 0, target=1)

    def test_large_data(self, vault):
        data = bytes(range(256)) * (1 << 14)
        with vault.app("alice") as alice, vault.app("clerk") as clerk:
            assert alice.sign(alice.object("a-rsa"), data) == clerk.sign(clerk.object("a-rsa"), data)
            key = alice.object("a-aes", CKO_SECRET_KEY)
            alice.good("C_EncryptInit", Mechanism(CKM_AES_CBC, b"\0" * 16), key, target=1)
            (encrypted,) = alice.good("C_Encrypt", data, Room(len(data), True), target=1)
            assert len(encrypted.data) == len(data)
            alice.good("C_DecryptInit", Mechanism(CKM_AES_CBC, b"\0" * 16), key, target=1)
            (decrypted,) = alice.good("C_Decrypt", encrypted.data, Room(len(data), True), target=1)
            assert decrypted.data == data

    def test_fused_calls(self, vault):
        with vault.app() as app:
            rv, values = app.fused("C_Sign", (RSA, 1), DATA, Room(512, True))
            assert (rv, values) == (RV.CKR_USER_NOT_LOGGED_IN, ())
            assert app.fused("C_FindObjects", ((),), ROOM) == (RV.CKR_OK, (Numbers(0, ()),))
            log_in(app, "bob")
            assert app.signed(app.object("b-rsa"), fused=True) == RV.CKR_OK


class TestWithoutPin:
    def test_the_token_is_the_gateways_own(self, vault):
        with vault.app(flags=WRITE) as app:
            for _ in range(2):
                info = app.info()
                assert [stripped(each) for each in (info.label, info.manufacturer_id, info.model)] == [
                    b"vault",
                    b"Keyway",
                    b"Views",
                ]
                assert len(stripped(info.serial_number)) == 16
                assert info.flags == CKF_LOGIN_REQUIRED | CKF_USER_PIN_INITIALIZED | CKF_TOKEN_INITIALIZED
                assert (info.session_count, info.rw_session_count) == (1, 1)
                (slot,) = app.good("C_GetSlotInfo", True, target=SLOT)
                assert isinstance(slot, SlotInfo)
                assert slot.flags == CKF_TOKEN_PRESENT
                if app.call("C_Login", CKU_USER, PINS["alice"].encode(), target=1)[0] == RV.CKR_OK:
                    continue
            assert app.call("C_GetTokenInfo", False, target=SLOT)[0] == RV.CKR_ARGUMENTS_BAD

    def test_sessions_are_public(self, vault):
        with vault.app() as app:
            app.open(2, WRITE)
            for handle, before, after, flags in (
                (1, CKS_RO_PUBLIC_SESSION, CKS_RO_USER_FUNCTIONS, READ),
                (2, CKS_RW_PUBLIC_SESSION, CKS_RW_USER_FUNCTIONS, WRITE),
            ):
                assert session_info(app, handle) == SessionInfo(SLOT, before, flags, 0)
                log_in(app, "alice", session=handle)
                assert session_info(app, handle) == SessionInfo(SLOT, after, flags, 0)
                app.good("C_Logout", target=handle)
                assert session_info(app, handle) == SessionInfo(SLOT, before, flags, 0)

    def test_nothing_is_found(self, vault):
        with vault.app() as app:
            assert app.find() == ()
            app.good("C_FindObjectsInit", (), target=1)
            assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_OPERATION_ACTIVE
            no_place = ObjectsRoom(10, has_count=False, has_buffer=True)
            assert app.call("C_FindObjects", no_place, target=1)[0] == RV.CKR_ARGUMENTS_BAD
            app.good("C_SessionCancel", 0, target=1)
            assert app.call("C_FindObjects", ROOM, target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            assert app.call("C_FindObjectsFinal", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED

    def test_keys_need_a_login(self, vault):
        with vault.app() as app:
            for name, *values in (
                ("C_SignInit", RSA, 1),
                ("C_DigestInit", Mechanism(CKM_SHA256, Null())),
                ("C_GenerateKey", Mechanism(CKM_AES_KEY_GEN, Null()), (), 0),
                ("C_CreateObject", NOTE, 0),
                ("C_SeedRandom", b"seed"),
                ("C_Logout",),
            ):
                assert app.call(name, *values, target=1)[0] == RV.CKR_USER_NOT_LOGGED_IN

    def test_no_session_is_no_session(self, vault):
        with vault.app() as app:
            for name, *values in (
                ("C_Login", CKU_USER, PINS["alice"].encode()),
                ("C_Logout",),
                ("C_GetSessionInfo", True),
                ("C_FindObjectsInit", ()),
                ("C_CloseSession",),
            ):
                assert app.call(name, *values, target=77)[0] == RV.CKR_SESSION_HANDLE_INVALID
            assert app.call("C_OpenSession", CKF_RW_SESSION, 2, target=SLOT)[0] == (
                RV.CKR_SESSION_PARALLEL_NOT_SUPPORTED
            )
            assert app.call("C_OpenSession", CKF_SERIAL_SESSION, None, target=SLOT)[0] == RV.CKR_ARGUMENTS_BAD

    def test_mechanisms_are_what_all_have(self, vault):
        with vault.app() as app, App(vault.daemon, 6, session=False) as plain:
            before = mechanisms(app)
            assert CKM_RSA_PKCS in before
            assert before == mechanisms(plain, 6)
            (info,) = app.good("C_GetMechanismInfo", CKM_RSA_PKCS, True, target=SLOT)
            assert (info,) == plain.good("C_GetMechanismInfo", CKM_RSA_PKCS, True, target=6)
            assert app.call("C_GetMechanismInfo", 0x8765_4321, True, target=SLOT)[0] == RV.CKR_MECHANISM_INVALID
            assert app.call("C_GetMechanismList", Room(1, True), target=SLOT)[0] == RV.CKR_BUFFER_TOO_SMALL
            log_in(app, "bob")
            assert mechanisms(app) == before


class TestWhatIsRefused:
    @pytest.mark.parametrize("view", ["", "alice"])
    def test_pins_and_the_token_are_not_changed(self, vault, view):
        with vault.app(view, flags=WRITE) as app:
            pin = PINS["alice"].encode()
            for name, *values in (("C_SetPIN", pin, b"other-pin"), ("C_InitPIN", pin), ("C_LoginUser", 1, pin, b"x")):
                assert app.call(name, *values, target=1)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            assert app.call("C_InitToken", pin, b" " * 32, target=SLOT)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED

    def test_logins_of_another_kind(self, vault):
        with vault.app(name="guesser") as app:
            assert try_pin(app, PINS["alice"], CKU_SO) == RV.CKR_USER_TYPE_INVALID
            assert try_pin(app, Null()) == RV.CKR_ARGUMENTS_BAD
            assert try_pin(app, PINS["alice"], CKU_CONTEXT_SPECIFIC) == RV.CKR_OPERATION_NOT_INITIALIZED
            log_in(app, "alice")
            assert try_pin(app, PINS["alice"], CKU_CONTEXT_SPECIFIC) == RV.CKR_OPERATION_NOT_INITIALIZED
            assert try_pin(app, PINS["bob"], CKU_CONTEXT_SPECIFIC) == RV.CKR_PIN_INCORRECT
            assert labels(app) == OF_A

    def test_a_key_that_wants_a_pin_each_time_gets_that_of_its_token(self, vault):
        with vault.app("alice", "second", flags=WRITE) as app:
            made = template({CKA_ALWAYS_AUTHENTICATE: b"\1", CKA_SIGN: b"\1", CKA_PRIVATE: b"\1"})
            public = template({CKA_MODULUS_BITS: 2048})
            generate = Mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN, Null())
            *_, key = app.good("C_GenerateKeyPair", generate, public, made, 0, 0, target=1)
            app.good("C_SignInit", RSA, key, target=1)
            assert app.call("C_Sign", DATA, Room(512, True), target=1)[0] == RV.CKR_USER_NOT_LOGGED_IN
            app.good("C_SignInit", RSA, key, target=1)
            assert try_pin(app, PINS["bob"], CKU_CONTEXT_SPECIFIC) == RV.CKR_PIN_INCORRECT
            assert try_pin(app, PINS["alice"], CKU_CONTEXT_SPECIFIC) == RV.CKR_OK
            assert len(app.output("C_Sign", DATA)) == 256


class TestSessions:
    def test_all_of_a_context_see_the_view(self, vault):
        with vault.app() as app:
            for handle in (2, 3):
                app.open(handle)
            log_in(app, "bob", session=2)
            app.open(4)
            for handle in (1, 2, 3, 4):
                assert labels(app, handle) == OF_B
                app.sign(app.object("b-rsa", session=handle), session=handle)
            app.good("C_CloseSession", target=2)
            assert app.call("C_GetSessionInfo", True, target=2)[0] == RV.CKR_SESSION_HANDLE_INVALID
            assert labels(app, 1) == OF_B
            assert app.info().session_count == 3

    def test_whoever_logs_in_second_is_told_so(self, vault):
        with vault.app("alice") as app:
            app.open(2)
            for pin in (PINS["alice"], PINS["bob"], "no pin at all", "nor this", "nor that"):
                assert try_pin(app, pin, session=2) == RV.CKR_USER_ALREADY_LOGGED_IN
            assert labels(app, 2) == OF_A
            app.good("C_Logout", target=2)
            log_in(app, "bob")

    @pytest.mark.parametrize("end", ["C_CloseSession", "C_CloseAllSessions"])
    def test_the_last_one_ends_the_login(self, vault, end):
        with vault.app("alice") as app:
            app.good(end, target=1 if end == "C_CloseSession" else SLOT)
            app.open(2)
            assert session_info(app, 2).state == CKS_RO_PUBLIC_SESSION
            assert app.find(session=2) == ()
            log_in(app, "bob", session=2)
            assert labels(app, 2) == OF_B


class TestAnotherPin:
    def test_after_a_logout_leads_elsewhere(self, vault):
        with vault.app("alice") as app:
            key = app.object("a-rsa")
            app.good("C_SignInit", RSA, key, target=1)
            app.good("C_Logout", target=1)
            assert app.find() == ()
            assert app.signed(key) == RV.CKR_USER_NOT_LOGGED_IN
            log_in(app, "bob")
            assert app.call("C_Sign", DATA, Room(512, True), target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            assert labels(app) == OF_B
            app.good("C_Logout", target=1)
            log_in(app, "alice")
            assert labels(app) == OF_A

    def test_session_objects_go_with_the_login(self, vault):
        with vault.app("alice", flags=WRITE) as app:
            app.good("C_CreateObject", NOTE, 0, target=1)
            assert labels(app) == sorted([*OF_A, "note"])
            app.good("C_Logout", target=1)
            log_in(app, "alice")
            assert labels(app) == OF_A

    def test_what_is_sent_without_waiting_is_done_in_order(self, vault):
        with vault.app("alice") as app:
            app.open(2)
            sent = []
            for view, handle in (("bob", 1), ("alice", 2)) * 3:
                sent.append(app.send_call("C_Logout", target=handle))
                sent.append(app.send_call("C_FindObjectsInit", (), target=handle))
                sent.append(app.send_call("C_FindObjectsFinal", target=handle))
                sent.append(app.send_call("C_Login", CKU_USER, PINS[view].encode(), target=handle))
                sent.append(app.send_call("C_FindObjectsInit", (), target=handle))
                sent.append(app.send_call("C_FindObjects", ROOM, target=handle))
                sent.append(app.send_call("C_FindObjectsFinal", target=handle))
            got = [app.receive() for _ in sent]
            assert {frame.header.rv for frame in got} == {RV.CKR_OK}
            assert sorted(frame.header.id for frame in got) == sorted(sent)
            assert labels(app) == OF_A

    def test_what_another_session_is_doing_is_answered_first(self, vault):
        with vault.app("alice", flags=WRITE) as app:
            app.open(2)
            makes = [app.send_call("C_SignInit", RSA, app.object("a-rsa"), target=1)]
            makes += [app.send_call("C_Sign", DATA, Room(512, True), target=1) for _ in range(1)]
            out = app.send_call("C_Logout", target=2)
            got = {frame.header.id: frame.header.rv for frame in [app.receive() for _ in range(3)]}
            assert got == dict.fromkeys([*makes, out], RV.CKR_OK)
