"""Searching, and what objects are called: the union of the members, under names that are the same everywhere."""

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.app import DATA, RSA, WRITE, App
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Attribute, Mechanism, Null, Room
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_ID,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_MODULUS_BITS,
    CKA_PRIVATE,
    CKA_PUBLIC_EXPONENT,
    CKA_TOKEN,
    CKA_VALUE,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKO_DATA,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)

FAILOVER, BALANCE, WRITES, ONE, TWO = range(5)
POOLS = [
    section("one", "two", deadline=20),
    section("one", "two", name="spread", policy='"balance"', deadline=20),
    section("one", "two", name="writes", writes='"first"', deadline=20),
]
YES, NO = b"\1", b"\0"
both_policies = pytest.mark.parametrize("slot", [FAILOVER, BALANCE], ids=["failover", "balance"])


def note(app: App, label: str, value: bytes = b"value") -> None:
    """Make a public data object on the token."""
    app.good(
        "C_CreateObject",
        (
            Attribute(CKA_CLASS, CKO_DATA),
            Attribute(CKA_TOKEN, YES),
            Attribute(CKA_PRIVATE, NO),
            Attribute(CKA_LABEL, label.encode()),
            Attribute(CKA_VALUE, value),
        ),
        0,
        target=1,
    )


def key_pair(pools, slot: int, label: str, id_: bytes = b"") -> None:
    """Make a key pair on the token of one member, by another way than the pool."""
    same = (Attribute(CKA_TOKEN, YES), Attribute(CKA_LABEL, label.encode()), Attribute(CKA_ID, id_))
    public = (*same, Attribute(CKA_MODULUS_BITS, 1024))
    with App(pools.daemon, slot, flags=WRITE) as plain:
        mechanism = Mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN, Null())
        plain.good("C_GenerateKeyPair", mechanism, public, same, 0, 0, target=1)


def labelled(label: str, class_: int | None = None) -> tuple[Attribute, ...]:
    of_class = () if class_ is None else (Attribute(CKA_CLASS, class_),)
    return (*of_class, Attribute(CKA_LABEL, label.encode()))


