"""Frames as facts, and facts as lines."""

import json
from typing import Any

from hypothesis import given
from tests.wire.strategies import bodies

from keyway.cryptoki import RV, Attribute, Fill, Mechanism, Null, Output, Room, call_named
from keyway.cryptoki.constants import CKA_LABEL, CKM_ECDSA, CKU_USER
from keyway.observe.trace import MAX_BODY, answered, asked, lines, waiting
from keyway.wire import encode_fused, encode_reply, encode_request
from keyway.wire.ahead import READ_AHEAD, Query, ReadAhead, encode_read_ahead
from keyway.wire.header import HEADER, Flags

ABOUT = {"time": "2026-01-02T03:04:05.000006Z", "context": "1f-2", "application": "app\x1b"}


def frame(number, body=b"", *, flags=0, target=1, last=0):
    header = (len(body), number, flags, 7, target, last)
    return header, HEADER.pack(*header) + body


def request(name, *values, flags=0):
    call = call_named(name)
    encoded = encode_request(call, values)
    return asked(*frame(call.number, encoded.body, flags=flags, last=encoded.object))


def reply(name, rv, *values, flags=0) -> tuple[Any, bytes]:
    call = call_named(name)
    body = encode_reply(call, values)
    return frame(call.number, body, flags=Flags.REPLY | flags, last=rv)[0], body


def told(*facts):
    return "\n".join("\n".join(lines({**ABOUT, **each})) for each in facts)


def test_a_call_is_told_with_its_arguments_results_rv_and_time():
    facts = list(answered(request("C_GenerateRandom", Fill(True, 2)), *reply("C_GenerateRandom", 0, b"ab"), 812))
    assert told(*facts) == (
        "2026-01-02T03:04:05.000006Z context 1f-2, app?\n"
        "C_GenerateRandom\n"
        "[in]  hSession = 0x1\n"
        "[in]  RandomData[ulRandomLen] = room for 2 bytes\n"
        "[out] RandomData[ulRandomLen] = 2 bytes\n"
        "Returned CKR_OK after 812 us\n"
    )
    assert json.loads(json.dumps(facts[0]))["us"] == 812


def test_parts_are_indented():
    text = told(*answered(request("C_FindObjectsInit", (Attribute(CKA_LABEL, b"x"),)), *reply("C_FindObjectsInit", 0)))
    assert '[in]  pTemplate[ulCount] = 1 attribute\n        CKA_LABEL = "x"\n' in text


def test_an_rv_that_nobody_knows_is_told_as_a_number():
    login = request("C_Login", CKU_USER, b"1234")
    assert "Returned CKR_PIN_INCORRECT after 5 us" in told(*answered(login, *reply("C_Login", RV.CKR_PIN_INCORRECT), 5))
    assert "Returned CKR_VENDOR_DEFINED+0x1 after 5 us" in told(*answered(login, *reply("C_Login", 0x80000001), 5))


def fused():
    call = call_named("C_Sign")
    encoded = encode_fused(call, (Mechanism(CKM_ECDSA), 9), (b"digest", Room(64, True)))
    return asked(*frame(call.number, encoded.body, flags=Flags.FUSED, last=encoded.object))


def test_a_fused_frame_is_two_calls():
    init, sign = answered(fused(), *reply("C_Sign", 0, Output(64, b"s" * 64)), 40)
    assert (init["call"], init["rv"], init["us"]) == ("C_SignInit", "CKR_OK", None)
    assert init["in"] == [["hSession", "0x1"], ["pMechanism", "CKM_ECDSA"], ["hKey", "0x9"]]
    assert (sign["call"], sign["rv"], sign["us"]) == ("C_Sign", "CKR_OK", 40)
    assert sign["out"] == [["pSignature[pulSignatureLen]", "64 bytes"]]
    assert told(init).endswith("Returned CKR_OK\n")


def test_a_fused_frame_whose_init_fails_is_one():
    (init,) = answered(fused(), *reply("C_SignInit", RV.CKR_KEY_HANDLE_INVALID, flags=Flags.INIT), 40)
    assert (init["call"], init["rv"], init["us"]) == ("C_SignInit", "CKR_KEY_HANDLE_INVALID", 40)


def test_a_posted_call_has_no_rv():
    posted = request("C_FindObjectsFinal", flags=Flags.POSTED)
    assert posted.is_posted
    (facts,) = answered(posted, None)
    assert (facts["rv"], facts["us"]) == (None, None)
    assert told(facts).endswith("No reply\n")


def test_a_call_that_has_not_returned_says_so():
    facts = waiting(request("C_GenerateRandom", Fill(True, 2)), 1_000_000)
    assert told(facts).endswith("Has not returned after 1000000 us\n")


def test_lost_calls_are_counted():
    assert list(lines({"lost": 3})) == ["3 calls are not shown: they came faster than they were read", ""]


def test_calls_of_no_function_are_told_by_number():
    (facts,) = answered(asked(*frame(0x3FFF)), frame(0x3FFF, last=RV.CKR_FUNCTION_NOT_SUPPORTED)[0], b"", 1)
    assert (facts["call"], facts["rv"]) == ("call 0x3fff", "CKR_FUNCTION_NOT_SUPPORTED")


def test_reading_ahead_is_told():
    ahead = encode_read_ahead(ReadAhead(1000, (Query(True, b""),), (5, 6)))
    (facts,) = answered(asked(*frame(READ_AHEAD, ahead)), frame(READ_AHEAD)[0], b"", 1)
    assert facts["call"] == "READ_AHEAD"
    assert facts["in"] == [["hSession", "0x1"], ["objects", "0x5, 0x6"], ["queries", "1"]]


def test_a_large_body_is_not_read():
    big = request("C_Sign", bytes(MAX_BODY), Room(64, True))
    (facts,) = answered(big, *reply("C_Sign", 0, Output(MAX_BODY, bytes(MAX_BODY))), 1)
    assert facts["in"] == [["hSession", "0x1"]]
    assert facts["note"].count("is not read") == 2


def test_no_pin_in_malformed_frames():
    call = call_named("C_Login")
    _, body = encode_request(call, (CKU_USER, b"pin-7391-for-tests"))
    (facts,) = answered(asked(*frame(call.number, body[:-1])), *reply("C_Login", RV.CKR_ARGUMENTS_BAD), 1)
    assert facts["note"].startswith("malformed: ")
    assert "7391" not in json.dumps(facts)


@given(bodies())
def test_whatever_comes_can_be_told(case):
    direction, call, body = case
    header, data = frame(call.number, body)
    if direction == "request":
        facts = list(answered(asked(header, data), None))
    else:
        empty = asked(*frame(call.number))
        facts = list(answered(empty, header, body, 1))
    assert all(json.dumps(each) and told(each) for each in facts)


def test_a_null_pin_is_told():
    assert ["pPin[ulPinLen]", "NULL"] in next(answered(request("C_Login", CKU_USER, Null()), None))["in"]
