"""What is encoded is decoded to the same values, for every call; and values that do not fit are refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire import strategies

from keyway.cryptoki import (
    CALLS,
    Attribute,
    Call,
    Kind,
    Mechanism,
    MechanismInfo,
    MemberKind,
    ModuleInfo,
    Null,
    Numbers,
    Opaque,
    Output,
    RoomBytes,
    Structured,
    Unchanged,
    Version,
    call_named,
)
from keyway.cryptoki.table import Member
from keyway.wire import (
    MAX_BODY,
    EncodeError,
    WireError,
    decode_fused,
    decode_reply,
    decode_request,
    encode_fused,
    encode_reply,
    encode_request,
    reply_kinds,
    request_kinds,
)
from keyway.wire.parameter import TRAVELLING

AN_INIT = call_named("C_DigestInit")
A_SEARCH = call_named("C_FindObjectsInit")


@pytest.mark.parametrize("call", strategies.SENT, ids=lambda call: call.name)
def test_each_call(call: Call) -> None:
    @settings(max_examples=20, database=None)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        values = data.draw(strategies.requests(call))
        object_, body = encode_request(call, values)
        assert decode_request(call, object_, body) == values
        values = data.draw(strategies.replies(call))
        assert decode_reply(call, encode_reply(call, values)) == values

    run()


@settings(max_examples=100)
@given(strategies.fusable, st.data())
def test_fused(call: Call, data: st.DataObject) -> None:
    init_values = data.draw(strategies.requests(CALLS[call.init - 1]))
    values = data.draw(strategies.requests(call))
    object_, body = encode_fused(call, init_values, values)
    assert decode_fused(call, object_, body) == (init_values, values)


@settings(max_examples=300)
@given(strategies.templates, strategies.queries, strategies.answers)
def test_templates(template: Any, query: Any, answer: Any) -> None:
    call = call_named("C_GetAttributeValue")
    assert decode_request(A_SEARCH, 0, encode_request(A_SEARCH, [template]).body) == (template,)
    assert decode_request(call, 5, encode_request(call, [5, query]).body) == (5, query)
    assert decode_reply(call, encode_reply(call, [answer])) == (answer,)


@settings(max_examples=500)
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


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("C_GetInfo", [1]),
        ("C_GetInfo", [None, None]),
        ("C_GetInfo", [ModuleInfo((2, 40), bytes(32), 0, bytes(32), Version(1, 0))]),  # type: ignore[arg-type]
        ("C_GetInfo", [ModuleInfo(Version(2, 40), bytes(31), 0, bytes(32), Version(1, 0))]),
        ("C_GetInfo", [ModuleInfo(Version(2, 256), bytes(32), 0, bytes(32), Version(1, 0))]),
        ("C_GetSlotInfo", [MechanismInfo(0, 0, 0)]),
        ("C_GetMechanismInfo", [MechanismInfo(0, 0, 2**64)]),
        ("C_DigestFinal", [b"data"]),
        ("C_DigestFinal", [Output(3, "abc")]),  # type: ignore[arg-type]
        ("C_FindObjects", [[1, 2]]),
        ("C_FindObjects", [Numbers(1, (2**64,))]),
        ("C_DigestInit", [None]),
        ("C_GetAttributeValue", [(Attribute(0, RoomBytes(1)),)]),
    ],
)
def test_results_that_do_not_fit(name: str, values: list[Any]) -> None:
    with pytest.raises(EncodeError):
        encode_reply(call_named(name), values)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (MemberKind.ULONG, "1"),
        (MemberKind.BYTE, 256),
        (MemberKind.BYTES, b""),
        (MemberKind.STRING, None),
        (MemberKind.STRUCT, 1),
        (MemberKind.STRUCT, ()),
        (MemberKind.VERSION, (3, 3)),
        (MemberKind.CELL, b""),
        (MemberKind.POINTER, ()),
        (MemberKind.ARRAY, None),
        (MemberKind.TEMPLATE, None),
        (MemberKind.MECHANISM, 1),
        (MemberKind.CHOICE, None),
    ],
)
def test_members_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, kind: MemberKind, value: Any) -> None:
    member = next(member for members in TRAVELLING.values() for member in members if member.kind is kind)
    monkeypatch.setitem(TRAVELLING, 0x7FFF, (member,))
    with pytest.raises(EncodeError):
        encode_request(AN_INIT, [Mechanism(1, Structured(0x7FFF, (value,)))])


def test_structures_that_do_not_fit() -> None:
    for structured in (Structured(0xFFFF, ()), Structured(1, ()), Structured(1, (1, 2)), Structured(1, [1])):  # type: ignore[arg-type]
        with pytest.raises(EncodeError):
            encode_request(AN_INIT, [Mechanism(1, structured)])


def test_numbers_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """No structure of the standard has them, so that no vector does either."""
    member = Member(MemberKind.ULONGS, "numbers", count=2)
    monkeypatch.setitem(TRAVELLING, 0x7FFF, (member,))
    mechanism = Mechanism(1, Structured(0x7FFF, ((1, 2),)))
    body = encode_request(AN_INIT, [mechanism]).body
    assert body == bytes.fromhex("01 0000000000000001 02 7fff 0000000000000001 0000000000000002")
    assert decode_request(AN_INIT, 0, body) == (mechanism,)
    with pytest.raises(EncodeError):
        encode_request(AN_INIT, [Mechanism(1, Structured(0x7FFF, ((1,),)))])


def test_what_can_not_be_fused() -> None:
    with pytest.raises(EncodeError):
        encode_fused(AN_INIT, [], [])
    with pytest.raises(WireError):
        decode_fused(AN_INIT, 0, b"")


def test_a_body_above_the_limit() -> None:
    values = [b"", bytes(MAX_BODY)]
    with pytest.raises(EncodeError):
        encode_request(call_named("C_SignEncryptUpdate"), values)
    with pytest.raises(EncodeError):
        encode_request(call_named("C_Verify"), values)
    with pytest.raises(EncodeError):
        encode_request(call_named("C_SeedRandom"), [bytes(MAX_BODY + 1)])


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
