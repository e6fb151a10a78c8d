"""Which calls are recorded."""

from keyway.cryptoki import CALLS, Effect
from keyway.observe.audit import AUDITED
from keyway.observe.audit.calls import RECORDED, UNRECORDED


def test_every_call_is_decided_once():
    assert sorted([*RECORDED, *UNRECORDED]) == sorted(call.name for call in CALLS)


def test_the_numbers_are_those_of_the_names():
    assert {call.name for call in CALLS if call.number in AUDITED} == set(RECORDED)


def test_what_changes_logins_objects_or_tokens_is_recorded():
    changing = {call.name for call in CALLS if call.effect in (Effect.LOGIN, Effect.OBJECTS, Effect.TOKEN)}
    assert changing <= set(RECORDED)
