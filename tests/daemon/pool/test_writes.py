"""What is made at a pool with `writes = "all"` is at each of its members, and is the same there."""

from hashlib import sha256

import pytest
from tests.daemon.pool import tokens
from tests.daemon.pool.app import RSA, App
from tests.daemon.pool.writer import KEK, KEK_VALUE, NO, P256, YES, Alone, Values, Writer, aes, data, named, template

from keyway.cryptoki import (
    RV,
    SHAPES,
    Attribute,
    Mechanism,
    Null,
    NumberArray,
    Room,
    RoomBytes,
    RoomNumbers,
    Structured,
)
from keyway.cryptoki.constants import (
    CKA_ALLOWED_MECHANISMS,
    CKA_ALWAYS_SENSITIVE,
    CKA_APPLICATION,
    CKA_CERTIFICATE_TYPE,
    CKA_CLASS,
    CKA_COPYABLE,
    CKA_DECRYPT,
    CKA_DERIVE,
    CKA_DESTROYABLE,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_ENCRYPT,
    CKA_END_DATE,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_LOCAL,
    CKA_MODIFIABLE,
    CKA_NEVER_EXTRACTABLE,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_SIGN_RECOVER,
    CKA_START_DATE,
    CKA_SUBJECT,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKA_VERIFY,
    CKA_WRAP,
    CKA_WRAP_WITH_TRUSTED,
    CKC_X_509,
    CKD_NULL,
    CKK_EC,
    CKK_GENERIC_SECRET,
    CKM_AES_ECB,
    CKM_AES_KEY_WRAP_PAD,
    CKM_ECDH1_DERIVE,
    CKM_ECDSA,
    CKM_GENERIC_SECRET_KEY_GEN,
    CKM_SHA256_HMAC,
    CKM_SHA_1_HMAC,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)

MEMBERS = ("one", "two", "three")
ALL, TWO, KEYLESS, STRANGE, ALONE, FIRST_MEMBER = range(6)
POOLS = [
    tokens.pool(*MEMBERS, writes='"all"', wrapping_key=f'"{KEK}"', deadline=20),
    tokens.pool("one", "two", name="two-of-three", writes='"all"', wrapping_key=f'"{KEK}"', deadline=20),
    tokens.pool("one", "two", name="keyless", writes='"all"', deadline=20),
    tokens.pool("one", "two", name="strange", writes='"all"', wrapping_key='"nobody\'s"', deadline=20),
    tokens.pool("one", name="alone", writes='"all"', deadline=20),
]
ROOM = Room(4096, True)
BLOCK = b"sixteen bytes..."
DIGEST = sha256(b"what is signed").digest()


@pytest.fixture(scope="module", autouse=True)
def kek(shared):
    """The wrapping key: it is made like any other object."""
    with Writer(shared, ALL) as app:
        app.kek()


@pytest.fixture
def alone(shared):
    """Applications at each member alone, opened when they are asked for."""
    opened = []

    def open_() -> Alone:
        opened.append(Alone(shared, FIRST_MEMBER))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def mac(app: Writer, key: int, type_: int = CKM_SHA256_HMAC) -> bytes:
    return app.sign(key, mechanism=Mechanism(type_))


def encrypted(app: Writer, key: int) -> bytes:
    app.good("C_EncryptInit", Mechanism(CKM_AES_ECB), key, target=1)
    return app.output("C_Encrypt", BLOCK)


