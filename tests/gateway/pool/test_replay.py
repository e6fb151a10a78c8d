from itertools import product

import pytest

from keyway.cryptoki import (
    CALLS,
    PARAMETER_SHAPES,
    SHAPES,
    Call,
    Effect,
    Kind,
    Mechanism,
    Null,
    Structured,
    call_named,
    constants,
    table,
)
from keyway.gateway.pool.replay import (
    REPLAYS,
    UNREPEATABLE,
    Attempt,
    Replay,
    Step,
    is_repeatable,
    is_repeatable_parameter,
    next_step,
)
from keyway.gateway.pool.signals import Signal

NEVER = [
    "C_Initialize",
    "C_Finalize",
    "C_InitToken",
    "C_InitPIN",
    "C_SetPIN",
    "C_Login",
    "C_LoginUser",
    "C_SetOperationState",
    "C_CreateObject",
    "C_CopyObject",
    "C_SetAttributeValue",
    "C_GenerateKey",
    "C_GenerateKeyPair",
    "C_UnwrapKey",
    "C_UnwrapKeyAuthenticated",
    "C_DeriveKey",
    "C_EncapsulateKey",
    "C_DecapsulateKey",
    "C_WaitForSlotEvent",
    "C_AsyncComplete",
    "C_AsyncGetID",
    "C_AsyncJoin",
]
OPERATION = [
    "C_GetOperationState",
    "C_EncryptUpdate",
    "C_EncryptFinal",
    "C_DecryptUpdate",
    "C_DecryptFinal",
    "C_DigestUpdate",
    "C_DigestKey",
    "C_DigestFinal",
    "C_SignUpdate",
    "C_SignFinal",
    "C_VerifyUpdate",
    "C_VerifyFinal",
    "C_VerifySignatureUpdate",
    "C_VerifySignatureFinal",
    "C_DigestEncryptUpdate",
    "C_DecryptDigestUpdate",
    "C_SignEncryptUpdate",
    "C_DecryptVerifyUpdate",
    "C_EncryptMessage",
    "C_EncryptMessageBegin",
    "C_EncryptMessageNext",
    "C_MessageEncryptFinal",
    "C_DecryptMessage",
    "C_DecryptMessageBegin",
    "C_DecryptMessageNext",
    "C_MessageDecryptFinal",
    "C_SignMessage",
    "C_SignMessageBegin",
    "C_SignMessageNext",
    "C_MessageSignFinal",
    "C_VerifyMessage",
    "C_VerifyMessageBegin",
    "C_VerifyMessageNext",
    "C_MessageVerifyFinal",
]
EXPECTED = {
    **dict.fromkeys(NEVER, Replay.NEVER),
    **dict.fromkeys(OPERATION, Replay.OPERATION),
    "C_DestroyObject": Replay.REMOVAL,
}


def by_name(call: Call) -> str:
    return call.name


@pytest.mark.parametrize("call", CALLS, ids=by_name)
def test_each_call_has_its_replay(call: Call):
    assert REPLAYS[call.number] is EXPECTED.get(call.name, Replay.AGAIN)


def test_the_expectations_name_calls_that_exist():
    assert REPLAYS.keys() == {call.number for call in CALLS}
    assert {call_named(name).name for name in EXPECTED} == EXPECTED.keys()


@pytest.mark.parametrize("call", CALLS, ids=by_name)
def test_what_leaves_something_on_the_token_is_never_made_again(call: Call):
    leaves = call.effect in (Effect.TOKEN, Effect.CONTEXT) or any(arg.kind is Kind.OBJECT_OUT for arg in call.args)
    if leaves:
        assert REPLAYS[call.number] is Replay.NEVER
    if call.effect is Effect.OBJECTS:
        assert REPLAYS[call.number] in (Replay.NEVER, Replay.REMOVAL)
    if any(arg.kind is Kind.PIN for arg in call.args):
        assert REPLAYS[call.number] is Replay.NEVER


# --- mechanisms -----------------------------------------------------------------------------------------------------------------------


def test_mechanisms_that_use_a_key_up_are_not_repeatable():
    assert {constants.NAMES["mechanism"][type_] for type_ in UNREPEATABLE} == {
        "CKM_HSS",
        "CKM_XMSS",
        "CKM_XMSSMT",
        "CKM_SECURID",
        "CKM_HOTP",
        "CKM_ACTI",
        "CKM_X2RATCHET_ENCRYPT",
        "CKM_X2RATCHET_DECRYPT",
    }
    for type_ in UNREPEATABLE:
        assert not is_repeatable(Mechanism(type_))
        assert not is_repeatable(Mechanism(type_), was_delivered=False)


@pytest.mark.parametrize("parameter", [Null(), Null(7), b"", b"iv"])
def test_plain_parameters_are_repeatable(parameter: Null | bytes):
    assert is_repeatable(None)
    assert is_repeatable(Mechanism(constants.CKM_AES_CBC_PAD, parameter))
    assert is_repeatable(Mechanism(constants.CKM_VENDOR_DEFINED + 1, parameter))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.name)
def test_what_the_token_writes_is_not_made_twice_once_it_was_delivered(shape: table.Shape):
    parameter = Structured(shape.id, ())
    mechanism = Mechanism(constants.CKM_VENDOR_DEFINED, parameter)
    assert is_repeatable_parameter(parameter) is not shape.out
    assert is_repeatable(mechanism) is not shape.out
    assert is_repeatable(mechanism, was_delivered=False)


def test_an_iv_of_the_token_is_such_a_thing():
    (shape,) = {number for number in PARAMETER_SHAPES[constants.CKM_AES_GCM] if SHAPES[number].name == "CK_GCM_PARAMS"}
    assert not is_repeatable(Mechanism(constants.CKM_AES_GCM, Structured(shape, ())))


