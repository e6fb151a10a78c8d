from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.pool import strategies

from keyway.cryptoki.constants import (
    CKK_AES,
    CKK_EC,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)
from keyway.gateway.pool.agreement import Disagreement, compare
from keyway.gateway.pool.identity import Facts

ONE, OTHER = b"\1" * 32, b"\2" * 32
PUBLIC = Facts(CKO_PUBLIC_KEY, CKK_EC, b"\x0a\x0b", b"ca", is_token=True, is_private=False, public=ONE)
PRIVATE = replace(PUBLIC, object_class=CKO_PRIVATE_KEY, is_private=True, public=b"")
SECRET = Facts(CKO_SECRET_KEY, CKK_AES, b"", b"wrapping", is_token=True, is_private=True, public=b"")
CERTIFICATE = replace(PUBLIC, object_class=CKO_CERTIFICATE, key_type=None)

PAIR = {1: PUBLIC, 2: PRIVATE}
WHAT = "'ca' with CKA_ID 0a0b"


def test_members_with_the_same_objects_agree():
    listing = {**PAIR, 3: SECRET, 4: CERTIFICATE}
    assert compare({"a": listing, "b": {handle + 70: facts for handle, facts in listing.items()}}) == []
    assert compare({"a": listing}) == []
    assert compare({"a": {}, "b": {}}) == []
    assert compare({}) == []


def test_what_a_member_lacks_is_missing_there():
    assert compare({"a": {3: SECRET}, "b": {}, "c": {3: SECRET}, "d": {}}) == [
        Disagreement("missing", "secret key 'wrapping'", ("b", "d"))
    ]


def test_session_objects_do_not_count():
    assert compare({"a": {3: replace(SECRET, is_token=False)}, "b": {}}) == []


def test_other_keys_under_the_same_name_are_different():
    others = {1: replace(PUBLIC, public=OTHER), 2: PRIVATE}
    assert compare({"a": PAIR, "b": others, "c": {}}) == [
        Disagreement("different", f"private key {WHAT}", ("a", "b")),
        Disagreement("missing", f"private key {WHAT}", ("c",)),
        Disagreement("different", f"public key {WHAT}", ("a", "b")),
        Disagreement("missing", f"public key {WHAT}", ("c",)),
    ]


def test_secret_keys_are_told_by_their_check_values():
    one, other = replace(SECRET, public=ONE), replace(SECRET, public=OTHER)
    assert compare({"a": {1: one}, "b": {1: other}}) == [Disagreement("different", "secret key 'wrapping'", ("a", "b"))]
    # A key that was imported may have none.
    assert compare({"a": {1: one}, "b": {1: SECRET}}) == []


def test_a_key_of_which_a_member_has_more_is_missing_on_the_other():
    renewed = replace(CERTIFICATE, public=OTHER)
    assert compare({"a": {1: CERTIFICATE, 2: renewed}, "b": {1: CERTIFICATE}}) == [
        Disagreement("missing", f"certificate {WHAT}", ("b",))
    ]


def test_a_private_key_that_can_not_be_named_without_its_public_key_is_missing():
    assert compare({"a": PAIR, "b": {2: PRIVATE}}) == [
        Disagreement("missing", f"private key {WHAT}", ("b",)),
        Disagreement("missing", f"public key {WHAT}", ("b",)),
    ]
    assert compare({"a": {2: PRIVATE}, "b": {2: PRIVATE}}) == []


def test_twins_are_told():
    assert compare({"a": {1: SECRET, 2: SECRET}, "b": {1: SECRET}}) == [
        Disagreement("twins", "secret key 'wrapping'", ("a",))
    ]


def test_objects_in_words():
    def words(**changes: object) -> str:
        (found,) = compare({"a": {1: replace(SECRET, **changes)}, "b": {}})  # type: ignore[arg-type]
        return found.what

    assert words(object_class=CKO_DATA, label=b"") == "data object"
    assert words(object_class=None, label=b"x") == "object 'x'"
    assert words(object_class=0x8000_0001, label=b"", id=b"\1") == "object of class 0x80000001 with CKA_ID 01"
    assert words(label=b"two\nlines \xff") == r"secret key 'two\nlines \ufffd'".replace(
        r"\ufffd", "\N{REPLACEMENT CHARACTER}"
    )


members = st.dictionaries(st.sampled_from("abc"), strategies.listings, max_size=3)


@given(strategies.listings)
def test_a_member_agrees_with_itself_but_for_twins(listing: dict[int, Facts]):
    found = compare({"a": listing, "b": listing})
    assert {each.kind for each in found} <= {"twins"}
    assert {each.members for each in found} <= {("a", "b")}


@given(members)
def test_what_is_told_is_told_once_of_members_that_there_are(listings: dict[str, dict[int, Facts]]):
    found = compare(listings)
    assert found == compare(dict(listings))
    for each in found:
        assert each.members
        assert set(each.members) <= listings.keys()
    assert len(set(found)) == len(found)


@given(members)
def test_a_lonely_member_lacks_nothing(listings: dict[str, dict[int, Facts]]):
    for member, listing in listings.items():
        assert {each.kind for each in compare({member: listing})} <= {"twins"}