class TestKeys:
    def test_the_wrapping_key_is_at_each_member(self, alone):
        keys = alone().all(KEK, CKO_SECRET_KEY)
        assert len({encrypted(one, key) for one, key in keys}) == 1
        assert {one.attribute(key, CKA_EXTRACTABLE) for one, key in keys} == {NO}

    def test_rsa(self, shared, alone):
        with Writer(shared, ALL) as app:
            public, private = app.pair("new-rsa", bits=2048)
            signature = app.sign(private)
            assert app.verifies(signature, public)
            assert app.object("new-rsa") == private
            assert app.object("new-rsa", CKO_PUBLIC_KEY) == public
        for one, key in alone().all("new-rsa", CKO_PRIVATE_KEY):
            assert one.sign(key) == signature
            assert one.verifies(signature, one.object("new-rsa", CKO_PUBLIC_KEY))

    def test_ec(self, shared, alone):
        ecdsa = Mechanism(CKM_ECDSA)
        with Writer(shared, ALL) as app:
            public, private = app.pair("new-ec")
            signatures = [app.sign(private, DIGEST, ecdsa)]
            assert (app.object("new-ec", CKO_PUBLIC_KEY), app.object("new-ec")) == (public, private)
        each = alone()
        signatures += [one.sign(key, DIGEST, ecdsa) for one, key in each.all("new-ec", CKO_PRIVATE_KEY)]
        for one, key in each.all("new-ec", CKO_PUBLIC_KEY):
            for signature in signatures:
                one.good("C_VerifyInit", ecdsa, key, target=1)
                one.good("C_Verify", DIGEST, signature, target=1)

    def test_aes(self, shared, alone):
        with Writer(shared, ALL) as app:
            ciphertext = encrypted(app, app.key("new-aes"))
        for one, key in alone().all("new-aes", CKO_SECRET_KEY):
            assert encrypted(one, key) == ciphertext

    @pytest.mark.parametrize(("length", "mechanism"), [(32, CKM_SHA256_HMAC), (21, CKM_SHA_1_HMAC)])
    def test_generic(self, shared, alone, length, mechanism):
        with Writer(shared, ALL) as app:
            made = mac(app, app.generic(f"generic-{length}", length=length), mechanism)
        for one, key in alone().all(f"generic-{length}", CKO_SECRET_KEY):
            assert mac(one, key, mechanism) == made

    @pytest.mark.parametrize("told", [{CKA_EXTRACTABLE: NO}, {}], ids=["said", "not said"])
    def test_it_ends_unextractable(self, shared, alone, told):
        label = f"sealed-{len(told)}"
        with Writer(shared, ALL) as app:
            _, private = app.pair(label, told)
            secret = app.generic(label, told)
            for key in (private, secret):
                assert app.attribute(key, CKA_EXTRACTABLE) == NO
        each = alone()
        for class_ in (CKO_PRIVATE_KEY, CKO_SECRET_KEY):
            for one, key in each.all(label, class_):
                assert one.attribute(key, CKA_EXTRACTABLE) == NO
                # It was extractable once, and says so.
                assert one.attribute(key, CKA_NEVER_EXTRACTABLE) == NO
                rv, _ = one.call(
                    "C_WrapKey",
                    Mechanism(CKM_AES_KEY_WRAP_PAD),
                    one.object(KEK, CKO_SECRET_KEY),
                    key,
                    ROOM,
                    target=1,
                )
                assert rv == RV.CKR_KEY_UNEXTRACTABLE

    def test_it_stays_extractable_if_that_is_wanted(self, shared, alone):
        with Writer(shared, ALL) as app:
            app.pair("open", {CKA_EXTRACTABLE: YES})
            app.generic("open", {CKA_EXTRACTABLE: YES, CKA_SENSITIVE: NO})
        each = alone()
        values = {one.attribute(key, CKA_VALUE) for one, key in each.all("open", CKO_SECRET_KEY)}
        assert len(values) == 1
        for class_ in (CKO_PRIVATE_KEY, CKO_SECRET_KEY):
            for one, key in each.all("open", class_):
                assert one.attribute(key, CKA_EXTRACTABLE) == YES

    def test_where_it_was_made(self, shared, alone):
        with Writer(shared, ALL) as app:
            app.generic("local", {CKA_SENSITIVE: YES})
        told = [
            (one.attribute(key, CKA_LOCAL), one.attribute(key, CKA_ALWAYS_SENSITIVE))
            for one, key in alone().all("local", CKO_SECRET_KEY)
        ]
        assert told == [(YES, YES), (NO, NO), (NO, NO)]

    def test_attributes_go_along(self, shared, alone):
        dates: Values = {CKA_START_DATE: b"20260101", CKA_END_DATE: b"20361231"}
        rights: Values = {CKA_SIGN: NO, CKA_DERIVE: YES, CKA_SENSITIVE: NO, CKA_SUBJECT: b"0\0", CKA_COPYABLE: NO}
        allowed: Values = {CKA_ALLOWED_MECHANISMS: NumberArray((CKM_ECDSA, CKM_ECDH1_DERIVE))}
        fixed: Values = {CKA_MODIFIABLE: NO, CKA_EXTRACTABLE: YES, CKA_ENCRYPT: NO, CKA_SENSITIVE: NO}
        with Writer(shared, ALL) as app:
            app.pair("told", rights | allowed, dates | {CKA_VERIFY: NO, CKA_ENCRYPT: YES, CKA_PRIVATE: NO})
            # SoftHSM can't tell the dates of a private object.
            app.generic("told", dates, allowed, fixed)
        asked = {
            CKO_PUBLIC_KEY: (CKA_VERIFY, CKA_ENCRYPT, CKA_WRAP, CKA_EC_PARAMS, CKA_EC_POINT, *dates),
            CKO_PRIVATE_KEY: (CKA_SIGN, CKA_SIGN_RECOVER, CKA_SENSITIVE, CKA_SUBJECT, CKA_DECRYPT, CKA_UNWRAP),
            CKO_SECRET_KEY: (CKA_SIGN, CKA_VERIFY, CKA_SENSITIVE, CKA_ENCRYPT, CKA_DECRYPT, CKA_MODIFIABLE),
        }
        given = {
            CKO_PUBLIC_KEY: dates,
            CKO_PRIVATE_KEY: rights | allowed,
            CKO_SECRET_KEY: allowed | fixed,
        }
        common = (CKA_ID, CKA_DERIVE, CKA_PRIVATE, CKA_COPYABLE, CKA_DESTROYABLE)
        each = alone()
        for class_, types in asked.items():
            query = tuple(Attribute(type_, RoomBytes(256)) for type_ in (*types, *common))
            numbers = () if class_ == CKO_PUBLIC_KEY else (Attribute(CKA_ALLOWED_MECHANISMS, RoomNumbers(8)),)
            answers = {
                one.good("C_GetAttributeValue", key, query + numbers, target=1) for one, key in each.all("told", class_)
            }
            assert len(answers) == 1, class_
            ((answer,),) = answers
            values = {attribute.type: attribute.value for attribute in answer}
            assert values.items() >= {type_: value for type_, value in given[class_].items() if type_ in values}.items()

    def test_of_a_pair_only_one_for_the_token(self, shared, alone):
        with Writer(shared, ALL) as app:
            public, private = app.pair("half", {}, {CKA_TOKEN: NO})
            signature = app.sign(private, DIGEST, Mechanism(CKM_ECDSA))
            app.good("C_VerifyInit", Mechanism(CKM_ECDSA), public, target=1)
            app.good("C_Verify", DIGEST, signature, target=1)
        assert alone().has("half") == [1, 1, 1]

    def test_key_pairs_with_one_label_are_told_apart(self, shared, alone):
        with Writer(shared, ALL) as app:
            pairs = [app.pair("twin", bits=1024) for _ in range(2)]
            assert len({*pairs[0], *pairs[1]}) == 4
            for public, private in pairs:
                assert app.verifies(app.sign(private), public)
        assert alone().has("twin") == [4, 4, 4]

    def test_private_keys_that_do_not_tell_their_public_keys_are_not(self, shared, alone):
        with Writer(shared, ALL) as app:
            app.pair("twin-ec")
            assert app.try_pair("twin-ec")[0] == RV.CKR_TEMPLATE_INCONSISTENT
            app.pair("twin-ec", id_=b"\x78")
        assert alone().has("twin-ec") == [4, 4, 4]

    def test_secret_keys_that_nothing_tells_apart_are_refused(self, shared, alone):
        with Writer(shared, ALL) as app:
            app.generic("double")
            assert app.try_key("double", type_=CKM_GENERIC_SECRET_KEY_GEN)[0] == RV.CKR_TEMPLATE_INCONSISTENT
            given = template(aes("double", KEK_VALUE), {CKA_KEY_TYPE: CKK_GENERIC_SECRET})
            assert app.call("C_CreateObject", given, 0, target=1)[0] == RV.CKR_TEMPLATE_INCONSISTENT
            # Anything that tells them apart will do.
            app.generic("double", {CKA_ID: b"\x78"})
            app.key("double")
        assert alone().has("double") == [3, 3, 3]