class TestUnion:
    @both_policies
    def test_what_all_have_is_found_once(self, pools, slot):
        with App(pools.daemon, slot) as app, App(pools.daemon, ONE) as plain:
            found = app.find()
            assert len(found) == len(set(found)) >= 6
            assert len(app.find(*labelled("rsa"))) == len(plain.find(*labelled("rsa"))) == 2

    @both_policies
    @pytest.mark.parametrize("member", [ONE, TWO], ids=["one", "two"])
    def test_what_one_alone_has_is_found_and_served_by_it(self, pools, slot, member):
        label = f"alone {slot} {member}"
        key_pair(pools, member, label)
        at = member - ONE
        holder, other = pools.members[at], pools.members[1 - at]
        with App(pools.daemon, slot) as app:
            key = app.object(label)
            public = app.object(label, CKO_PUBLIC_KEY)
            for _ in range(3):
                assert app.verifies(app.sign(key), public)
            assert (holder.calls("C_Sign"), other.calls("C_Sign")) == (3, 0)
            # A host of the holder is started anew for it.
            holder.kill()
            assert app.verifies(app.sign(key), public)
            assert other.calls("C_Sign") == 0
            # Keys that both have are served all the while.
            assert app.signed(app.object("rsa")) == RV.CKR_OK

    def test_what_one_alone_has_goes_with_it(self, pool):
        pools = pool(deadline=20)
        _, two = pools.members
        key_pair(pools, 2, "alone")
        with App(pools.daemon) as app:
            key, common = app.object("alone"), app.object("rsa")
            two.goes()
            until(lambda: app.signed(common) == 0 and pools.status()["two"]["state"] == "down", "it is down")
            assert app.find(*labelled("alone")) == ()
            assert app.signed(key) in (
                RV.CKR_KEY_HANDLE_INVALID,
                RV.CKR_OBJECT_HANDLE_INVALID,
                RV.CKR_TOKEN_NOT_PRESENT,
            )
            two.comes_back()
            until(pools.is_up, "it is back")
            until(lambda: app.signed(key) == RV.CKR_OK, "the key is used again")

    def test_it_is_searched_at_the_members_that_answer(self, pools):
        one, two = pools.members
        with App(pools.daemon) as app:
            both = set(app.find(*labelled("rsa")))
            assert len(both) == 2
            for each in one, two:
                each.does("C_FindObjectsInit", f"rv {RV.CKR_DEVICE_ERROR:#x}")
                assert set(app.find(*labelled("rsa"))) == both
                each.behaves()

    def test_a_search_that_no_member_makes(self, pools):
        with App(pools.daemon) as app:
            for each in pools.members:
                each.does("C_FindObjectsInit", f"rv {RV.CKR_ATTRIBUTE_VALUE_INVALID:#x}")
            assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_ATTRIBUTE_VALUE_INVALID
            assert app.call("C_FindObjectsFinal", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            for each in pools.members:
                each.does("C_FindObjectsInit", f"rv {RV.CKR_GENERAL_ERROR:#x}")
            assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_GENERAL_ERROR
            for each in pools.members:
                each.behaves()
            assert app.find()


class TestSearch:
    @both_policies
    def test_it_goes_on_when_a_host_dies(self, pools, slot):
        with App(pools.daemon, slot) as app:
            everything = app.find()
            app.good("C_FindObjectsInit", (), target=1)
            found = [*app.more(2)]
            for each in pools.members:
                each.kill()
            while some := app.more(2):
                found += some
            assert sorted(found) == sorted(everything)
            app.good("C_FindObjectsFinal", target=1)

    def test_its_order_of_calls(self, pools):
        with App(pools.daemon) as app:
            assert app.call("C_FindObjectsFinal", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
            app.good("C_FindObjectsInit", (), target=1)
            assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_OPERATION_ACTIVE
            assert app.more(1)
            app.good("C_FindObjectsFinal", target=1)
            assert app.call("C_FindObjectsFinal", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED

    def test_each_session_has_its_own(self, pools):
        with App(pools.daemon) as app:
            app.open(2)
            app.good("C_FindObjectsInit", labelled("rsa", CKO_PRIVATE_KEY), target=1)
            app.good("C_FindObjectsInit", labelled("note"), target=2)
            (note_,), (key,) = app.more(session=2), app.more()
            assert note_ != key
            assert app.attribute(note_, CKA_VALUE) == b"a note"
            # Nor does it keep the session from anything else.
            assert app.signed(key) == RV.CKR_OK

    def test_without_a_login_private_objects_are_not_found(self, pools):
        with App(pools.daemon, login=False) as app, App(pools.daemon, ONE, login=False) as plain:
            assert len(app.find(*labelled("note"))) == 1
            assert app.find(*labelled("rsa", CKO_PRIVATE_KEY)) == plain.find(*labelled("rsa", CKO_PRIVATE_KEY)) == ()
            (public,) = app.find(*labelled("rsa", CKO_PUBLIC_KEY))
            app.login()
            assert app.object("rsa")
            assert app.object("rsa", CKO_PUBLIC_KEY) == public
            app.good("C_Logout", target=1)
            assert app.find(*labelled("rsa", CKO_PRIVATE_KEY)) == ()


class TestNames:
    def test_they_are_the_same_in_every_context_at_every_member_and_after_a_restart(self, pool):
        pools = pool(deadline=20)
        with App(pools.daemon) as app, App(pools.daemon) as other:
            names = app.find()
            assert sorted(other.find()) == sorted(names)
            pools.members[0].goes()
            until(
                lambda: pools.status()["one"]["state"] == "down" or not other.signed(other.object("rsa")), "it is down"
            )
            assert set(app.find()) == set(names)
        assert pools.daemon.stop() == 0
        for each in pools.members:
            each.behaves()
        pools.daemon.start()
        with App(pools.daemon) as app:
            assert set(app.find()) == set(names)

    def test_a_handle_is_good_in_another_context_before_anything_was_searched_there(self, pools):
        with App(pools.daemon) as app, App(pools.daemon, BALANCE) as other:
            key = app.object("rsa")
            assert other.sign(key) == app.sign(key)

    def test_the_members_own_handles_are_no_names(self, pools):
        with App(pools.daemon) as app, App(pools.daemon, ONE) as plain:
            assert not set(plain.find()) & set(app.find())

    def test_twins(self, pools):
        with App(pools.daemon, WRITES, flags=WRITE) as app:
            for _ in range(3):
                note(app, "twin", b"the same")
            found = app.find(*labelled("twin"))
            assert len(set(found)) == 3
            assert {app.attribute(each, CKA_VALUE) for each in found} == {b"the same"}
            app.good("C_DestroyObject", found[1], target=1)
            assert len(set(app.find(*labelled("twin")))) == 2

    @both_policies
    def test_different_keys_with_one_label_and_id(self, pools, slot):
        label = f"two of a name {slot}"
        for member in ONE, TWO:
            key_pair(pools, member, label, b"\x42")
        with App(pools.daemon, slot) as app:
            publics = app.find(*labelled(label, CKO_PUBLIC_KEY))
            keys = app.find(*labelled(label, CKO_PRIVATE_KEY))
            assert len(publics) == len(keys) == 2
            for key in keys * 3:
                signature = app.sign(key)
                (fitting,) = [public for public in publics if app.verifies(signature, public)]
                assert app.attribute(key, CKA_MODULUS) == app.attribute(fitting, CKA_MODULUS)
                assert app.attribute(fitting, CKA_PUBLIC_EXPONENT) == b"\1\0\1"

    def test_objects_that_another_context_makes_are_found(self, pools):
        with App(pools.daemon, WRITES, flags=WRITE) as app, App(pools.daemon, WRITES) as other:
            assert other.find(*labelled("made meanwhile")) == ()
            note(app, "made meanwhile")
            (found,) = other.find(*labelled("made meanwhile"))
            assert other.attribute(found, CKA_VALUE) == b"value"
            assert app.find(*labelled("made meanwhile")) == (found,)
            app.good("C_DestroyObject", found, target=1)
            assert other.find(*labelled("made meanwhile")) == ()
            assert other.call("C_GetObjectSize", found, 0, target=1)[0] == RV.CKR_OBJECT_HANDLE_INVALID

    @pytest.mark.parametrize("member", [ONE, TWO], ids=["one", "two"])
    def test_objects_that_are_made_by_another_way_are_found(self, pools, member):
        label = f"made elsewhere {member}"
        with App(pools.daemon) as app, App(pools.daemon, member, flags=WRITE) as plain:
            assert app.find(*labelled(label)) == ()
            note(plain, label)
            (found,) = app.find(*labelled(label))
            assert app.attribute(found, CKA_VALUE) == b"value"

    def test_a_changed_object_keeps_its_handle(self, pools):
        with App(pools.daemon, WRITES, flags=WRITE) as app:
            note(app, "before")
            (found,) = app.find(*labelled("before"))
            app.good("C_SetAttributeValue", found, (Attribute(CKA_LABEL, b"after"),), target=1)
            assert app.attribute(found, CKA_LABEL) == b"after"
            assert app.find(*labelled("before")) == ()
            assert app.find(*labelled("after")) == (found,)
            pools.members[0].kill()
            assert app.attribute(found, CKA_LABEL) == b"after"


def test_verifying_with_a_public_key(pools):
    with App(pools.daemon, BALANCE) as app:
        signature = app.sign(app.object("rsa"))
        public = app.object("rsa", CKO_PUBLIC_KEY)
        for data, rv in (DATA, RV.CKR_OK), (b"other data", RV.CKR_SIGNATURE_INVALID):
            app.good("C_VerifyInit", RSA, public, target=1)
            assert app.call("C_Verify", data, signature, target=1)[0] == rv
        assert app.call("C_Sign", DATA, Room(256, True), target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
