"""What is encoded is decoded to the same values, for every call; and values that do not fit are refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire import strategies

from keyway.cryptoki import CALLS, Attribute, Call, Kind, Mechanism, Null, Opaque, Unchanged, call_named
from keyway.wire import (
    EncodeError,
    decode_fused,
    decode_reply,
    decode_request,
    encode_fused,
    encode_reply,
    encode_request,
    reply_kinds,
    request_kinds,
)

AN_INIT = call_named("C_DigestInit")
A_SEARCH = call_named("C_FindObjectsInit")


@pytest.mark.parametrize("call", strategies.SENT, ids=lambda call: call.name)
def test_each_call(call: Call) -> None:
    @settings(max_examples=20, deadline=None, database=None)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        values = data.draw(strategies.requests(call))
        object_, body = encode_request(call, values)
        assert decode_request(call, object_, body) == values
        values = data.draw(strategies.replies(call))
        assert decode_reply(call, encode_reply(call, values)) == values

    run()


@settings(max_examples=100, deadline=None)
@given(strategies.fusable, st.data())
def test_fused(call: Call, data: st.DataObject) -> None:
    init_values = data.draw(strategies.requests(CALLS[call.init - 1]))
    values = data.draw(strategies.requests(call))
    object_, body = encode_fused(call, init_values, values)
    assert decode_fused(call, object_, body) == (init_values, values)


@settings(max_examples=300, deadline=None)
@given(strategies.templates, strategies.queries, strategies.answers)
def test_templates(template: Any, query: Any, answer: Any) -> None:
    call = call_named("C_GetAttributeValue")
    assert decode_request(A_SEARCH, 0, encode_request(A_SEARCH, [template]).body) == (template,)
    assert decode_request(call, 5, encode_request(call, [5, query]).body) == (5, query)
    assert decode_reply(call, encode_reply(call, [answer])) == (answer,)


@settings(max_examples=500, deadline=None)
@given(strategies.parameters(depth=2), strategies.parameters(depth=2, reply=True))
def test_parameters(parameter: Any, written: Any) -> None:
    mechanism = Mechanism(1, parameter)
    assert decode_request(AN_INIT, 0, encode_request(AN_INIT, [mechanism]).body) == (mechanism,)
    assert decode_reply(AN_INIT, encode_reply(AN_INIT, [written])) == (written,)


def test_a_call_that_can_be_fused_has_no_object_of_its_own() -> None:
    """The header has room for one object, which is the init call's."""
    assert [call.name for call in CALLS if call.init and Kind.OBJECT in request_kinds(call)] == []


def test_nothing_executed() -> None:
    for call in strategies.SENT:
        assert encode_reply(call, ()) == b""
        assert decode_reply(call, b"") == ()


def test_calls_that_answer_nothing_have_only_the_empty_reply() -> None:
    assert not reply_kinds(call_named("C_Logout"))
    with pytest.raises(EncodeError):
        encode_reply(call_named("C_Logout"), [1])


@pytest.mark.parametrize("type_", [bytes, bytearray, memoryview])
def test_bodies_of_every_type_of_buffer(type_: type) -> None:
    assert decode_request(call_named("C_SeedRandom"), 0, type_(b"\0\0\0\1x")) == (b"x",)


def test_received_bytes_do_not_show() -> None:
    values = decode_request(call_named("C_Login"), 0, bytes(8) + b"\0\0\0\0041234")
    assert repr(values) == "(0, <4 bytes>)"
    (template,) = decode_request(A_SEARCH, 0, bytes.fromhex("00000001 0000000000000011 01 00000003 736563"))
    assert "sec" not in repr(template)
    assert isinstance(template, tuple)
    assert template[0] == Attribute(0x11, b"sec")
    assert isinstance(template[0].value, Opaque)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("C_SeedRandom", []),
        ("C_SeedRandom", [b"", b""]),
        ("C_SeedRandom", ["text"]),
        ("C_SeedRandom", [None]),
        ("C_SessionCancel", [-1]),
        ("C_SessionCancel", [2**64]),
        ("C_SessionCancel", ["1"]),
        ("C_SessionCancel", [True]),
        ("C_GetSlotList", [256, None]),
        ("C_DestroyObject", [None]),
        ("C_DestroyObject", [-1]),
        ("C_InitToken", [b"", b"31 bytes are no label.........."]),
        ("C_DigestInit", [Mechanism(1, Unchanged())]),
        ("C_DigestInit", [1]),
        ("C_DigestInit", [Mechanism(-1)]),
        ("C_FindObjectsInit", [[Attribute(0, 1)]]),
        ("C_FindObjectsInit", [(0, 1)]),
        ("C_FindObjectsInit", [(Attribute(1, True),)]),
        ("C_FindObjectsInit", [(Attribute(0, "text"),)]),  # type: ignore[arg-type]
        ("C_FindObjectsInit", [(Attribute(0, 1),) * 4097]),
        ("C_GetInfo", [1]),
        ("C_GetObjectSize", [1, Null(1)]),
        ("C_GenerateRandom", [b""]),
        ("C_DigestFinal", [None]),
        ("C_FindObjects", [None]),
    ],
)
def test_values_that_do_not_fit(name: str, values: list[Any]) -> None:
    with pytest.raises(EncodeError):
        encode_request(call_named(name), values)


def test_refusals_do_not_show_the_value() -> None:
    with pytest.raises(EncodeError) as caught:
        encode_request(call_named("C_Login"), [1, "8765secret"])  # type: ignore[list-item]
    assert "8765" not in str(caught.value)


def nested(levels: int) -> tuple[Attribute, ...]:
    return (Attribute(0x40000211, nested(levels - 1)),) if levels > 1 else ()


def test_levels() -> None:
    encode_request(A_SEARCH, [nested(8)])
    with pytest.raises(EncodeError):
        encode_request(A_SEARCH, [nested(9)])
