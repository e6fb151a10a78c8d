from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.pool import strategies
from tests.wire.strategies import answers

from keyway.cryptoki import SECRET_ATTRIBUTES, Attribute, Null, Unavailable
from keyway.cryptoki.constants import (
    CKA_CHECK_VALUE,
    CKA_CLASS,
    CKA_EC_POINT,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_PRIVATE,
    CKA_TOKEN,
    CKK_AES,
    CKK_DH,
    CKK_DSA,
    CKK_EC,
    CKK_EC_EDWARDS,
    CKK_EC_MONTGOMERY,
    CKK_ML_DSA,
    CKK_RSA,
    CKK_X9_42_DH,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_PRIVATE_KEY,
    CKO_PROFILE,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)
from keyway.gateway.pool.identity import (
    FIRST_NAME,
    FIRST_SESSION_OBJECT,
    IDENTITY_QUERY,
    Facts,
    Identity,
    facts_of,
    identities,
    names,
    wants_value,
)

ONE, OTHER = b"\1" * 32, b"\2" * 32


def key(object_class: int, **changes: object) -> Facts:
    made = Facts(object_class, CKK_EC, b"id", b"label", is_token=True, is_private=False, public=b"")
    return replace(made, **changes)  # type: ignore[arg-type]


def public(**changes: object) -> Facts:
    return key(CKO_PUBLIC_KEY, **{"public": ONE, **changes})


def private(**changes: object) -> Facts:
    return key(CKO_PRIVATE_KEY, is_private=True, **changes)


# --- facts ----------------------------------------------------------------------------------------------------------------------------


def test_no_secret_is_asked_for():
    assert not SECRET_ATTRIBUTES & set(IDENTITY_QUERY)
    assert len(set(IDENTITY_QUERY)) == len(IDENTITY_QUERY)


def test_the_facts_of_a_key():
    facts = facts_of(
        (
            Attribute(CKA_CLASS, CKO_PUBLIC_KEY),
            Attribute(CKA_TOKEN, b"\1"),
            Attribute(CKA_PRIVATE, b"\0"),
            Attribute(CKA_KEY_TYPE, CKK_RSA),
            Attribute(CKA_ID, b"id"),
            Attribute(CKA_LABEL, b"label"),
            Attribute(CKA_MODULUS, b"modulus"),
            Attribute(CKA_EC_POINT, Unavailable()),
        )
    )
    assert facts == Facts(CKO_PUBLIC_KEY, CKK_RSA, b"id", b"label", True, False, facts.public)
    assert len(facts.public) == 32


def test_what_an_object_lacks_is_nothing():
    nothing = Facts(None, None, b"", b"", False, False, b"")
    assert facts_of(()) == nothing
    assert facts_of(tuple(Attribute(type_, Unavailable()) for type_ in IDENTITY_QUERY)) == nothing
    assert facts_of(tuple(Attribute(type_, Null(5)) for type_ in IDENTITY_QUERY)) == nothing


@given(answers.map(lambda answer: answer if isinstance(answer, tuple) else ()), st.none() | st.binary(max_size=80))
def test_whatever_a_token_answers_is_facts(answer: tuple[Attribute, ...], value: bytes | None):
    facts = facts_of(answer, value)
    assert FIRST_NAME <= names({1: facts})[1] < FIRST_SESSION_OBJECT


def rsa(modulus: bytes) -> Facts:
    return facts_of((Attribute(CKA_KEY_TYPE, CKK_RSA), Attribute(CKA_MODULUS, modulus)))


def ec(point: bytes, key_type: int = CKK_EC) -> Facts:
    return facts_of((Attribute(CKA_KEY_TYPE, key_type), Attribute(CKA_EC_POINT, point)))


def test_a_leading_zero_of_a_modulus_is_no_difference():
    assert rsa(b"\0\xc0\1") == rsa(b"\xc0\1")
    assert rsa(b"\xc0\1") != rsa(b"\xc0\2")


@pytest.mark.parametrize(
    ("key_type", "point", "wrapping"),
    [
        (CKK_EC, b"\4" + b"x" * 64, b"\4\x41"),
        (CKK_EC, b"\2" + b"x" * 32, b"\4\x21"),
        (CKK_EC, b"\4" + b"x" * 132, b"\4\x81\x85"),
        (CKK_EC_EDWARDS, b"x" * 32, b"\4\x20"),
        (CKK_EC_EDWARDS, b"x" * 57, b"\4\x39"),
        (CKK_EC_MONTGOMERY, b"x" * 56, b"\4\x38"),
    ],
)
def test_a_point_is_the_same_wrapped_and_bare(key_type: int, point: bytes, wrapping: bytes):
    assert ec(point, key_type) == ec(wrapping + point, key_type)
    assert ec(point, key_type) != ec(point[:-1] + b"y", key_type)


