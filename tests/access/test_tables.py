"""The tables of calls and mechanisms against those of the standard: what is new must be given a place."""

import pytest

from keyway.access.calls import ADMINISTRATION, EXPORTS, FREE, GROUPS, STARTS, UNJUDGED, functions_named, number_of
from keyway.access.made import MAKES
from keyway.access.mechanisms import FAMILIES, FLAGS, PADDING_ORACLES, UNPADS, mechanisms_named
from keyway.cryptoki import CALLS, Kind, Step, call_named, mechanism_name
from keyway.cryptoki.constants import NAMES

GRANTED = frozenset().union(*GROUPS.values())
FIRST = {number for number, starts in STARTS.items() if starts == {number}}


def test_each_call_that_begins_with_a_mechanism_has_a_flag():
    """C_DigestKey goes on with what C_DigestInit began."""
    begins = {each.number for each in CALLS if each.number in GRANTED and Kind.MECHANISM in {a.kind for a in each.args}}
    assert frozenset().union(*FLAGS.values()) == begins
    assert FLAGS.keys() < NAMES["mechanism_flag"].keys()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_each_call_has_one_place(call):
    places = [FREE, ADMINISTRATION, UNJUDGED, STARTS.keys()]
    assert sum(call.number in each for each in places) == 1


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_calls_that_use_keys_are_never_free(call):
    kinds = {argument.kind for argument in call.args}
    if kinds & {Kind.MECHANISM, Kind.OBJECT, Kind.TEMPLATE, Kind.TEMPLATE_OUT}:
        assert call.number not in FREE
    if kinds & {Kind.MECHANISM, Kind.OBJECT}:
        assert call.number in GRANTED | UNJUDGED, "it is judged with what it uses"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_parts_of_an_operation_belong_to_what_starts_it(call):
    if call.step is Step.START:
        assert STARTS[call.number] == {call.number}
    elif call.operation and call.number in STARTS and call.number not in GRANTED:
        assert STARTS[call.number] <= {each.number for each in CALLS if each.step is Step.START}


def test_what_is_granted_is_in_one_group():
    assert sum(map(len, GROUPS.values())) == len(GRANTED)
    assert GRANTED == FIRST
    assert EXPORTS.keys() <= GRANTED
    assert GRANTED >= UNPADS


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_calls_that_take_templates_and_give_objects_make_something(call):
    kinds = [argument.kind for argument in call.args]
    gives = Kind.OBJECT_OUT in kinds or call.name == "C_SetAttributeValue"
    assert (call.number in MAKES) is gives
    if gives:
        assert len(MAKES[call.number]) == kinds.count(Kind.TEMPLATE)


@pytest.mark.parametrize(
    ("word", "calls"),
    [
        ("wrap", {"C_WrapKey", "C_WrapKeyAuthenticated"}),
        ("C_SignInit", {"C_SignInit"}),
        ("C_DigestKey", {"C_DigestKey"}),
    ],
)
def test_functions(word, calls):
    assert functions_named(word) == {call_named(name).number for name in calls}


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("C_Sign", "C_Sign belongs to C_SignInit: name that"),
        ("C_DigestEncryptUpdate", "belongs to C_EncryptInit and C_DigestInit"),
        ("C_InitToken", "administration = true"),
        ("C_SetOperationState", "limited in nothing"),
        ("C_Login", "needs no leave"),
        ("C_Signn", "no function and no group"),
        ("Sign", "no function and no group"),
        ("", "no function and no group"),
    ],
)
def test_words_that_name_no_function(word, problem):
    with pytest.raises(ValueError, match=problem):
        functions_named(word)


def test_families_hold_what_their_name_says():
    def names(family):
        return {mechanism_name(number) for number in FAMILIES[family]}

    assert {"CKM_RSA_PKCS", "CKM_SHA256_RSA_PKCS_PSS", "CKM_RSA_PKCS_OAEP", "CKM_RSA_PKCS_KEY_PAIR_GEN"} <= names("RSA")
    assert all("RSA" in name for name in names("RSA"))
    assert all("ECDSA" in name or name.startswith("CKM_EC_KEY_PAIR_GEN") for name in names("ECDSA"))
    assert all(name.startswith("CKM_AES_") for name in names("AES"))
    assert all("DES" in name for name in names("DES"))
    assert names("SHA-2") >= {"CKM_SHA256", "CKM_SHA384", "CKM_SHA512"}
    assert not names("SHA-2") & names("HMAC")
    assert "CKM_SHA256_HMAC" in names("HMAC")
    assert {"CKM_ML_DSA"} <= names("ML-DSA")


def test_no_mechanism_is_in_families_of_two_algorithms():
    # Elliptic curves have one way to make keys for two uses.
    shared = {
        number for one in FAMILIES for other in FAMILIES if one < other for number in FAMILIES[one] & FAMILIES[other]
    }
    assert {mechanism_name(number) for number in shared} == {
        "CKM_EC_KEY_PAIR_GEN", "CKM_EC_KEY_PAIR_GEN_W_EXTRA_BITS", "CKM_GOSTR3411_HMAC",
    }  # fmt: skip


def test_all_of_cbc_with_padding_is_prone_to_oracles():
    assert {name for number, name in NAMES["mechanism"].items() if name.endswith("_CBC_PAD")} == {
        mechanism_name(number) for number in PADDING_ORACLES if "CBC" in mechanism_name(number)
    }


@pytest.mark.parametrize(
    ("word", "numbers"), [("CKM_ECDSA", {0x1041}), ("0x80000001", {0x80000001}), ("0xFf", {0xFF}), ("MD5", {0x210})]
)
def test_mechanisms(word, numbers):
    assert mechanisms_named(word) == numbers


@pytest.mark.parametrize(
    "word",
    ["", "ckm_ecdsa", "CKM_", "ECDSA2", "0x", "0xg", "0x1_0", "0x 1", "0x-1", "12", "0x10000000000000000", "aes"],
)
def test_words_that_name_no_mechanism(word):
    with pytest.raises(ValueError, match="no mechanism"):
        mechanisms_named(word)


def test_numbers_of_calls():
    assert number_of("C_Sign") == call_named("C_Sign").number
