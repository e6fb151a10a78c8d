"""What an identity may not do or see, it can't, whatever it sends."""

import pytest
from tests.daemon.guard.guests import OTHER, SLOT
from tests.daemon.pool.app import RSA, WRITE
from tests.daemon.pool.writer import P256, template

from keyway.cryptoki import (
    RV,
    Attribute,
    Mechanism,
    MechanismInfo,
    Null,
    Numbers,
    ObjectsRoom,
    Room,
    RoomBytes,
    call_named,
)
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_EC_PARAMS,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_PRIVATE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKF_DECRYPT,
    CKF_ENCRYPT,
    CKF_SIGN,
    CKF_UNWRAP,
    CKF_VERIFY,
    CKF_WRAP,
    CKF_WRITE_PROTECTED,
    CKM_AES_KEY_GEN,
    CKM_EC_KEY_PAIR_GEN,
    CKM_ECDSA,
    CKM_GENERIC_SECRET_KEY_GEN,
    CKM_RSA_PKCS,
    CKM_SHA256_RSA_PKCS,
    CKM_SHA512_RSA_PKCS,
    CKO_DATA,
    CKO_PRIVATE_KEY,
)
from keyway.daemon.guard.guard import GUARD_IDS, INNER_IDS
from keyway.daemon.link import OWN_IDS
from keyway.wire.ahead import READ_AHEAD, Query, ReadAhead, encode_read_ahead
from keyway.wire.codec import decode_reply, encode_fused, encode_request
from keyway.wire.header import Flags

EVERY = ["rsa", "ec", "aes", "note"]
FLAGS_OF_RSA = CKF_SIGN | CKF_VERIFY | CKF_ENCRYPT | CKF_DECRYPT | CKF_WRAP | CKF_UNWRAP


def labels(app):
    found = app.find()
    return sorted({app.attribute(each, CKA_LABEL).decode() for each in found})


def mechanisms(app, slot=SLOT):
    (count,) = app.good("C_GetMechanismList", Room(0, False), target=slot)
    (listed,) = app.good("C_GetMechanismList", Room(count.count, True), target=slot)
    assert isinstance(listed, Numbers)
    return listed.data


class TestTokens:
    def test_who_is_nobody_sees_nothing(self, guests):
        with guests.app("stranger", session=False) as app:
            assert app.slots(present=False) == ()
            for call, values in (("C_GetTokenInfo", (True,)), ("C_OpenSession", (WRITE, 1))):
                assert app.call(call, *values, target=SLOT)[0] == RV.CKR_SLOT_ID_INVALID
            assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_SESSION_HANDLE_INVALID

    def test_each_sees_its_own(self, guests):
        with guests.app("owner", session=False) as app:
            assert app.slots(present=False) == (SLOT, OTHER)
        with guests.app("signer", session=False) as app:
            assert app.slots(present=False) == (SLOT,)
            assert app.call("C_GetSlotInfo", True, target=OTHER)[0] == RV.CKR_SLOT_ID_INVALID

    def test_it_is_logged_who_it_is(self, guests):
        with guests.app("signer"):
            pass
        assert any(entry.get("identity") == "signer" for entry in guests.daemon.events("context opened"))