# --- the next step --------------------------------------------------------------------------------------------------------------------

YES_NO = (False, True)
ATTEMPTS = [
    Attempt(
        was_sent=was_sent,
        is_replayable=is_replayable,
        same=same,
        others_left=others_left,
        is_known=is_known,
        in_time=in_time,
        has_rv=has_rv,
    )
    for was_sent, is_replayable, same, others_left, is_known, in_time, has_rv in product(
        YES_NO, YES_NO, (0, 1, 2), YES_NO, YES_NO, YES_NO, YES_NO
    )
]
ALL = list(product(Signal, Replay, ATTEMPTS))
MADE_AGAIN = (Step.SAME, Step.OTHER)


def cases(signal: Signal, *replays: Replay, **wanted: object) -> list[tuple[Replay, Attempt]]:
    found = [
        (replay, attempt)
        for each, replay, attempt in ALL
        if each is signal
        and replay in (replays or Replay)
        and all(getattr(attempt, name) == value for name, value in wanted.items())
    ]
    assert found
    return found


def test_what_is_the_callers_goes_to_the_caller():
    for signal in (Signal.DONE, Signal.CALLER):
        for replay, attempt in cases(signal):
            assert next_step(signal, replay, attempt) is Step.RETURN


def test_what_may_have_had_an_effect_is_never_made_again():
    for signal, replay, attempt in ALL:
        if replay is Replay.NEVER and attempt.was_sent:
            assert next_step(signal, replay, attempt) not in MADE_AGAIN


def test_what_can_not_be_made_anew_is_never_made_again():
    for signal, replay, attempt in ALL:
        if not attempt.is_replayable:
            assert next_step(signal, replay, attempt) not in MADE_AGAIN


def test_nothing_is_made_again_after_the_deadline():
    for signal, replay, attempt in ALL:
        if not attempt.in_time:
            assert next_step(signal, replay, attempt) not in MADE_AGAIN


def test_another_member_is_chosen_only_if_there_is_one():
    for signal, replay, attempt in ALL:
        if next_step(signal, replay, attempt) is Step.OTHER:
            assert attempt.others_left


def test_a_member_is_given_a_second_chance_only_once():
    for signal, replay, attempt in ALL:
        if next_step(signal, replay, attempt) is Step.SAME:
            assert attempt.same == 0


def test_the_token_is_gone_only_if_it_said_nothing():
    for signal, replay, attempt in ALL:
        step = next_step(signal, replay, attempt)
        if step is Step.GIVE_UP:
            assert signal is Signal.LOST
            assert not attempt.has_rv
        if step is Step.RETURN and signal is Signal.LOST:
            assert attempt.has_rv


def test_every_call_comes_to_an_end():
    """Whatever happens at each attempt, the steps form no circle: each takes a member that was not tried, or a second chance."""
    for signal, replay, attempt in ALL:
        tried, same, step = 0, attempt.same, next_step(signal, replay, attempt)
        while step in MADE_AGAIN:
            tried += 1
            assert tried <= 4
            same = same + 1 if step is Step.SAME else 0
            now = Attempt(attempt.was_sent, attempt.is_replayable, same, False, attempt.is_known, attempt.in_time)
            step = next_step(signal, replay, now)


def test_a_lost_member_is_left_if_there_is_another():
    for replay, attempt in cases(Signal.LOST, others_left=True, is_replayable=True, in_time=True):
        if replay is not Replay.NEVER or not attempt.was_sent:
            assert next_step(Signal.LOST, replay, attempt) is Step.OTHER


def test_the_only_member_gets_one_fresh_host():
    for same, step in ((0, Step.SAME), (1, Step.GIVE_UP)):
        for replay, attempt in cases(
            Signal.LOST, others_left=False, is_replayable=True, in_time=True, has_rv=False, was_sent=False, same=same
        ):
            assert next_step(Signal.LOST, replay, attempt) is step


def test_a_session_that_was_live_is_repaired_once_and_then_counts_as_lost():
    live = {"is_known": True, "is_replayable": True, "in_time": True, "was_sent": False}
    for replay, attempt in cases(Signal.SESSION, same=0, **live):
        assert next_step(Signal.SESSION, replay, attempt) is Step.SAME
    for replay, attempt in cases(Signal.SESSION, same=1, others_left=True, **live):
        assert next_step(Signal.SESSION, replay, attempt) is Step.OTHER
    for replay, attempt in cases(Signal.SESSION, same=1, others_left=False, **live):
        assert next_step(Signal.SESSION, replay, attempt) is Step.RETURN


def test_a_complaint_of_what_is_not_known_is_the_callers():
    for replay, attempt in cases(Signal.SESSION, is_known=False):
        assert next_step(Signal.SESSION, replay, attempt) is Step.RETURN


def test_a_busy_member_is_avoided_then_asked_once_more():
    able = {"is_replayable": True, "in_time": True}
    others = (Replay.AGAIN, Replay.OPERATION, Replay.REMOVAL)
    for replay, attempt in cases(Signal.BUSY, *others, others_left=True, **able):
        assert next_step(Signal.BUSY, replay, attempt) is Step.OTHER
    for replay, attempt in cases(Signal.BUSY, *others, others_left=False, same=0, **able):
        assert next_step(Signal.BUSY, replay, attempt) is Step.SAME
    for replay, attempt in cases(Signal.BUSY, *others, others_left=False, same=1, **able):
        assert next_step(Signal.BUSY, replay, attempt) is Step.RETURN


def test_busy_is_an_answer_to_what_must_not_be_made_twice():
    for replay, attempt in cases(Signal.BUSY, Replay.NEVER):
        assert next_step(Signal.BUSY, replay, attempt) is Step.RETURN