class TestGivenObjects:
    def test_data(self, shared, alone):
        with Writer(shared, ALL) as app:
            handle = app.create(data("data", b"\0\1\2"), {CKA_APPLICATION: b"tests"})
            assert app.attribute(handle, CKA_VALUE) == b"\0\1\2"
            assert app.find(Attribute(CKA_LABEL, b"data")) == (handle,)
        for one, found in alone().all("data", CKO_DATA):
            assert one.attribute(found, CKA_VALUE) == b"\0\1\2"
            assert one.attribute(found, CKA_APPLICATION) == b"tests"

    def test_certificate(self, shared, alone):
        values = {
            **named("certificate"),
            CKA_CLASS: CKO_CERTIFICATE,
            CKA_CERTIFICATE_TYPE: CKC_X_509,
            CKA_SUBJECT: b"0\0",
            CKA_VALUE: b"0\3no!",
            CKA_PRIVATE: NO,
        }
        with Writer(shared, ALL) as app:
            # The same twice is the same twice.
            assert len({app.create(values), app.create(values)}) == 2
        each = alone()
        assert each.has("certificate") == [2, 2, 2]
        for one in each.apps:
            for handle in one.find(Attribute(CKA_LABEL, b"certificate")):
                assert one.attribute(handle, CKA_VALUE) == b"0\3no!"

    def test_a_key_pair_whose_halves_come_one_after_the_other(self, shared, alone):
        with Writer(shared, ALL) as app:
            public, private = app.pair("source", {CKA_EXTRACTABLE: YES, CKA_SENSITIVE: NO})
            point, value = app.attribute(public, CKA_EC_POINT), app.attribute(private, CKA_VALUE)
            common = {CKA_KEY_TYPE: CKK_EC, CKA_EC_PARAMS: P256} | named("import", b"\x79")
            private = app.create(
                common, {CKA_CLASS: CKO_PRIVATE_KEY, CKA_VALUE: value, CKA_SIGN: YES, CKA_PRIVATE: YES}
            )
            public = app.create(common, {CKA_CLASS: CKO_PUBLIC_KEY, CKA_EC_POINT: point, CKA_VERIFY: YES})
            # Its name would be another now that the public key is there. The client has the first one.
            signature = app.sign(private, DIGEST, Mechanism(CKM_ECDSA))
            app.good("C_VerifyInit", Mechanism(CKM_ECDSA), public, target=1)
            app.good("C_Verify", DIGEST, signature, target=1)
        assert alone().has("import") == [2, 2, 2]

    def test_a_new_key_takes_the_label_of_an_old_one(self, shared, alone):
        with Writer(shared, ALL) as app:
            old = app.generic("current")
            of_old = mac(app, old)
            app.good("C_SetAttributeValue", old, (Attribute(CKA_LABEL, b"former"),), target=1)
            new = app.generic("current")
            of_new = mac(app, new)
            assert of_old != of_new
            assert (mac(app, old), mac(app, new)) == (of_old, of_new)
        each = alone()
        for label, expected in (("former", of_old), ("current", of_new)):
            for one, key in each.all(label, CKO_SECRET_KEY):
                assert mac(one, key) == expected

    def test_copies_of_token_objects(self, shared, alone):
        with Writer(shared, KEYLESS) as app:
            key = app.object(KEK, CKO_SECRET_KEY)
            note = app.create(data("first"))
            for handle, label in ((key, "kek-copy"), (note, "data-copy")):
                (copy,) = app.good("C_CopyObject", handle, (Attribute(CKA_LABEL, label.encode()),), 0, target=1)
                assert app.attribute(copy, CKA_LABEL) == label.encode()
        each = alone()
        assert (each.has("kek-copy"), each.has("data-copy")) == ([1, 1, 0], [1, 1, 0])

    def test_copies_of_session_objects(self, shared, alone):
        to_token = (Attribute(CKA_TOKEN, YES),)
        with Writer(shared, ALL) as app:
            open_ = app.generic("s-open", {CKA_TOKEN: NO, CKA_EXTRACTABLE: YES})
            closed = app.generic("s-closed", {CKA_TOKEN: NO, CKA_EXTRACTABLE: NO})
            note = app.create(data("s-data"), {CKA_TOKEN: NO})
            made = mac(app, open_)
            (stays,) = app.good("C_CopyObject", open_, to_token, 0, target=1)
            sealed = (*to_token, Attribute(CKA_EXTRACTABLE, NO), Attribute(CKA_LABEL, b"s-sealed"))
            app.good("C_CopyObject", open_, sealed, 0, target=1)
            assert mac(app, stays) == made
            assert app.call("C_CopyObject", closed, to_token, 0, target=1)[0] == RV.CKR_KEY_UNEXTRACTABLE
            app.good("C_CopyObject", note, to_token, 0, target=1)
        each = alone()
        for label, is_extractable in (("s-open", YES), ("s-sealed", NO)):
            for one, key in each.all(label, CKO_SECRET_KEY):
                assert mac(one, key) == made
                assert one.attribute(key, CKA_EXTRACTABLE) == is_extractable
        assert each.has("s-closed") == [0, 0, 0]
        assert each.has("s-data") == [1, 1, 1]

    def test_unwrapped_keys_need_no_wrapping_key_of_the_pool(self, shared, alone):
        with Writer(shared, KEYLESS) as app:
            kek = app.object(KEK, CKO_SECRET_KEY)
            key = app.generic("to-wrap", {CKA_TOKEN: NO, CKA_EXTRACTABLE: YES})
            made = mac(app, key)
            pad = Mechanism(CKM_AES_KEY_WRAP_PAD)
            _, wrapped = app.good("C_WrapKey", pad, kek, key, ROOM, target=1)
            values = {CKA_CLASS: CKO_SECRET_KEY, CKA_KEY_TYPE: CKK_GENERIC_SECRET, CKA_SIGN: YES, CKA_EXTRACTABLE: NO}
            unwrapped = template(named("unwrapped"), values)
            _, handle = app.good("C_UnwrapKey", pad, kek, wrapped.data, unwrapped, 0, target=1)
            assert mac(app, handle) == made
        each = alone()
        assert each.has("unwrapped") == [1, 1, 0]
        for one in each.apps[:2]:
            assert mac(one, one.object("unwrapped", CKO_SECRET_KEY)) == made