class TestObjects:
    def test_only_what_is_allowed_is_found(self, guests):
        with guests.app("owner") as app:
            assert labels(app) == sorted(EVERY)
        with guests.app("signer") as app:
            assert labels(app) == ["rsa"]
            assert app.find(Attribute(CKA_LABEL, b"ec")) == ()

    def test_one_at_a_time_finds_as_much(self, guests):
        with guests.app("signer") as app:
            whole = app.find()
            app.good("C_FindObjectsInit", (), target=1)
            found = []
            while some := app.more(1):
                found += some
            app.good("C_FindObjectsFinal", target=1)
            assert sorted(found) == sorted(whole)

    def test_guessed_handles_are_as_those_that_are_not_there(self, guests):
        with guests.app("owner") as app:
            number = len(app.find())
        with guests.app("signer") as app:
            seen = set(app.find())
            answers = set()
            for handle in range(1, 4 * number):
                read = app.call("C_GetAttributeValue", handle, (Attribute(CKA_LABEL, RoomBytes(64)),), target=1)[0]
                used = app.signed(handle)
                fused = app.signed(handle, fused=True)
                if handle in seen:
                    assert read == RV.CKR_OK
                else:
                    answers.add((read, used, fused))
            hidden = (RV.CKR_OBJECT_HANDLE_INVALID, RV.CKR_KEY_HANDLE_INVALID, RV.CKR_KEY_HANDLE_INVALID)
            assert answers == {hidden}

    @pytest.mark.parametrize("own_ids", [OWN_IDS, GUARD_IDS, INNER_IDS])
    def test_the_id_of_a_request_makes_no_difference(self, guests, own_ids):
        """Not even if it is one that the daemon itself would use: another gateway's own calls have such."""

        def call(app, id_, name, *values):
            row = call_named(name)
            object_, body = encode_request(row, values)
            app.send(row.number, body, target=1, object_=object_, id_=id_)
            frame = app.receive()
            assert frame.header.id == id_
            return frame.header.rv, decode_reply(row, frame.body)

        with guests.app("owner") as app:
            number = len(app.find())
        with guests.app("signer") as app:
            seen = app.find()
            assert call(app, own_ids + 1, "C_FindObjectsInit", ()) == (RV.CKR_OK, ())
            rv, (found,) = call(app, own_ids + 2, "C_FindObjects", ObjectsRoom(64, has_count=True, has_buffer=True))
            assert (rv, sorted(found.data)) == (RV.CKR_OK, sorted(seen))
            assert call(app, own_ids + 3, "C_FindObjectsFinal") == (RV.CKR_OK, ())
            hidden = set(range(1, 4 * number)) - set(seen)
            query = (Attribute(CKA_LABEL, RoomBytes(64)),)
            told = {call(app, own_ids + handle, "C_GetAttributeValue", handle, query) for handle in hidden}
            assert told == {(RV.CKR_OBJECT_HANDLE_INVALID, ())}

    def test_nor_does_it_for_a_large_one(self, guests):
        row = call_named("C_Sign")
        with guests.app("signer") as app:
            key = app.object("rsa")
            for size in (16, 1 << 20):
                object_, body = encode_fused(
                    row, (Mechanism(CKM_SHA512_RSA_PKCS, Null()), key), (bytes(size), Room(512, True))
                )
                for id_ in (OWN_IDS + 1, 1000 + size):
                    app.send(row.number, body, target=1, object_=object_, flags=Flags.FUSED, id_=id_)
                    told = app.receive().header
                    assert (told.id, told.rv) == (id_, RV.CKR_MECHANISM_INVALID)

    def test_an_object_that_gets_a_guessed_handle_is_seen_at_once(self, guests):
        made = template({CKA_LABEL: b"left-1", CKA_VALUE_LEN: 16, CKA_TOKEN: b"\0", CKA_SIGN: b"\1"})
        with guests.app("left") as app:
            read = (Attribute(CKA_LABEL, RoomBytes(64)),)
            for handle in range(1, 64):
                app.call("C_GetAttributeValue", handle, read, target=1)
            app.good("C_GenerateKey", Mechanism(CKM_GENERIC_SECRET_KEY_GEN, Null()), made, 0, target=1)
            (found,) = app.find()
            assert found < 64

    def test_reading_ahead_tells_no_more(self, guests):
        def ahead(app, *attributes):
            query = encode_request(call_named("C_GetAttributeValue"), (0, tuple(attributes))).body
            body = encode_read_ahead(ReadAhead(65_536, (Query(False, query),), tuple(app.find())))
            app.send(READ_AHEAD, body, target=1)
            return app.receive().header.rv

        label, value = Attribute(CKA_LABEL, RoomBytes(64)), Attribute(CKA_VALUE, RoomBytes(64))
        with guests.app("signer") as app:
            assert ahead(app, label) == RV.CKR_FUNCTION_NOT_SUPPORTED
        with guests.app("reader") as app:
            assert ahead(app, label) == RV.CKR_OK
            assert ahead(app, label, value) == RV.CKR_ATTRIBUTE_SENSITIVE
        with guests.app("owner") as app:
            assert ahead(app, label, value) == RV.CKR_OK
        with guests.app("blind") as app:
            app.send(READ_AHEAD, encode_read_ahead(ReadAhead(65_536, (), (1,))), target=1)
            assert app.receive().header.rv == RV.CKR_FUNCTION_NOT_SUPPORTED


class TestMechanisms:
    def test_list(self, guests):
        with guests.app("owner") as app:
            everything = mechanisms(app)
        with guests.app("signer") as app:
            assert mechanisms(app) == (CKM_RSA_PKCS, CKM_SHA256_RSA_PKCS)
            rv, (told,) = app.call("C_GetMechanismList", Room(1, True), target=SLOT)
            assert (rv, told.count) == (RV.CKR_BUFFER_TOO_SMALL, 2)
        assert CKM_ECDSA in everything

    def test_info(self, guests):
        with guests.app("signer") as app:
            (info,) = app.good("C_GetMechanismInfo", CKM_RSA_PKCS, True, target=SLOT)
            assert isinstance(info, MechanismInfo)
            assert info.flags & FLAGS_OF_RSA == CKF_SIGN
            with guests.app("owner") as owner:
                (whole,) = owner.good("C_GetMechanismInfo", CKM_RSA_PKCS, True, target=SLOT)
            assert whole.flags & FLAGS_OF_RSA == FLAGS_OF_RSA
            assert whole.flags & ~FLAGS_OF_RSA == info.flags & ~FLAGS_OF_RSA
            assert (whole.min_key_size, whole.max_key_size) == (info.min_key_size, info.max_key_size)
            rv, _ = app.call("C_GetMechanismInfo", CKM_ECDSA, True, target=SLOT)
            assert rv == RV.CKR_MECHANISM_INVALID

    @pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
    def test_use(self, guests, fused):
        with guests.app("owner") as owner, guests.app("signer") as app:
            key = app.object("rsa")
            made = app.sign(key)
            assert owner.verifies(made, owner.object("rsa"))
            for _ in range(3):
                assert app.signed(key, fused=fused) == RV.CKR_OK
                refused = Mechanism(CKM_SHA512_RSA_PKCS, Null())
                assert app.signed(key, mechanism=refused, fused=fused) == RV.CKR_MECHANISM_INVALID
            # The session is none the worse for it.
            assert app.sign(key) == made