def test_a_bare_point_that_looks_wrapped_is_bare():
    # The first byte of x is as large as the length of the rest would be in an OCTET STRING.
    point = b"\4\x3f" + b"x" * 63
    assert ec(point) == ec(b"\4\x41" + point)


@given(st.binary(max_size=140), st.sampled_from([CKK_EC, CKK_EC_EDWARDS]))
def test_any_point_is_a_point(point: bytes, key_type: int):
    assert bool(ec(point, key_type).public) == bool(point) or point[:2] == b"\4\0"


def test_values_are_asked_where_they_are_public():
    wanting = {
        (CKO_CERTIFICATE, None, False),
        (CKO_CERTIFICATE, None, True),
        (CKO_DATA, None, False),
        *((CKO_PUBLIC_KEY, type_, False) for type_ in (CKK_DSA, CKK_DH, CKK_X9_42_DH, CKK_ML_DSA)),
    }
    others = {
        (CKO_DATA, None, True),
        (CKO_SECRET_KEY, CKK_AES, False),
        (CKO_PROFILE, None, False),
        (None, None, False),
        *((CKO_PRIVATE_KEY, type_, False) for type_ in (CKK_DSA, CKK_DH, CKK_ML_DSA, CKK_RSA, CKK_EC)),
        *((CKO_PUBLIC_KEY, type_, False) for type_ in (CKK_RSA, CKK_EC, CKK_EC_EDWARDS, CKK_EC_MONTGOMERY, None)),
    }
    for each in wanting | others:
        object_class, key_type, is_private = each
        facts = Facts(object_class, key_type, b"", b"", True, is_private, b"")
        assert wants_value(facts) is (each in wanting), each


@given(strategies.facts)
def test_no_value_of_a_secret_or_private_key_is_asked(facts: Facts):
    if facts.object_class in (CKO_SECRET_KEY, CKO_PRIVATE_KEY):
        assert not wants_value(facts)


def test_a_value_tells_certificates_apart():
    certificate = (Attribute(CKA_CLASS, CKO_CERTIFICATE),)
    assert facts_of(certificate, b"one") != facts_of(certificate, b"other")
    assert facts_of(certificate, b"one") == facts_of(certificate, b"one")


def test_numbers_that_are_public_keys_lose_leading_zeros():
    dsa = (Attribute(CKA_CLASS, CKO_PUBLIC_KEY), Attribute(CKA_KEY_TYPE, CKK_DSA))
    assert facts_of(dsa, b"\0y") == facts_of(dsa, b"y")


def test_a_secret_key_shows_its_check_value_and_nothing_else():
    aes = (Attribute(CKA_CLASS, CKO_SECRET_KEY), Attribute(CKA_KEY_TYPE, CKK_AES))
    one, other = (facts_of((*aes, Attribute(CKA_CHECK_VALUE, value))) for value in (b"123", b"456"))
    assert one != other
    assert facts_of(aes, b"secret").public == b""
    assert identities({1: one})[1] == identities({1: other})[1]


def test_no_value_is_in_a_repr():
    facts = Facts(CKO_DATA, None, b"the id", b"the label", True, True, b"the value")
    for shown in (repr(facts), repr(identities({1: facts})[1])):
        assert "the" not in shown
        assert str(CKO_DATA) in shown


# --- identities -----------------------------------------------------------------------------------------------------------------------


def test_a_private_key_has_the_public_key_beside_it():
    found = identities({1: private(), 2: public(), 3: public(id=b"another", label=b"another")})
    assert found[1] == Identity(CKO_PRIVATE_KEY, CKK_EC, b"id", b"label", ONE)


def test_a_private_key_that_shows_its_own_takes_no_other():
    assert identities({1: private(public=OTHER), 2: public()})[1].public_digest == OTHER


@pytest.mark.parametrize(
    "beside",
    [
        public(id=b"another"),
        public(key_type=CKK_RSA),
        public(is_token=False),
        key(CKO_CERTIFICATE, public=ONE),
        key(CKO_PUBLIC_KEY),
    ],
    ids=["another id", "another type", "a session object", "a certificate", "an unreadable one"],
)
def test_other_objects_do_not_lend_theirs(beside: Facts):
    assert identities({1: private(), 2: beside})[1].public_digest == b""