class TestDerivedKeys:
    @pytest.mark.parametrize("of", ["token", "session"])
    def test_they_are_copied(self, shared, alone, of):
        is_token = YES if of == "token" else NO
        label = f"derived-{of}"
        with Writer(shared, ALL) as app:
            peer, _ = app.pair("peer", {CKA_TOKEN: NO}, {CKA_TOKEN: NO})
            point = app.attribute(peer, CKA_EC_POINT)
            _, base = app.pair(f"base-{of}", {CKA_DERIVE: YES, CKA_TOKEN: is_token})
            shape = next(n for n, each in SHAPES.items() if each.name == "CK_ECDH1_DERIVE_PARAMS")
            ecdh = Mechanism(CKM_ECDH1_DERIVE, Structured(shape, (CKD_NULL, Null(), point)))
            values = {
                CKA_CLASS: CKO_SECRET_KEY,
                CKA_KEY_TYPE: CKK_GENERIC_SECRET,
                CKA_VALUE_LEN: 32,
                CKA_SIGN: YES,
            }
            _, handle = app.good("C_DeriveKey", ecdh, base, template(named(label), values), 0, target=1)
            made = mac(app, handle)
        for one, key in alone().all(label, CKO_SECRET_KEY):
            assert mac(one, key) == made
            assert one.attribute(key, CKA_EXTRACTABLE) == NO


