"""Handles inside values. Values are drawn with handles of a type of their own, so that they can be found again wherever they are."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire import strategies

from keyway.cryptoki import (
    CALLS,
    SHAPES,
    Call,
    Kind,
    Mechanism,
    MemberKind,
    Null,
    Numbers,
    Output,
    Structured,
    Unchanged,
    call_named,
)
from keyway.cryptoki.constants import (
    CKM_CMS_SIG,
    CKM_CONCATENATE_BASE_AND_KEY,
    CKM_SP800_108_COUNTER_KDF,
)
from keyway.cryptoki.table import Member
from keyway.gateway.pool.translate import SHAPES_WITH_HANDLES, handles, made_handles, reply_with, with_handles
from keyway.wire import reply_kinds, request_kinds

DERIVE, SIGN = call_named("C_DeriveKey"), call_named("C_SignInit")
(HANDLE,) = (shape.id for shape in SHAPES.values() if shape.name == "CK_OBJECT_HANDLE")
(KDF,) = (shape.id for shape in SHAPES.values() if shape.name == "CK_SP800_108_KDF_PARAMS")
(TLS12,) = (shape.id for shape in SHAPES.values() if shape.name == "CK_TLS12_KEY_MAT_PARAMS")
(CMS,) = (shape.id for shape in SHAPES.values() if shape.name == "CK_CMS_SIG_PARAMS")


class Given(int):
    """A handle that the caller gives."""

    __slots__ = ()


class Written(int):
    """A handle that the token writes."""

    __slots__ = ()


class Name(int):
    """What stands in the place of a handle."""

    __slots__ = ()


Some = st.SearchStrategy[Any]
given_handles = strategies.u64.map(Given)
written_handles = strategies.u64.map(Written)


def _member(member: Member, depth: int) -> Some:
    match member.kind:
        case MemberKind.OBJECT:
            return written_handles if member.out else given_handles
        case MemberKind.OBJECT_CELL:
            return st.none() | (written_handles if member.out else given_handles)
        case MemberKind.STRUCT:
            return _members(member.shape, depth)
        case MemberKind.POINTER:
            return st.none() | _members(member.shape, depth)
        case MemberKind.ARRAY:
            return st.builds(Null, strategies.u64) | st.lists(_members(member.shape, depth), max_size=2).map(tuple)
        case MemberKind.MECHANISM:
            return st.none() | st.builds(Mechanism, strategies.u64, _parameters(depth))
        case MemberKind.CHOICE:
            return _parameters(depth)
        case _:
            return strategies._member(member, 0)


def _members(shape: int, depth: int) -> Some:
    travelling = [member for member in SHAPES[shape].members if member.kind is not MemberKind.LENGTH]
    return st.tuples(*(_member(member, depth) for member in travelling))


def _parameters(depth: int = 2, shapes: frozenset[int] = frozenset(SHAPES)) -> Some:
    if not depth:
        return strategies.parameters(0)
    return st.sampled_from(sorted(shapes)).flatmap(
        lambda shape: st.builds(Structured, st.just(shape), _members(shape, depth - 1))
    )


_numbers = st.builds(Numbers, st.none() | strategies.u64, st.lists(written_handles, max_size=5).map(tuple) | st.none())
_marked = {
    "request": {
        Kind.OBJECT: given_handles,
        Kind.MECHANISM: st.none() | st.builds(Mechanism, strategies.u64, _parameters()),
        Kind.PARAMETER: _parameters(),
    },
    "reply": {
        Kind.OBJECT_OUT: st.none() | written_handles,
        Kind.OBJECTS_OUT: _numbers,
        Kind.MECHANISM: _parameters(),
        Kind.PARAMETER: _parameters(),
    },
}


def marked_requests(call: Call) -> Some:
    return st.tuples(*({**strategies.REQUEST, **_marked["request"]}[kind] for kind in request_kinds(call)))


def marked_replies(call: Call) -> Some:
    return st.tuples(*({**strategies.REPLY, **_marked["reply"]}[kind] for kind in reply_kinds(call)))


def leaves(value: object) -> Iterator[object]:
    """Everything inside a value, whatever it is made of."""
    if isinstance(value, tuple):
        for each in value:
            yield from leaves(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name))
    else:
        yield value


def of(type_: type | tuple[type, ...], values: object) -> list[Any]:
    """The handles of a type in a value, CK_INVALID_HANDLE left out."""
    return [each for each in leaves(values) if isinstance(each, type_) and each]


def opposite(handle: int) -> int:
    """A mapping that is its own inverse and makes no CK_INVALID_HANDLE."""
    return 2**64 - handle


with_values = [call for call in strategies.SENT if request_kinds(call) or reply_kinds(call)]
each_call = pytest.mark.parametrize("call", with_values, ids=lambda call: call.name)
few = settings(max_examples=15, database=None)


@each_call
def test_no_handle_of_a_request_stays(call: Call):
    @few
    @given(marked_requests(call))
    def run(values: tuple[Any, ...]) -> None:
        translated = with_handles(call, values, lambda handle: Name(opposite(handle)))
        assert handles(call, values) == of(Given, values)
        assert of(Given, translated) == []
        assert of(Name, translated) == [opposite(handle) for handle in of(Given, values)]
        assert of(Written, translated) == of(Written, values)

    run()


@each_call
def test_no_handle_of_a_reply_stays(call: Call):
    @few
    @given(marked_replies(call))
    def run(values: tuple[Any, ...]) -> None:
        translated = reply_with(call, values, lambda handle: Name(opposite(handle)))
        assert of((Given, Written), translated) == []
        assert of(Name, translated) == [opposite(handle) for handle in of((Given, Written), values)]

    run()


@each_call
def test_a_mapping_can_be_undone_and_changes_nothing_else(call: Call):
    @few
    @given(strategies.requests(call), strategies.replies(call))
    def run(request: tuple[Any, ...], reply: tuple[Any, ...]) -> None:
        for translate, values in ((with_handles, request), (reply_with, reply)):
            assert translate(call, values, lambda handle: handle) == values
            assert translate(call, translate(call, values, opposite), opposite) == values

    run()


@pytest.mark.parametrize("shape", sorted(SHAPES_WITH_HANDLES), ids=lambda shape: SHAPES[shape].name)
def test_no_handle_of_a_shape_stays(shape: int):
    @settings(max_examples=40, database=None)
    @given(_parameters(3, frozenset({shape})))
    def run(parameter: Structured) -> None:
        request, reply = (Mechanism(0, parameter), Given(1), (), None), (parameter, None)
        assert handles(DERIVE, request) == of(Given, request)
        assert of(Given, with_handles(DERIVE, request, Name)) == []
        assert of((Given, Written), reply_with(DERIVE, reply, Name)) == []

    run()


@given(_parameters(shapes=frozenset(SHAPES) - SHAPES_WITH_HANDLES))
def test_the_other_shapes_have_no_handle(parameter: Structured):
    assert of((Given, Written), parameter) == []


def test_which_shapes_have_handles():
    assert {SHAPES[number].name for number in SHAPES_WITH_HANDLES} == {
        "CK_OBJECT_HANDLE",
        "CK_ECDH2_DERIVE_PARAMS",
        "CK_ECMQV_DERIVE_PARAMS",
        "CK_X9_42_DH2_DERIVE_PARAMS",
        "CK_X9_42_MQV_DERIVE_PARAMS",
        "CK_HKDF_PARAMS",
        "CK_PRF_DATA_PARAM",
        "CK_DERIVED_KEY",
        "CK_SP800_108_KDF_PARAMS",
        "CK_SP800_108_FEEDBACK_KDF_PARAMS",
        "CK_SSL3_KEY_MAT_OUT",
        "CK_SSL3_KEY_MAT_PARAMS",
        "CK_TLS12_KEY_MAT_PARAMS",
        "CK_WTLS_KEY_MAT_OUT",
        "CK_WTLS_KEY_MAT_PARAMS",
        "CK_IKE2_PRF_PLUS_DERIVE_PARAMS",
        "CK_IKE_PRF_DERIVE_PARAMS",
        "CK_IKE1_PRF_DERIVE_PARAMS",
        "CK_IKE1_EXTENDED_DERIVE_PARAMS",
        "CK_X3DH_INITIATE_PARAMS",
        "CK_X3DH_RESPOND_PARAMS",
        "CK_X2RATCHET_INITIALIZE_PARAMS",
        "CK_X2RATCHET_RESPOND_PARAMS",
        "CK_GOSTR3410_KEY_WRAP_PARAMS",
        "CK_OTP_PARAM",
        "CK_OTP_PARAMS",
        "CK_KIP_PARAMS",
        "CK_CMS_SIG_PARAMS",
    }


# --- a few calls by hand --------------------------------------------------------------------------------------------------------------

NAMES = {11: 1011, 12: 1012, 13: 1013}


def derive(mechanism: Mechanism) -> tuple[Any, ...]:
    return (mechanism, 11, (), 99)


def test_a_key_in_a_parameter():
    values = derive(Mechanism(CKM_CONCATENATE_BASE_AND_KEY, Structured(HANDLE, (12,))))
    assert handles(DERIVE, values) == [12, 11]
    changed = derive(Mechanism(CKM_CONCATENATE_BASE_AND_KEY, Structured(HANDLE, (1012,))))
    assert with_handles(DERIVE, values, NAMES.__getitem__) == (changed[0], 1011, (), 99)


def test_a_key_in_a_choice_in_an_array_and_what_the_token_will_write():
    values = derive(
        Mechanism(
            CKM_SP800_108_COUNTER_KDF,
            Structured(KDF, (1, ((5, Structured(HANDLE, (12,))), (4, b"label")), (((), 77), ((), None)))),
        )
    )
    assert handles(DERIVE, values) == [12, 11]


def test_keys_in_mechanisms_within_a_parameter():
    inner = Mechanism(CKM_CONCATENATE_BASE_AND_KEY, Structured(HANDLE, (12,)))
    parameter = Structured(CMS, (13, inner, None, b"", Null(), Null()))
    assert handles(SIGN, (Mechanism(CKM_CMS_SIG, parameter), 11)) == [13, 12, 11]
    changed = Mechanism(CKM_CONCATENATE_BASE_AND_KEY, Structured(HANDLE, (1012,)))
    assert with_handles(SIGN, (Mechanism(CKM_CMS_SIG, parameter), 11), NAMES.__getitem__) == (
        Mechanism(CKM_CMS_SIG, Structured(CMS, (1013, changed, None, b"", Null(), Null()))),
        1011,
    )


def test_keys_that_the_token_made_come_back_by_name():
    def reply(client_key: int, server_key: int, key: int) -> tuple[Any, ...]:
        written = (0, 0, client_key, server_key, b"iv", b"iv")
        return (Structured(TLS12, (0, 256, 96, 0, (b"c", b"s"), written, 1)), key)

    assert reply_with(DERIVE, reply(11, 12, 13), NAMES.__getitem__) == reply(1011, 1012, 1013)


def test_found_objects_have_names():
    find = call_named("C_FindObjects")
    assert reply_with(find, (Numbers(2, (11, 12)),), NAMES.__getitem__) == (Numbers(2, (1011, 1012)),)
    assert reply_with(find, (Numbers(None, None),), NAMES.__getitem__) == (Numbers(None, None),)


def test_slots_and_mechanisms_are_no_objects():
    for name in ("C_GetSlotList", "C_GetMechanismList"):
        values = (Numbers(2, (11, 12)),)
        assert reply_with(call_named(name), values, NAMES.__getitem__) == values


def test_an_answer_without_values_has_no_handles():
    for call in CALLS:
        assert reply_with(call, (), NAMES.__getitem__) == ()


def test_what_a_call_has_made():
    pair, encapsulate = call_named("C_GenerateKeyPair"), call_named("C_EncapsulateKey")
    assert made_handles(pair, (Unchanged(), 5, 6)) == [5, 6]
    assert made_handles(pair, ()) == []
    assert made_handles(encapsulate, (Unchanged(), Output(3, b"abc"), 7)) == [7]
    # It was asked for a length: what is in place of the handle is what the client had there.
    assert made_handles(encapsulate, (Unchanged(), Output(3, None), 7)) == []