def test_of_several_public_keys_the_label_decides():
    several = {2: public(), 3: public(label=b"another", public=OTHER)}
    assert identities({1: private(), **several})[1].public_digest == ONE
    assert identities({1: private(label=b"none of them"), **several})[1].public_digest == b""
    assert identities({1: private(), **several, 4: public(public=OTHER)})[1].public_digest == b""


def test_a_public_key_twice_is_one():
    assert identities({1: private(label=b"x"), 2: public(), 3: public(label=b"y")})[1].public_digest == ONE


# --- names ----------------------------------------------------------------------------------------------------------------------------


def test_names_are_the_same_for_ever():
    """They are in the hands of applications, and in the gateways beside this one. A change here breaks both."""
    listing = {
        7: public(),
        8: private(),
        9: private(),
        10: Facts(CKO_DATA, None, b"", b"data", True, False, b""),
    }
    assert names(listing) == {
        7: 0x114A892B7A9EDCB8,
        8: 0x046384CE877CDEB2,
        9: 0x0AC0E98AAE56B3D8,
        10: 0x0E198254B8508DD1,
    }


@given(strategies.listings)
def test_names_are_distinct_and_in_their_range(listing: dict[int, Facts]):
    found = names(listing)
    assert found.keys() == listing.keys()
    assert len(set(found.values())) == len(listing)
    assert all(FIRST_NAME <= name < FIRST_SESSION_OBJECT for name in found.values())


@given(strategies.listings, st.randoms(use_true_random=False))
def test_the_order_of_a_listing_does_not_matter(listing: dict[int, Facts], random: object):
    items = list(listing.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert names(dict(items)) == names(listing)


@given(st.lists(strategies.facts, max_size=12), st.data())
def test_names_are_the_same_on_a_member_with_other_handles(objects: list[Facts], data: st.DataObject):
    """Which twin is which nobody can tell; the others have their names, and twins have theirs together."""

    def named(listing: dict[int, Facts]) -> set[tuple[int, Identity]]:
        found, known = names(listing), identities(listing)
        return {(found[handle], known[handle]) for handle in listing}

    count = len(objects)
    here, there = (
        data.draw(st.lists(strategies.handles, min_size=count, max_size=count, unique=True)) for _ in range(2)
    )
    assert named(dict(zip(here, objects, strict=True))) == named(dict(zip(there, objects, strict=True)))


@given(st.lists(strategies.facts, max_size=12), st.sets(strategies.handles, min_size=12, max_size=12))
def test_twins_are_counted_in_the_order_of_their_handles(objects: list[Facts], handles: set[int]):
    here = dict(enumerate(objects, 1))
    there = dict(zip(sorted(handles), objects, strict=False))
    assert [names(here)[handle] for handle in here] == [names(there)[handle] for handle in there]


def test_twins_that_are_seen_first_are_counted_first():
    at_once, after_login, of_session = public(), public(is_private=True), public(is_token=False)
    (first,) = names({9: at_once}).values()
    assert names({3: after_login, 9: at_once})[9] == first
    assert names({3: of_session, 9: at_once})[9] == first
    assert names({3: of_session, 5: after_login, 9: at_once})[5] == names({5: after_login, 9: at_once})[5]


@given(st.lists(st.tuples(strategies.facts, st.booleans()), max_size=8), st.permutations(range(8)))
def test_what_comes_into_sight_with_a_login_renames_nothing(objects: list[tuple[Facts, bool]], handles: list[int]):
    listing = {
        handle: replace(facts, is_private=is_private)
        for handle, (facts, is_private) in zip(handles, objects, strict=False)
        # Which public keys there are is told without a login, and which private keys only with one.
        if facts.object_class not in (CKO_PUBLIC_KEY, CKO_PRIVATE_KEY)
        or is_private == (facts.object_class == CKO_PRIVATE_KEY)
    }
    before = {handle: facts for handle, facts in listing.items() if facts.is_token and not facts.is_private}
    after = names(listing)
    assert {handle: after[handle] for handle in before} == names(before)


@given(strategies.facts, strategies.facts)
def test_different_objects_have_different_names(one: Facts, other: Facts):
    if identities({1: one}) != identities({1: other}):
        assert names({1: one}) != names({1: other})