class TestWhoDecides:
    def test_the_first_member_refuses(self, shared, alone):
        for member in shared.members:
            member.forget()
        with Writer(shared, ALL, flags=4) as app:  # A session for reading only.
            assert app.call("C_CreateObject", template(data("refused")), 0, target=1)[0] == RV.CKR_SESSION_READ_ONLY
            assert app.try_key("refused")[0] == RV.CKR_SESSION_READ_ONLY
        assert [member.calls("C_CreateObject") for member in shared.members] == [1, 0, 0]
        assert [member.calls("C_GenerateKey") for member in shared.members] == [1, 0, 0]
        assert alone().has("refused") == [0, 0, 0]

    def test_each_member_is_asked_once(self, shared):
        for member in shared.members:
            member.forget()
        with Writer(shared, ALL) as app:
            app.create(data("once"))
            app.pair("once")
            app.generic("once")
        counts = {
            call: [member.calls(call) for member in shared.members]
            for call in ("C_CreateObject", "C_GenerateKeyPair", "C_GenerateKey", "C_WrapKey", "C_UnwrapKey")
        }
        assert counts == {
            "C_CreateObject": [1, 2, 2],
            "C_GenerateKeyPair": [1, 0, 0],
            "C_GenerateKey": [1, 0, 0],
            "C_WrapKey": [2, 0, 0],
            "C_UnwrapKey": [0, 2, 2],
        }