class TestFunctions:
    def test_what_is_not_named_is_not_there(self, guests):
        with guests.app("signer", flags=WRITE) as app:
            key = app.object("rsa")
            assert app.call("C_DecryptInit", RSA, key, target=1)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            assert app.call("C_DestroyObject", key, target=1)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            generate = (Mechanism(CKM_AES_KEY_GEN, Null()), (), 0)
            assert app.call("C_GenerateKey", *generate, target=1)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            assert app.call("C_InitToken", b"pin", b"x" * 32, target=SLOT)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED

    def test_read_only(self, guests):
        with guests.app("owner", session=False) as app:
            assert not app.info().flags & CKF_WRITE_PROTECTED
        with guests.app("reader", session=False) as app:
            assert app.info().flags & CKF_WRITE_PROTECTED
            rv, _ = app.call("C_OpenSession", WRITE, 1, target=SLOT)
            assert rv == RV.CKR_TOKEN_WRITE_PROTECTED
        with guests.app("reader") as app:
            assert labels(app) == sorted(EVERY)
            app.sign(app.object("rsa"))
            key = app.object("rsa")
            rv, _ = app.call("C_SetAttributeValue", key, (Attribute(CKA_LABEL, b"other"),), target=1)
            assert rv in (RV.CKR_SESSION_READ_ONLY, RV.CKR_TOKEN_WRITE_PROTECTED)

    def test_a_session_that_could_not_be_closed_is_not_left_unguarded(self, guests):
        with guests.app("signer") as app:
            app.good("C_CloseSession", target=1)
            assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_SESSION_HANDLE_INVALID


class TestMaking:
    def data(self, label):
        return template(
            {CKA_CLASS: CKO_DATA, CKA_TOKEN: b"\1", CKA_PRIVATE: b"\0", CKA_LABEL: label, CKA_VALUE: b"some data"}
        )

    def test_what_is_made_must_be_visible(self, guests):
        with guests.app("left", flags=WRITE) as app, guests.app("right", flags=WRITE) as other:
            (handle,) = app.good("C_CreateObject", self.data(b"left-1"), 0, target=1)
            assert app.attribute(handle, CKA_VALUE) == b"some data"
            for label in (b"right-1", b"rsa", b""):
                assert app.call("C_CreateObject", self.data(label), 0, target=1)[0] != RV.CKR_OK
            assert other.find() == ()
            rename = (Attribute(CKA_LABEL, b"right-2"),)
            assert app.call("C_SetAttributeValue", handle, rename, target=1)[0] != RV.CKR_OK
            assert app.call("C_CopyObject", handle, rename, 0, target=1)[0] != RV.CKR_OK
            app.good("C_SetAttributeValue", handle, (Attribute(CKA_LABEL, b"left-2"),), target=1)
            assert labels(app) == ["left-2"]
            app.good("C_DestroyObject", handle, target=1)
            assert app.find() == ()

    def test_keys_that_could_leave(self, guests):
        pair = ({CKA_EC_PARAMS: P256, CKA_LABEL: b"left-pair", CKA_TOKEN: b"\0"}, {CKA_LABEL: b"left-pair"})
        with guests.app("left", flags=WRITE) as app:
            mechanism = Mechanism(CKM_EC_KEY_PAIR_GEN, Null())
            for more, is_allowed in (({}, True), ({0x162: b"\1"}, False), ({0x103: b"\0"}, False)):
                public, private = template(pair[0]), template(pair[1], {CKA_TOKEN: b"\0"}, more)
                rv, _ = app.call("C_GenerateKeyPair", mechanism, public, private, 0, 0, target=1)
                assert (rv == RV.CKR_OK) is is_allowed, more
            assert app.object("left-pair", CKO_PRIVATE_KEY)


def test_attributes_of_a_key(guests):
    with guests.app("signer") as app:
        assert len(app.attribute(app.object("rsa"), CKA_MODULUS)) == 256
