"""Frames as spans."""

from hypothesis import given
from hypothesis import strategies as st
from tests.wire.strategies import bodies

from keyway.cryptoki import RV, Attribute, Mechanism, Null, Output, Room, Target, call_named
from keyway.cryptoki.constants import CKA_VALUE, CKM_ECDSA, CKM_SHA256, CKU_USER
from keyway.observe.spans import MAX_BODY, Operations, Told, answered, asked
from keyway.wire import encode_fused, encode_reply, encode_request
from keyway.wire.ahead import READ_AHEAD
from keyway.wire.header import HEADER, Flags

ECDSA = {"pkcs11.mechanism": "CKM_ECDSA"}


def frame(number, body=b"", *, flags=0, target=1, last=0):
    header = (len(body), number, flags, 7, target, last)
    return header, HEADER.pack(*header) + body


def request(name, *values, flags=0, target=1):
    call = call_named(name)
    encoded = encode_request(call, values)
    return asked(*frame(call.number, encoded.body, flags=flags, target=target, last=encoded.object))


def reply(name, rv, *values, flags=0):
    call = call_named(name)
    body = encode_reply(call, values)
    return frame(call.number, body, flags=Flags.REPLY | flags, last=rv)[0], body


def fused():
    call = call_named("C_Sign")
    encoded = encode_fused(call, (Mechanism(CKM_ECDSA), 9), (b"digest", Room(64, True)))
    return asked(*frame(call.number, encoded.body, flags=Flags.FUSED, last=encoded.object))


def test_a_call_is_told_with_rv_and_lengths():
    sign = request("C_Sign", b"digest", Room(64, True))
    assert list(answered(sign, *reply("C_Sign", 0, Output(64, b"s" * 64)))) == [
        Told("C_Sign", {"pkcs11.bytes_in": 6, "pkcs11.bytes_out": 64, "pkcs11.rv": "CKR_OK"})
    ]
    assert list(answered(sign, *reply("C_Sign", RV.CKR_BUFFER_TOO_SMALL, Output(64, None)))) == [
        Told("C_Sign", {"pkcs11.bytes_in": 6, "pkcs11.rv": "CKR_BUFFER_TOO_SMALL"}, "CKR_BUFFER_TOO_SMALL")
    ]
    assert sign.place is Target.SESSION


def test_a_fused_frame_is_two_calls():
    assert list(answered(fused(), *reply("C_Sign", 0, Output(64, b"s" * 64)))) == [
        Told("C_SignInit", {**ECDSA, "pkcs11.rv": "CKR_OK"}),
        Told("C_Sign", {**ECDSA, "pkcs11.bytes_in": 6, "pkcs11.bytes_out": 64, "pkcs11.rv": "CKR_OK"}),
    ]


def test_a_fused_frame_whose_init_fails_is_one():
    (init,) = answered(fused(), *reply("C_SignInit", RV.CKR_KEY_HANDLE_INVALID, flags=Flags.INIT))
    assert init == Told("C_SignInit", {**ECDSA, "pkcs11.rv": "CKR_KEY_HANDLE_INVALID"}, "CKR_KEY_HANDLE_INVALID")


def test_no_reply_is_an_error_unless_none_is_wanted():
    assert [each.error for each in answered(request("C_GetInfo", True), None)] == ["no reply"]
    assert [each.error for each in answered(request("C_CloseSession", flags=Flags.POSTED), None)] == [""]


def test_of_a_pin_not_even_the_length_is_told():
    login = request("C_Login", CKU_USER, b"1234")
    assert list(answered(login, *reply("C_Login", RV.CKR_PIN_INCORRECT))) == [
        Told("C_Login", {"pkcs11.rv": "CKR_PIN_INCORRECT"}, "CKR_PIN_INCORRECT")
    ]


def test_of_a_large_body_the_length_is_told_and_nothing_is_read():
    number = call_named("C_DigestUpdate").number
    (told,) = answered(asked(*frame(number, b"\xff" * (MAX_BODY + 1))), *reply("C_DigestUpdate", 0))
    assert told.attributes == {"pkcs11.bytes_in": MAX_BODY + 1, "pkcs11.rv": "CKR_OK"}
    random = request("C_Sign", b"d", Room(1, True))
    header = frame(random.calls[0].number, flags=Flags.REPLY)[0]
    (told,) = answered(random, header, b"\xff" * (MAX_BODY + 1))
    assert told.attributes["pkcs11.bytes_out"] == MAX_BODY + 1


def test_what_no_table_has_has_a_name():
    assert asked(*frame(READ_AHEAD)).name == "READ_AHEAD"
    assert asked(*frame(0x5000)).name == "call 0x5000"


def test_calls_of_an_operation_have_the_mechanism_that_it_began_with():
    operations = Operations()
    update = request("C_DigestUpdate", b"data")
    refused = request("C_DigestInit", Mechanism(CKM_SHA256, Null()))
    operations.note(refused, RV.CKR_MECHANISM_INVALID)
    assert operations.of(update) == ""
    operations.note(request("C_DigestInit", Mechanism(CKM_SHA256, Null())), 0)
    assert operations.of(update) == "CKM_SHA256"
    assert operations.of(request("C_Sign", b"digest", Room(64, True))) == ""
    assert operations.of(request("C_DigestUpdate", b"data", target=2)) == ""
    operations.note(request("C_CloseSession"), 0)
    assert operations.of(update) == ""
    operations.note(request("C_DigestInit", Mechanism(CKM_SHA256, Null())), 0)
    operations.note(request("C_CloseAllSessions"), 0)
    assert operations.of(update) == ""
    operations.note(asked(*frame(READ_AHEAD)), 0)
    assert operations.of(asked(*frame(READ_AHEAD))) == ""


def test_no_attribute_value_is_told():
    create = request("C_CreateObject", (Attribute(CKA_VALUE, b"secret"),), 0)
    (told,) = answered(create, *reply("C_CreateObject", 0, 5))
    assert told.attributes == {"pkcs11.rv": "CKR_OK"}


@given(bodies(), bodies(), st.integers(0, 63), st.integers(0, 2**64 - 1))
def test_any_frame_is_told(asked_with, answered_with, flags, rv):
    _, call, body = asked_with
    _, _, answer = answered_with
    told = asked(*frame(call.number, body, flags=flags))
    header = frame(call.number, answer, flags=flags | Flags.REPLY, last=rv)[0]
    outcomes = list(answered(told, header, answer))
    assert outcomes
    for each in outcomes:
        assert set(each.attributes) <= {"pkcs11.rv", "pkcs11.mechanism", "pkcs11.bytes_in", "pkcs11.bytes_out"}
        assert bool(each.error) == (each.attributes["pkcs11.rv"] != "CKR_OK")