class TestWhatCannotBeCopied:
    @pytest.mark.parametrize(("slot", "word"), [(KEYLESS, "no wrapping_key"), (STRANGE, "0 AES keys called")])
    def test_without_a_wrapping_key(self, shared, alone, slot, word):
        label = f"unwrapped-{slot}"
        with Writer(shared, slot) as app:
            for member in shared.members:
                member.forget()
            assert app.try_key(label)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            assert app.try_pair(label)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            assert [member.calls("C_GenerateKey") for member in shared.members] == [0, 0, 0]
            # What needs none is made all the same.
            app.pair(label, {CKA_TOKEN: NO})
            app.create(data(label))
        assert alone().has(label) == [2, 2, 0]
        refused = [entry for entry in shared.daemon.events("pool write refused") if word in entry["why"]]
        assert {entry["call"] for entry in refused} == {"C_GenerateKey", "C_GenerateKeyPair"}
        assert {entry["level"] for entry in refused} == {"warning"}

    def test_a_wrapping_key_that_is_there_twice(self, shared, alone):
        with Writer(shared, STRANGE) as app:
            keys = [app.kek("nobody's", {CKA_ID: bytes([at])}) for at in range(2)]
            assert app.try_key("ambiguous")[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            app.good("C_DestroyObject", keys.pop(), target=1)
            app.key("unambiguous")
            # One that may not be used for it is as good as none.
            app.good("C_SetAttributeValue", keys[0], (Attribute(CKA_WRAP, NO),), target=1)
            assert app.try_key("ambiguous")[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            app.good("C_SetAttributeValue", keys[0], template({CKA_WRAP: YES, CKA_UNWRAP: NO}), target=1)
            assert app.try_key("ambiguous")[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
            app.good("C_DestroyObject", keys.pop(), target=1)
        each = alone()
        assert (each.has("ambiguous"), each.has("unambiguous")) == ([0, 0, 0], [1, 1, 0])
        whys = [entry["why"] for entry in shared.daemon.events("pool write refused")]
        for word in ("2 AES keys called", "may not wrap", "may not unwrap"):
            assert any(word in why for why in whys)

    @pytest.mark.parametrize("told", [{CKA_WRAP_WITH_TRUSTED: YES}, {CKA_MODIFIABLE: NO}])
    def test_keys_that_forbid_it(self, shared, alone, told):
        (type_,) = told
        with Writer(shared, ALL) as app:
            assert app.try_key("forbidden", told)[0] == RV.CKR_KEY_UNEXTRACTABLE
            assert app.try_pair("forbidden", told)[0] == RV.CKR_KEY_UNEXTRACTABLE
        assert alone().has("forbidden") == [0, 0, 0]
        word = "CKA_WRAP_WITH_TRUSTED" if type_ == CKA_WRAP_WITH_TRUSTED else "CKA_MODIFIABLE"
        assert any(word in entry["why"] for entry in shared.daemon.events("pool write refused"))

    def test_nobody_is_logged_in(self, shared, alone):
        with Writer(shared, ALL, login=False) as app:
            assert app.try_key("nobody")[0] == RV.CKR_USER_NOT_LOGGED_IN
            # Public objects need no login.
            app.create(data("public"))
        each = alone()
        assert (each.has("public"), each.has("nobody")) == ([1, 1, 1], [0, 0, 0])

    def test_a_pool_of_one_has_nothing_to_copy(self, shared, alone):
        with Writer(shared, ALONE) as app:
            key = app.key("lonely")
            assert app.attribute(key, CKA_NEVER_EXTRACTABLE) == YES
        assert alone().has("lonely") == [1, 0, 0]


class TestNames:
    def test_other_clients_find_it_by_the_same(self, shared):
        with Writer(shared, ALL) as app, App(shared.daemon, ALL) as other:
            other.object("rsa")  # It has listed what there is.
            public, private = app.pair("shown", bits=1024)
            assert (other.object("shown", CKO_PUBLIC_KEY), other.object("shown")) == (public, private)
            assert other.sign(private) == app.sign(private)
            with App(shared.daemon, ALL) as late:
                assert late.sign(private, mechanism=RSA) == app.sign(private)

    def test_a_label_that_changes_hands_while_others_have_the_handle(self, pools):
        one, two, _ = pools.members
        with Writer(pools, TWO) as app, Writer(pools, TWO) as other, Writer(pools, TWO) as third:
            old = app.generic("passed on")
            of_old = mac(app, old)
            assert mac(other, old) == of_old
            assert other.object("passed on", CKO_SECRET_KEY) == old
            app.good("C_SetAttributeValue", old, (Attribute(CKA_LABEL, b"given away"),), target=1)
            new = third.generic("passed on")
            of_new = mac(third, new)
            # Whatever member they are at, whoever had a handle before means the same by it.
            for killed in ((), (one,), (two,), (one, two)):
                for member in killed:
                    member.kill()
                assert (mac(app, old), mac(other, old), mac(third, new)) == (of_old, of_old, of_new)

    def test_the_members_are_as_good_as_each_other(self, pools):
        with Writer(pools, TWO) as app:
            key = app.generic("anywhere")
            made = mac(app, key)
            for member in pools.members[:2]:
                member.kill()
                assert mac(app, key) == made

    def test_session_objects_stay_where_they_are(self, shared, alone):
        with Writer(shared, KEYLESS) as app:
            key = app.generic("passing", {CKA_TOKEN: NO})
            assert mac(app, key)
            assert alone().has("passing") == [0, 0, 0]


@pytest.mark.parametrize("wrap", ["gcm", "gcm-own"])
def test_keys_travel_under_gcm(member, pool, wrap):
    """A stand-in: SoftHSM does not wrap with CKM_AES_GCM. With the second one the token changes the IV, as some do."""
    one, two = member("one", wrap=wrap), member("two", wrap=wrap)
    pools = pool(one, two, writes='"all"', wrapping_key=f'"{KEK}"', deadline=20)
    with Writer(pools) as app:
        app.kek()
        _, private = app.pair("gcm", bits=1024)
        signature = app.sign(private)
        made = mac(app, app.generic("gcm"))
    with Alone(pools, 1) as each:
        assert [one.sign(key) for one, key in each.all("gcm", CKO_PRIVATE_KEY)] == [signature] * 2
        assert [mac(one, key) for one, key in each.all("gcm", CKO_SECRET_KEY)] == [made] * 2
    ivs = (one.folder / "ivs").read_text().split()
    assert len(ivs) == len({*ivs}) == 2


def test_nothing_secret_is_logged(shared):
    log = shared.daemon.log()
    for secret in (KEK_VALUE.hex(), KEK_VALUE.hex().upper(), repr(KEK_VALUE)[2:-1], KEK_VALUE.hex(" "), tokens.PIN):
        assert secret not in log
