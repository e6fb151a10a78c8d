from dataclasses import replace

import pytest

from keyway.cryptoki import RV, SlotInfo, TokenInfo, Uri, Version, padded
from keyway.gateway.slots import BackendSlot, OwnSlots, SeenSlot, TokenRule, all_slots, chosen_slots, own_slots

INFO = SlotInfo(padded("a slot", 64), padded("a maker", 32), 1, Version(1, 0), Version(1, 0))
NUMBERS = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
NONE = Version(0, 0)
TOKEN = TokenInfo(b"", padded("a maker", 32), padded("a model", 16), b"", *NUMBERS, NONE, NONE, bytes(16))


def seen(backend, slot, label=None, serial="s1"):
    token = None if label is None else replace(TOKEN, label=padded(label, 32), serial_number=padded(serial, 16))
    return SeenSlot(BackendSlot(backend, slot), INFO, token)


SEEN = [seen("one", 5, "demo", "01"), seen("one", 6), seen("two", 5, "demo", "02"), seen("two", 9, "other", "03")]


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        ({"backend": "one", "label": "demo"}, ("one", 5)),
        ({"backend": "two", "label": "demo"}, ("two", 5)),
        ({"backend": "two", "serial": "03"}, ("two", 9)),
        ({"backend": "two", "uri": Uri.parse("pkcs11:token=other")}, ("two", 9)),
        ({"backend": "one", "backend_slot": 6}, ("one", 6)),
        ({"backend": "two", "label": "demo", "serial": "03"}, None),
        ({"backend": "one", "label": "dem"}, None),
        ({"backend": "one", "uri": Uri.parse("pkcs11:slot-id=6")}, None),
    ],
)
def test_a_rule_finds_its_token(rule, place):
    slots = chosen_slots([TokenRule(name="t", number=3, **rule)], SEEN)
    assert slots.resolve(3) == (BackendSlot(*place) if place else RV.CKR_TOKEN_NOT_PRESENT)
    assert (slots.absent(3) is None) == (place is not None)


def test_a_token_that_is_away_keeps_its_slot():
    rules = [
        TokenRule(name="a", number=0, backend="one", label="demo"),
        TokenRule(name="b", number=4, backend="two", label="x"),
    ]
    slots = chosen_slots(rules, SEEN)
    assert slots.numbers(token_present=False) == (0, 4)
    assert slots.numbers(token_present=True) == (0,)
    assert slots.resolve(1) is RV.CKR_SLOT_ID_INVALID
    assert slots.absent(4) is rules[1]
    assert slots.absent(0) is slots.absent(1) is None


def test_numbers_follow_the_token_not_the_module():
    before = all_slots(SEEN)
    moved = [seen("one", 77, "demo", "01"), seen("one", 6), seen("two", 78, "demo", "02"), seen("two", 79, "x", "03")]
    after = all_slots(moved[::-1])
    assert before.numbers(token_present=False) == after.numbers(token_present=False)
    assert len(before.numbers(token_present=True)) == 3
    places = {after.resolve(number) for number in after.numbers(token_present=False)}
    assert places == {each.place for each in moved}


def test_equal_names_get_different_numbers():
    twins = [seen("one", 1, "demo", "same"), seen("one", 2, "demo", "same")]
    numbers = all_slots(twins).numbers(token_present=True)
    assert len(numbers) == 2
    assert numbers[1] == numbers[0] + 1


def test_numbers_fit_a_signed_32_bit_number():
    many = [seen("backend", slot, "x", f"{slot}") for slot in range(500)]
    assert all(0 <= number <= 0x7FFFFFFF for number in all_slots(many).numbers(token_present=True))


def test_the_only_backends_slots_keep_its_numbers():
    slots = own_slots(SEEN[:2])
    assert slots.numbers(token_present=False) == (5, 6)
    assert slots.numbers(token_present=True) == (5,)
    assert slots.resolve(6) == OwnSlots("one").resolve(6) == BackendSlot("one", 6)
    assert not slots.is_protected(5)
    assert not OwnSlots("one").is_protected(5)


@pytest.mark.parametrize(
    ("rule", "uri", "promised"),
    [
        ({"label": "demo"}, "pkcs11:", True),
        ({"label": "demo"}, "pkcs11:token=demo", True),
        ({"label": "demo"}, "pkcs11:token=other", False),
        ({"label": "demo"}, "pkcs11:token=demo;serial=01", False),
        ({"label": "demo", "serial": "01"}, "pkcs11:token=demo;serial=01", True),
        ({"uri": Uri.parse("pkcs11:token=demo;model=m")}, "pkcs11:model=m", True),
        ({"uri": Uri.parse("pkcs11:token=demo;model=m")}, "pkcs11:model=n", False),
        ({"backend_slot": 3}, "pkcs11:slot-id=3", True),
        ({"backend_slot": 3}, "pkcs11:slot-id=4", False),
        ({"label": "demo"}, "pkcs11:x-unknown=1", False),
    ],
)
def test_what_a_rule_promises_of_a_token_that_is_away(rule, uri, promised):
    assert TokenRule(name="t", number=0, backend="one", **rule).promises(Uri.parse(uri)) is promised
