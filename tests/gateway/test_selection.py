from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.test_slots import SEEN, seen

from keyway.cryptoki import UriError
from keyway.gateway.selection import KEPT_NUMBERS, Selection, TokenFilter
from keyway.gateway.slots import BackendSlot, TokenRule, all_slots, chosen_slots, own_slots


def selection(*uris, first=KEPT_NUMBERS):
    return Selection(tuple(map(TokenFilter.parse, uris)), first)


ONE = own_slots(
    [seen("one", 5, "demo", "01"), seen("one", 6), seen("one", 9, "other", "02"), seen("one", 7, "demo", "03")]
)


@pytest.mark.parametrize(
    ("uris", "shown"),
    [
        ((), (5, 6, 7, 9)),
        (("pkcs11:",), (5, 6, 7, 9)),
        (("pkcs11:token=demo",), (5, 7)),
        (("pkcs11:token=demo;serial=03",), (7,)),
        (("pkcs11:token=dem",), ()),
        (("pkcs11:token=other", "pkcs11:serial=01"), (5, 9)),
        (("pkcs11:slot-id=6",), (6,)),
        (("pkcs11:slot-id=6;token=demo",), ()),
        (("pkcs11:slot-description=a%20slot",), (5, 6, 7, 9)),
        (("pkcs11:x-unknown=1",), ()),
    ],
)
def test_a_slot_is_shown_if_any_uri_matches(uris, shown):
    slots = selection(*uris).of(ONE, {})
    assert slots.numbers(token_present=False) == shown
    assert all(slots.resolve(number) == ONE.resolve(number) for number in shown)


@pytest.mark.parametrize(
    ("uris", "protected"),
    [
        (("pkcs11:?write-protected=yes",), {5, 6, 7, 9}),
        (("pkcs11:?write-protected=no",), set()),
        (("pkcs11:token=demo?write-protected=yes", "pkcs11:"), {5, 7}),
        (("pkcs11:", "pkcs11:token=demo?write-protected=yes"), set()),
        (("pkcs11:serial=01", "pkcs11:token=demo?write-protected=yes"), {7}),
    ],
)
def test_the_first_uri_that_matches_decides_about_protection(uris, protected):
    slots = selection(*uris).of(ONE, {})
    assert {number for number in slots.slots if slots.is_protected(number)} == protected
    assert not slots.is_protected(1000)


def test_numbers_start_where_they_shall_in_the_order_of_the_module():
    slots = selection("pkcs11:token=demo", "pkcs11:token=other", first=0x11).of(ONE, {})
    assert slots.numbers(token_present=False) == (0x11, 0x12, 0x13)
    assert [slots.resolve(number) for number in (0x11, 0x12, 0x13)] == [BackendSlot("one", n) for n in (5, 9, 7)]


def test_numbers_of_all_slots():
    slots = selection(first=0).of(all_slots(SEEN), {})
    assert slots.numbers(token_present=False) == (0, 1, 2, 3)
    assert [slots.resolve(number) for number in range(4)] == [each.place for each in SEEN]


def test_numbers_of_configured_tokens():
    rules = [
        TokenRule(name="a", number=7, backend="two", label="demo"),
        TokenRule(name="b", number=3, backend="one", label="demo"),
    ]
    slots = selection(first=0x11).of(chosen_slots(rules, SEEN), {})
    assert [slots.resolve(number) for number in (0x11, 0x12)] == [BackendSlot("two", 5), BackendSlot("one", 5)]


@given(st.lists(st.sets(st.integers(0, 9)), min_size=2, max_size=6), st.sampled_from([KEPT_NUMBERS, 0, 0x11]))
def test_a_client_never_sees_a_number_mean_something_else(looks, first):
    meant: dict[int, object] = {}
    before: Mapping[int, int] = {}
    for look in looks:
        slots = selection(first=first).of(own_slots([seen("one", slot, "x", f"{slot}") for slot in look]), before)
        assert len(slots.slots) == len(look)
        before = slots.given
        for number in slots.slots:
            place = slots.resolve(number)
            assert meant.setdefault(number, place) == place
        if first == KEPT_NUMBERS:
            assert slots.slots.keys() == look


def test_a_token_that_is_away_is_shown_if_what_is_configured_says_so():
    rules = [
        TokenRule(name="a", number=0, backend="one", label="away"),
        TokenRule(name="b", number=1, backend="one", serial="77"),
        TokenRule(name="c", number=2, backend="one", label="demo"),
    ]
    slots = selection("pkcs11:token=away?write-protected=yes", "pkcs11:token=demo", first=8).of(
        chosen_slots(rules, SEEN), {}
    )
    assert slots.numbers(token_present=False) == (8, 9)
    assert slots.absent(8) is rules[0]
    assert slots.is_protected(8)
    assert slots.resolve(9) == BackendSlot("one", 5)


@pytest.mark.parametrize(
    ("made", "is_everything"),
    [
        (selection(), True),
        (selection("pkcs11:"), True),
        (selection("pkcs11:", "pkcs11:token=a?write-protected=yes"), True),
        (selection("pkcs11:?write-protected=yes"), False),
        (selection("pkcs11:token=a", "pkcs11:"), False),
        (selection(first=0), False),
    ],
)
def test_where_nothing_has_to_be_decided(made, is_everything):
    assert made.is_everything is is_everything


def test_no_uri():
    with pytest.raises(UriError):
        TokenFilter.parse("http:")
