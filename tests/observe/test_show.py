"""Each kind of value as text, and what may be secret never."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.strategies import calls, replies, requests

from keyway.cryptoki import (
    CALLS,
    SECRET_ATTRIBUTES,
    SHAPES,
    Attribute,
    Fill,
    Kind,
    LengthAttributes,
    LengthNumbers,
    Mechanism,
    MechanismInfo,
    Null,
    NumberArray,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    RoomNumbers,
    SessionInfo,
    Structured,
    Unavailable,
    Unchanged,
    Value,
    Version,
    call_named,
)
from keyway.cryptoki.constants import (
    CKA_ALLOWED_MECHANISMS,
    CKA_CLASS,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_TOKEN,
    CKA_UNWRAP_TEMPLATE,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKG_MGF1_SHA256,
    CKK_EC,
    CKM_AES_CBC,
    CKM_ECDSA,
    CKM_PKCS5_PBKD2,
    CKM_RSA_PKCS_PSS,
    CKM_SHA256,
    CKO_PRIVATE_KEY,
    CKU_USER,
)
from keyway.observe.show import Shown, requested, returned
from keyway.observe.show.attributes import BOOLEANS
from keyway.observe.show.text import LISTED
from keyway.wire import reply_kinds, request_kinds

VENDOR = 0x80000123


def shape(name):
    return next(each.id for each in SHAPES.values() if each.name == name)


def asked(name, *values, target=1):
    """What is shown of a request, by argument."""
    return {shown.name: shown for shown in requested(call_named(name), target, values)}


def texts(name, *values):
    return {shown.name: shown.text for shown in asked(name, *values).values()}


def results(name, *values):
    return {shown.name: shown.text for shown in returned(call_named(name), values)}


def parts(shown):
    return [(part.name, part.text) for part in shown.parts]


def everything(shown):
    yield shown.name
    yield shown.text
    for part in shown.parts:
        yield from everything(part)


def test_targets():
    assert requested(call_named("C_Logout"), 0x1F, ()) == (Shown("hSession", "0x1f"),)
    assert requested(call_named("C_CloseAllSessions"), 17, ()) == (Shown("slotID", "0x11"),)
    assert requested(call_named("C_Finalize"), 0, ()) == ()


def test_numbers_have_their_names():
    assert texts("C_Login", CKU_USER, Null())["userType"] == "CKU_USER"
    assert texts("C_Login", 77, Null())["userType"] == "0x4d"
    assert texts("C_OpenSession", 6, 1)["flags"] == "CKF_RW_SESSION | CKF_SERIAL_SESSION"
    assert texts("C_OpenSession", 0x104, 1)["flags"] == "CKF_SERIAL_SESSION | 0x100"
    assert texts("C_OpenSession", 0, 1)["flags"] == "0"
    assert texts("C_GetMechanismInfo", CKM_ECDSA, True) == {"slotID": "0x1", "type": "CKM_ECDSA"}
    assert texts("C_GetMechanismInfo", VENDOR, True)["type"] == "CKM_VENDOR_DEFINED+0x123"
    assert texts("C_DestroyObject", 255)["hObject"] == "0xff"
    assert texts("C_GetSlotList", 1, Room(3, True))["tokenPresent"] == "true"


@pytest.mark.parametrize(
    ("pin", "shown"),
    [(b"1234", "***"), (b"", "***"), (Null(), "NULL")],
)
def test_a_pin_does_not_even_show_its_length(pin, shown):
    assert texts("C_Login", CKU_USER, pin)["pPin[ulPinLen]"] == shown
    assert set(texts("C_SetPIN", pin, pin).values()) == {"0x1", shown}


def test_data_is_shown_by_its_length():
    assert texts("C_Sign", b"abc", Room(64, True)) == {
        "hSession": "0x1",
        "pData[ulDataLen]": "3 bytes",
        "pSignature[pulSignatureLen]": "room for 64 bytes",
    }
    assert texts("C_Sign", Null(5), Room(7, False)) == {
        "hSession": "0x1",
        "pData[ulDataLen]": "NULL with length 5",
        "pSignature[pulSignatureLen]": "NULL",
    }
    assert results("C_Sign", Output(64, b"s" * 64)) == {"pSignature[pulSignatureLen]": "64 bytes"}
    assert results("C_Sign", Output(64, None)) == {"pSignature[pulSignatureLen]": "length 64"}
    assert results("C_Sign", Output(None, None)) == {}
    assert texts("C_GenerateRandom", Fill(True, 16))["RandomData[ulRandomLen]"] == "room for 16 bytes"
    assert results("C_GenerateRandom", b"r" * 16) == {"RandomData[ulRandomLen]": "16 bytes"}


def test_handles_and_arrays():
    assert texts("C_FindObjects", ObjectsRoom(20, True, True))["phObject[ulMaxObjectCount]"] == "room for 20 handles"
    assert results("C_FindObjects", Numbers(2, (16, 17))) == {"phObject[ulMaxObjectCount]": "0x10, 0x11"}
    assert results("C_FindObjects", Numbers(0, ())) == {"phObject[ulMaxObjectCount]": "none"}
    assert results("C_GetMechanismList", Numbers(1, (CKM_AES_CBC,))) == {"pMechanismList[pulCount]": "CKM_AES_CBC"}
    assert results("C_GetMechanismList", Numbers(9, None)) == {"pMechanismList[pulCount]": "count 9"}
    assert results("C_GenerateKeyPair", Unchanged(), 3, None) == {"phPublicKey": "0x3"}
    many = results("C_GetSlotList", Numbers(LISTED + 2, tuple(range(LISTED + 2))))["pSlotList[pulCount]"]
    assert many.endswith(f"0x{LISTED - 1:x}, and 2 more")


def test_null_pointers_are_told():
    assert texts("C_GetTokenInfo", False)["pInfo"] == "NULL"
    assert "pInfo" not in texts("C_GetTokenInfo", True)
    assert texts("C_OpenSession", 4, None)["phSession"] == "NULL"
    assert texts("C_SignInit", None, 1)["pMechanism"] == "NULL"
    assert texts("C_FindObjectsInit", Null(3))["pTemplate[ulCount]"] == "NULL with length 3"


def test_structures():
    (info,) = returned(call_named("C_GetSessionInfo"), (SessionInfo(5, 3, 6, 0),))
    assert parts(info) == [
        ("slot", "0x5"),
        ("state", "CKS_RW_USER_FUNCTIONS"),
        ("flags", "CKF_RW_SESSION | CKF_SERIAL_SESSION"),
        ("device_error", "0"),
    ]
    (info,) = returned(call_named("C_GetMechanismInfo"), (MechanismInfo(2, 2**64 - 1, 0x800),))
    assert parts(info) == [
        ("min_key_size", "2"),
        ("max_key_size", "CK_UNAVAILABLE_INFORMATION"),
        ("flags", "CKF_SIGN"),
    ]


def test_texts_can_do_no_harm():
    assert texts("C_Initialize", 0, Null(), b"a\x1b[2J\n")["application"] == r'"a\u001b[2J\n"'
    assert texts("C_InitToken", b"so-pin", b"demo".ljust(32))["pLabel"] == '"demo"'


def test_templates_show_what_is_no_secret():
    template = asked(
        "C_FindObjectsInit",
        (
            Attribute(CKA_CLASS, CKO_PRIVATE_KEY),
            Attribute(CKA_KEY_TYPE, CKK_EC),
            Attribute(CKA_TOKEN, b"\1"),
            Attribute(CKA_ID, b"\1"),
            Attribute(CKA_LABEL, b"signer"),
            Attribute(CKA_MODULUS, bytes(range(20))),
            Attribute(CKA_VALUE, b"secret"),
            Attribute(CKA_VALUE_LEN, 32),
            Attribute(VENDOR, b"secret"),
            Attribute(VENDOR, 5),
            Attribute(CKA_ALLOWED_MECHANISMS, NumberArray((CKM_ECDSA,))),
            Attribute(CKA_UNWRAP_TEMPLATE, (Attribute(CKA_VALUE, b"secret"),)),
            Attribute(CKA_LABEL, Null()),
        ),
    )["pTemplate[ulCount]"]
    assert template.text == "13 attributes"
    assert parts(template) == [
        ("CKA_CLASS", "CKO_PRIVATE_KEY"),
        ("CKA_KEY_TYPE", "CKK_EC"),
        ("CKA_TOKEN", "true"),
        ("CKA_ID", "1 byte: 01"),
        ("CKA_LABEL", '"signer"'),
        ("CKA_MODULUS", "20 bytes: 000102030405060708090a0b0c0d0e0f..."),
        ("CKA_VALUE", "6 bytes"),
        ("CKA_VALUE_LEN", "32"),
        ("CKA_VENDOR_DEFINED+0x123", "6 bytes"),
        ("CKA_VENDOR_DEFINED+0x123", "a number"),
        ("CKA_ALLOWED_MECHANISMS", "CKM_ECDSA"),
        ("CKA_UNWRAP_TEMPLATE", "1 attribute"),
        ("CKA_LABEL", "NULL"),
    ]
    assert parts(template.parts[-2]) == [("CKA_VALUE", "6 bytes")]


@pytest.mark.parametrize("name", ["C_CreateObject", "C_CopyObject", "C_SetAttributeValue", "C_UnwrapKey"])
def test_templates_that_bring_values_show_no_bytes(name):
    template = (Attribute(CKA_CLASS, CKO_PRIVATE_KEY), Attribute(CKA_TOKEN, b"\0"), Attribute(CKA_LABEL, b"signer"))
    before = {"C_CreateObject": (), "C_UnwrapKey": (None, 1, b"wrapped")}.get(name, (1,))
    after = () if name == "C_SetAttributeValue" else (0,)
    shown = next(each for each in asked(name, *before, template, *after).values() if each.parts)
    assert parts(shown) == [("CKA_CLASS", "CKO_PRIVATE_KEY"), ("CKA_TOKEN", "false"), ("CKA_LABEL", "6 bytes")]


def test_queries_and_answers():
    query = asked(
        "C_GetAttributeValue",
        1,
        (
            Attribute(CKA_LABEL, Null()),
            Attribute(CKA_ID, RoomBytes(10)),
            Attribute(CKA_CLASS, RoomNumbers(1)),
        ),
    )["pTemplate[ulCount]"]
    assert parts(query) == [("CKA_LABEL", "NULL"), ("CKA_ID", "room for 10 bytes"), ("CKA_CLASS", "room for 1 number")]
    (answer,) = returned(
        call_named("C_GetAttributeValue"),
        (
            (
                Attribute(CKA_LABEL, Null(6)),
                Attribute(CKA_ID, b"\xab"),
                Attribute(CKA_ALLOWED_MECHANISMS, LengthNumbers(2)),
                Attribute(CKA_UNWRAP_TEMPLATE, LengthAttributes(1)),
                Attribute(CKA_VALUE, Unavailable()),
                Attribute(CKA_VALUE, b"secret"),
            ),
        ),
    )
    assert parts(answer) == [
        ("CKA_LABEL", "length 6 bytes"),
        ("CKA_ID", "1 byte: ab"),
        ("CKA_ALLOWED_MECHANISMS", "length 2 numbers"),
        ("CKA_UNWRAP_TEMPLATE", "length 1 attribute"),
        ("CKA_VALUE", "unavailable"),
        ("CKA_VALUE", "6 bytes"),
    ]


def test_mechanisms():
    assert texts("C_SignInit", Mechanism(CKM_ECDSA), 1)["pMechanism"] == "CKM_ECDSA"
    assert texts("C_SignInit", Mechanism(CKM_AES_CBC, bytes(16)), 1)["pMechanism"] == "CKM_AES_CBC, 16 bytes"
    pss = Structured(shape("CK_RSA_PKCS_PSS_PARAMS"), (CKM_SHA256, CKG_MGF1_SHA256, 32))
    shown = asked("C_SignInit", Mechanism(CKM_RSA_PKCS_PSS, pss), 1)["pMechanism"]
    assert shown.text == "CKM_RSA_PKCS_PSS, CK_RSA_PKCS_PSS_PARAMS"
    assert parts(shown) == [("hashAlg", "CKM_SHA256"), ("mgf", "CKG_MGF1_SHA256"), ("sLen", "32")]


def test_a_password_in_a_mechanism_is_shown_by_its_length():
    named = SHAPES[shape("CK_PBE_PARAMS")]
    values = (b"initvect", b"password", b"salt", 1000)
    shown = asked("C_GenerateKey", Mechanism(CKM_PKCS5_PBKD2, Structured(named.id, values)), (), 0)["pMechanism"]
    assert [part.text for part in shown.parts] == ["8 bytes", "8 bytes", "4 bytes", "1000"]


def test_attributes_of_kind_bool_are_those_of_the_table():
    table = tomllib.loads((Path(__file__).resolve().parents[2] / "spec" / "attributes.toml").read_text())
    assert {row["name"] for row in table["attribute"] if row["kind"] == "bool"} == BOOLEANS


SECRET = b"Kx7#qZ9!vW4@jY2%"
PUBLIC = {Kind.NAME, Kind.LABEL, Kind.BYTES_OUT}
"""Kinds that hold names, and no secrets."""


def with_secret(value):
    """Put the secret in place of all bytes that are within a value, but for those of public attributes."""
    match value:
        case Attribute(type, bytes()):
            secret = SECRET if type in SECRET_ATTRIBUTES or type >= 0x80000000 else b""
            return Attribute(type, secret)
        case Attribute(type, inner):
            return Attribute(type, with_secret(inner))
        case Output(length, bytes()):
            return Output(length, SECRET)
        case Mechanism(type, parameter):
            return Mechanism(type, with_secret(parameter))
        case Structured(number, members):
            return Structured(number, with_secret(members))
        case Version():
            return value
        case tuple():
            return tuple(map(with_secret, value))
        case bytes():
            return SECRET
        case _:
            return value


def marked(call, kinds, values):
    return tuple(
        value if kind in PUBLIC or kind.value.endswith("info_out") else with_secret(value)
        for kind, value in zip(kinds, values, strict=True)
    )


def shows_secret(shown):
    text = "\n".join(each for one in shown for each in everything(one))
    # Not even a part of it.
    parts = [SECRET[at : at + 4] for at in range(len(SECRET) - 3)]
    return any(part.hex() in text or part.decode() in text for part in parts)


@given(st.data())
def test_no_secret_is_ever_shown(data):
    call = data.draw(calls.filter(lambda call: call.name != "C_Initialize"))
    request = marked(call, request_kinds(call), data.draw(requests(call)))
    reply = marked(call, reply_kinds(call), data.draw(replies(call)))
    assert not shows_secret(requested(call, 1, request))
    assert not shows_secret(returned(call, reply))


def test_the_search_for_the_secret_finds_it():
    # The label is public here: what the property looks for would be found if it were shown.
    assert shows_secret(requested(call_named("C_FindObjectsInit"), 1, ((Attribute(CKA_ID, SECRET),),)))
    assert shows_secret(requested(call_named("C_FindObjectsInit"), 1, ((Attribute(CKA_LABEL, SECRET),),)))


CONCEALED: dict[Kind, Value] = {
    Kind.BYTES: SECRET,
    Kind.PIN: SECRET,
    Kind.MECHANISM: Mechanism(CKM_AES_CBC, SECRET),
    Kind.PARAMETER: SECRET,
    Kind.TEMPLATE: (Attribute(CKA_VALUE, SECRET),),
}
OTHERS: dict[Kind, Value] = {
    Kind.BUFFER: Room(None, False),
    Kind.FILL: Fill(False, 0),
    Kind.LABEL: None,
    Kind.NAME: Null(),
}
BRINGING = [
    call for call in CALLS if call.name != "C_Initialize" and any(kind in CONCEALED for kind in request_kinds(call))
]


@pytest.mark.parametrize("call", BRINGING, ids=lambda call: call.name)
def test_every_argument_that_may_be_secret_is_concealed(call):
    kinds = request_kinds(call)
    given: dict[Kind, Value] = {**OTHERS, **CONCEALED}
    shown = requested(call, 1, [given.get(kind, 0) for kind in kinds])
    assert not shows_secret(shown)
    assert len(shown) > len([kind for kind in kinds if kind in CONCEALED])
