"""Bytes as real releases write them, and their meaning. `h` takes hexadecimal with blanks; `"text"` in it stands for its bytes."""

import re
from typing import Any

import pytest

from keyway.cryptoki import (
    RV,
    Attribute,
    Fill,
    LengthAttributes,
    LengthNumbers,
    Mechanism,
    Null,
    NumberArray,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    RoomNumbers,
    Structured,
    Unavailable,
    Unchanged,
    call_named,
)
from keyway.cryptoki import constants as c
from keyway.p11kit import (
    DIALECTS,
    DecodeError,
    NotCarried,
    Reply,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
)
from keyway.p11kit.message import Request

SESSION = "0000000000000001"
KEY = "0000000000000002"
OLD, MIDDLE, NEW = DIALECTS
UNAVAILABLE = 2**64 - 1


def h(text: str) -> bytes:
    text = re.sub(r'"([^"]*)"', lambda match: match[1].encode().hex(), text)
    return bytes.fromhex(text)


def request(id_: int, letters: str, arguments: str) -> bytes:
    return h(f'{id_:08x} {len(letters):08x} "{letters}" {arguments}')


MAGIC = '01 00000029 "PRIVATE-GNOME-KEYRING-PKCS11-PROTOCOL-V-1"'
PSS = "0000000000000250 0000000000000002 0000000000000020"
PSS_VALUE = Mechanism(0xD, Structured(11, (0x250, 2, 0x20)))
GCM = f"0000000c {'aa' * 12} 0000000000000060 00000003 010203 0000000000000080"
GCM_VALUE = Mechanism(0x1087, Structured(42, (b"\xaa" * 12, 0x60, b"\1\2\3", 0x80)))
ECDH = "0000000000000001 ffffffff 00000003 040506"
ECDH_VALUE = Mechanism(0x1050, Structured(20, (1, Null(), b"\4\5\6")))

# versions, name, target, values, id, letters, arguments: encoded to these bytes, and decoded from them
REQUESTS: list[tuple[Any, ...]] = [
    ((0, 1, 2), "C_Initialize", 0, (2, Null(), b""), 1, "ayyay", f"{MAGIC} 00 01 00000001 00"),
    ((0, 1, 2), "C_Initialize", 0, (2, b"conf", b""), 1, "ayyay", f'{MAGIC} 01 01 00000005 "conf" 00'),
    ((0, 1, 2), "C_GetSlotList", 0, (0, Room(0, False)), 4, "yfu", "00 00000000"),
    ((0, 1, 2), "C_GetSlotList", 0, (1, Room(2, True)), 4, "yfu", "01 00000002"),
    ((0,), "C_InitToken", 5, (b"so", b"L" * 32), 9, "uayz", f'{5:016x} 01 00000002 "so" 00000020 {"4c" * 32}'),
    ((1, 2), "C_InitToken", 5, (b"so", b"L" * 32), 88, "uays", f'{5:016x} 01 00000002 "so" 00000020 {"4c" * 32}'),
    ((0, 1, 2), "C_OpenSession", 0x21BEC2FD, (4, 0), 10, "uu", "0000000021bec2fd 0000000000000004"),
    ((0, 1, 2), "C_Login", 1, (1, b"1234"), 18, "uuay", f'{SESSION} {1:016x} 01 00000004 "1234"'),
    ((0,), "C_Login", 1, (1, Null()), 18, "uuay", f"{SESSION} {1:016x} 00 00000000"),
    ((1, 2), "C_Login", 1, (1, Null()), 18, "uuay", f"{SESSION} {1:016x} 01 ffffffff"),
    ((0, 1, 2), "C_Login", 1, (1, Null(4)), 18, "uuay", f"{SESSION} {1:016x} 00 00000004"),
    ((0, 1, 2), "C_Login", 1, (1, b""), 18, "uuay", f"{SESSION} {1:016x} 01 00000000"),
    (
        (0, 1, 2), "C_FindObjectsInit", 1, ((Attribute(0, 3), Attribute(0x102, b"\1")),), 26, "uaA",
        f"{SESSION} 00000002  00000000 01 00000008 0000000000000003  00000102 01 00000001 00000001 01",
    ),
    ((0, 1, 2), "C_FindObjectsInit", 1, ((),), 26, "uaA", f"{SESSION} 00000000"),
    ((0, 1, 2), "C_FindObjects", 1, (ObjectsRoom(1, True, True),), 27, "ufu", f"{SESSION} 00000001"),
    ((0, 1), "C_SignInit", 1, (Mechanism(0x40), 2), 42, "uMu", f"{SESSION} 00000040 ffffffff {KEY}"),
    ((2,), "C_SignInit", 1, (Mechanism(0x40), 2), 42, "uMu", f"{SESSION} 00000040 {KEY}"),
    ((0, 1), "C_SignInit", 1, (PSS_VALUE, 2), 42, "uMu", f"{SESSION} 0000000d {PSS} {KEY}"),
    ((2,), "C_SignInit", 1, (PSS_VALUE, 2), 42, "uMu", f"{SESSION} 0000000d 01 {PSS} {KEY}"),
    ((2,), "C_SignInit", 1, (Mechanism(0xD), 2), 42, "uMu", f"{SESSION} 0000000d 00 {KEY}"),
    ((1, 2), "C_SignInit", 1, (None, 2), 42, "uMu", f"{SESSION} ffffffff {KEY}"),
    ((1,), "C_EncryptInit", 1, (GCM_VALUE, 2), 29, "uMu", f"{SESSION} 00001087 {GCM} {KEY}"),
    ((2,), "C_EncryptInit", 1, (GCM_VALUE, 2), 29, "uMu", f"{SESSION} 00001087 01 {GCM} {KEY}"),
    (
        (0, 1), "C_EncryptInit", 1, (Mechanism(0x1082, bytes(16)), 2), 29, "uMu",
        f"{SESSION} 00001082 00000010 {'00' * 16} {KEY}",
    ),
    (
        (2,), "C_EncryptInit", 1, (Mechanism(0x1082, bytes(16)), 2), 29, "uMu",
        f"{SESSION} 00001082 01 00000010 {'00' * 16} {KEY}",
    ),
    (
        (1,), "C_EncryptInit", 1, (Mechanism(0x1086, Structured(40, (128, bytes(16)))), 2), 29, "uMu",
        f"{SESSION} 00001086 0000000000000080 00000010 {'00' * 16} {KEY}",
    ),
    # A release that does not know the mechanism takes the C structure as it is.
    (
        (0,), "C_EncryptInit", 1, (Mechanism(0x1086, Structured(40, (128, b"\1" * 16))), 2), 29, "uMu",
        f"{SESSION} 00001086 00000018 8000000000000000 {'01' * 16} {KEY}",
    ),
    (
        (0,), "C_SignInit", 1, (Mechanism(0x252, Structured(2, (12,))), 2), 42, "uMu",
        f"{SESSION} 00000252 00000008 0c00000000000000 {KEY}",
    ),
    (
        (1,), "C_SignInit", 1, (Mechanism(0x252, Structured(2, (12,))), 2), 42, "uMu",
        f"{SESSION} 00000252 000000000000000c {KEY}",
    ),
    (
        (1,), "C_WrapKey", 1, (Mechanism(0x9, Structured(10, (0x220, 1, 1, b"x"))), 2, 3, Room(512, True)), 60, "uMuufy",
        f'{SESSION} 00000009 {0x220:016x} {1:016x} {1:016x} 00000001 "x" {KEY} {3:016x} 00000200',
    ),
    (
        (1,), "C_SignInit", 1, (Mechanism(0x80020004, (7).to_bytes(8, "little")), 2), 42, "uMu",
        f"{SESSION} 80020004 0000000000000007 {KEY}",
    ),
    ((0, 1), "C_DigestInit", 1, (Mechanism(0x80000001, b"x"),), 37, "uM", f'{SESSION} 80000001 00000001 "x"'),
    ((2,), "C_DigestInit", 1, (Mechanism(0x80000001, b"x"),), 37, "uM", f'{SESSION} 80000001 01 00000001 "x"'),
    ((2,), "C_DigestInit", 1, (Mechanism(0x80000001),), 37, "uM", f"{SESSION} 80000001 00"),
    ((1,), "C_DeriveKey", 1, (ECDH_VALUE, 2, (), 0), 62, "uMuaA", f"{SESSION} 00001050 {ECDH} {KEY} 00000000"),
    ((2,), "C_DeriveKey", 1, (ECDH_VALUE, 2, (), 0), 89, "uMuaA", f"{SESSION} 00001050 01 {ECDH} {KEY} 00000000"),
    (
        (1,), "C_GenerateKey", 1,
        (Mechanism(0x1080), (Attribute(0x110, b"20260102"), Attribute(0x111, Null()), Attribute(0x162, b"\1")), 0),
        58, "uMaA",
        (f'{SESSION} 00001080 ffffffff 00000003  00000110 01 00000008 00000008 "20260102"  00000111 01 00000000 ffffffff'
        "  00000162 01 00000001 01"),
    ),
    (
        (2,), "C_CreateObject", 1,
        ((Attribute(0x40000211, (Attribute(0x108, b"\1"), Attribute(0x100, 3))), Attribute(0x40000600, NumberArray((1, 9)))), 0),
        20, "uaA",
        (f"{SESSION} 00000002  40000211 01 00000030 00000002  00000108 01 00000001 01  00000100 01 00000008 {3:016x}"
        f"  40000600 01 00000010 00000002 {1:016x} {9:016x}"),
    ),
    (
        (1, 2), "C_CreateObject", 1, ((Attribute(0x40000213, ()),), 0), 20, "uaA",
        f"{SESSION} 00000001  40000213 01 00000000 00000000",
    ),
    # Numbers that the protocol does not know travel in the memory of the sender.
    (
        (0, 1, 2), "C_SetAttributeValue", 1, (2, (Attribute(0x601, 5), Attribute(0x11, Null(UNAVAILABLE)))), 25, "uuaA",
        f"{SESSION} {KEY} 00000002  00000601 01 00000008 00000008 0500000000000000  00000011 00",
    ),
    (
        (0, 1, 2), "C_GetAttributeValue", 1, (2, (Attribute(0x202, RoomBytes(1)), Attribute(0, RoomNumbers(1)))), 24, "uufA",
        f"{SESSION} {KEY} 00000002  00000202 00000001  00000000 00000008",
    ),
    (
        (2,), "C_GetAttributeValue", 1, (2, (Attribute(0x40000211, (Attribute(0x108, RoomBytes(1)),)), Attribute(0x11, Null()))),
        24, "uufA", f"{SESSION} {KEY} 00000002  40000211 00000018 00000001 00000108 00000001  00000011 00000000",
    ),
    ((0, 1, 2), "C_Sign", 1, (b"hello", Room(512, True)), 43, "uayfy", f'{SESSION} 01 00000005 "hello" 00000200'),
    ((0, 1, 2), "C_Sign", 1, (b"hello", Room(0, False)), 43, "uayfy", f'{SESSION} 01 00000005 "hello" 00000000'),
    ((1, 2), "C_EncryptFinal", 1, (Room(0, True),), 32, "ufy", f"{SESSION} ffffffff"),
    ((0, 1, 2), "C_GenerateRandom", 1, (Fill(True, 16),), 64, "ufy", f"{SESSION} 00000010"),
    ((0,), "C_GenerateRandom", 1, (Fill(True, 0),), 64, "ufy", f"{SESSION} 00000000"),
    ((1, 2), "C_GenerateRandom", 1, (Fill(True, 0),), 64, "ufy", f"{SESSION} ffffffff"),
    ((1, 2), "C_GenerateRandom", 1, (Fill(False, 0),), 64, "ufy", f"{SESSION} 00000000"),
    ((0, 1, 2), "C_WaitForSlotEvent", 0, (1, 0, False), 65, "u", f"{1:016x}"),
    (
        (1, 2), "C_LoginUser", 1, (1, b"pin", b"me"), 66, "uuayay",
        f'{SESSION} {1:016x} 01 00000003 "pin" 01 00000002 "me"',
    ),
    (
        (1, 2), "C_SignMessageNext", 1, (Null(), b"d", Room(64, True)), 81, "uayayyfy",
        f'{SESSION} 01 ffffffff 01 00000001 "d" 01 00000040',
    ),
    (
        (1, 2), "C_SignMessageNext", 1, (Null(), b"d", Room(None, False)), 81, "uayayyfy",
        f'{SESSION} 01 ffffffff 01 00000001 "d" 00 00000000',
    ),
]  # fmt: skip


@pytest.mark.parametrize("vector", REQUESTS, ids=lambda vector: f"{vector[1]}-{vector[0]}")
def test_requests(vector: tuple[Any, ...]) -> None:
    versions, name, target, values, id_, letters, arguments = vector
    body = request(id_, letters, arguments)
    for version in versions:
        assert encode_request(DIALECTS[version], call_named(name), target, values) == body
        decoded = decode_request(DIALECTS[version], body)
        assert (decoded.call.name, decoded.target, decoded.values, decoded.id) == (name, target, values, id_)


# What only others write: versions, name, values, id, letters, arguments
READ: list[tuple[Any, ...]] = [
    # No NULL mechanism but type 0 in 0.25.0 to 0.25.2, which is a mechanism in all other places.
    ((1,), "C_SignInit", (None, 2), 42, "uMu", f"{SESSION} 00000000 {KEY}"),
    ((1,), "C_SignInit", (Mechanism(0), 2), 42, "uMu", f"{SESSION} 00000000 ffffffff {KEY}"),
    # Peers with a longer list, or with a shorter one.
    ((2,), "C_SignInit", (Mechanism(0x1057), 2), 42, "uMu", f"{SESSION} 00001057 {KEY}"),
    ((2,), "C_SignInit", (Mechanism(0x40), 2), 42, "uMu", f"{SESSION} 00000040 00 {KEY}"),
    ((2,), "C_GenerateKey", (Mechanism(0x1055), (), 0), 58, "uMaA", f"{SESSION} 00001055 00000000"),
    # A later client whose first try failed comes with the byte 0, and speaks format B.
    ((0,), "C_SignInit", (Mechanism(0x40), 2), 42, "uMu", f"{SESSION} 00000040 {KEY}"),
    ((0,), "C_SignInit", (PSS_VALUE, 2), 42, "uMu", f"{SESSION} 0000000d 01 {PSS} {KEY}"),
    # What lies behind a label without a terminator.
    ((0,), "C_InitToken", (b"", b"L" * 32), 9, "uayz", f'{SESSION} 01 00000000 00000024 {"4c" * 32} "more"'),
    ((0,), "C_InitToken", (b"", b"L" + b" " * 31), 9, "uayz", f"{SESSION} 01 00000000 00000001 4c"),
    ((0, 1, 2), "C_Login", (1, Null()), 18, "uuay", f"{SESSION} {1:016x} 00 00000000"),
    ((0, 1, 2), "C_Login", (1, Null()), 18, "uuay", f"{SESSION} {1:016x} 01 ffffffff"),
    # NULL values still have something in their place.
    (
        (0, 1, 2), "C_FindObjectsInit", ((Attribute(0, Null()), Attribute(1, Null()), Attribute(0x11, Null())),), 26, "uaA",
        f"{SESSION} 00000003  00000000 01 00000000 {0:016x}  00000001 01 00000000 00  00000011 01 00000000 ffffffff",
    ),
    # A CK_ULONG of 4 bytes.
    ((0, 1, 2), "C_FindObjectsInit", ((Attribute(0, 3),),), 26, "uaA", f"{SESSION} 00000001 00000000 01 00000004 {3:016x}"),
    (
        (0, 1, 2), "C_GetAttributeValue", (2, (Attribute(0, RoomNumbers(1)), Attribute(0x11, RoomBytes(4)))), 24, "uufA",
        f"{SESSION} {KEY} 00000002  00000000 00000004  00000011 00000004",
    ),
    # The length of the encoded value instead of that of the value.
    ((0, 1, 2), "C_FindObjectsInit", ((Attribute(0x102, b"ab"),),), 26, "uaA", f'{SESSION} 00000001 00000102 01 00000006 00000002 "ab"'),
    # 0.25.4 and 0.25.5 tell the rooms of a nested template always, earlier ones never.
    (
        (1,), "C_GetAttributeValue", (2, (Attribute(0x40000211, Null()), Attribute(0x11, Null()))), 24, "uufA",
        f"{SESSION} {KEY} 00000002  40000211 00000000 00000000  00000011 00000000",
    ),
    (
        (0, 1, 2), "C_GetAttributeValue", (2, (Attribute(0x40000211, Null()), Attribute(0x11, Null()))), 24, "uufA",
        f"{SESSION} {KEY} 00000002  40000211 00000000  00000011 00000000",
    ),
    (
        (0, 1), "C_GetAttributeValue", (2, (Attribute(0x40000211, Null()), Attribute(0x11, RoomBytes(9)))), 24, "uufA",
        f"{SESSION} {KEY} 00000002  40000211 00000018  00000011 00000009",
    ),
    # Bytes at the end mean nothing.
    ((0, 1, 2), "C_Logout", (), 19, "u", f"{SESSION} 00"),
    # Orders that nobody can fill are lowered.
    ((0, 1, 2), "C_DigestFinal", (Room(67108864 - 256, True),), 41, "ufy", f"{SESSION} 7fffffff"),
    ((0, 1, 2), "C_FindObjects", (ObjectsRoom(1048576, True, True),), 27, "ufu", f"{SESSION} 7fffffff"),
]  # fmt: skip


@pytest.mark.parametrize("vector", READ, ids=lambda vector: f"{vector[1]}-{vector[0]}")
def test_requests_of_others(vector: tuple[Any, ...]) -> None:
    versions, name, values, id_, letters, arguments = vector
    for version in versions:
        decoded = decode_request(DIALECTS[version], request(id_, letters, arguments))
        assert (decoded.call.name, decoded.values) == (name, values)


def asked(name: str, *values: Any, version: int = 2) -> tuple[Any, Any]:
    """A dialect, and a request as the server knows it after decoding."""
    dialect = DIALECTS[version]
    return dialect, decode_request(dialect, encode_request(dialect, call_named(name), 1, values))


def two(*values: Any) -> Any:
    return asked("C_GetAttributeValue", 2, tuple(Attribute(*value) for value in values))


# asked, letters and results, the reply
REPLIES: list[tuple[Any, ...]] = [
    (asked("C_Initialize", 2, Null(), b""), "", "", Reply(0, (Null(),))),
    (asked("C_GetSlotList", 1, Room(0, False)), "au", "00 00000002", Reply(0, (Numbers(2, None),))),
    (
        asked("C_GetSlotList", 1, Room(2, True)), "au", f"01 00000002 {0x21BEC2FD:016x} {1:016x}",
        Reply(0, (Numbers(2, (0x21BEC2FD, 1)),)),
    ),
    (asked("C_GetSlotList", 1, Room(1, True)), "au", "00 00000002", Reply(RV.CKR_BUFFER_TOO_SMALL, (Numbers(2, None),))),
    (asked("C_FindObjects", ObjectsRoom(5, True, True)), "au", "01 00000000", Reply(0, (Numbers(0, ()),))),
    (asked("C_OpenSession", 4, 0), "u", f"{7:016x}", Reply(0, (), 7)),
    (asked("C_SignInit", Mechanism(0x40), 2), "", "", Reply(0, (Unchanged(),))),
    (asked("C_Sign", b"", Room(0, False)), "ay", "00 00000100", Reply(0, (Output(256, None),))),
    (asked("C_Sign", b"", Room(9, True)), "ay", "00 00000100", Reply(RV.CKR_BUFFER_TOO_SMALL, (Output(256, None),))),
    (asked("C_Sign", b"", Room(9, True)), "ay", '01 00000002 "ab"', Reply(0, (Output(2, b"ab"),))),
    (asked("C_EncryptFinal", Room(0, True)), "ay", "01 00000000", Reply(0, (Output(0, b""),))),
    (asked("C_GenerateRandom", Fill(True, 2)), "ay", '01 00000002 "ab"', Reply(0, (b"ab",))),
    (asked("C_GenerateKeyPair", Mechanism(0), (), (), 0, 0), "uu", f"{5:016x}{6:016x}", Reply(0, (Unchanged(), 5, 6))),
    (asked("C_DeriveKey", ECDH_VALUE, 2, (), 0, version=1), "u", f"{9:016x}", Reply(0, (Unchanged(), 9))),
    (asked("C_DeriveKey", ECDH_VALUE, 2, (), 0), "uPu", f"{0:016x} 01 {9:016x}", Reply(0, (Unchanged(), 9))),
    (asked("C_DeriveKey", Mechanism(0x1050), 2, (), 0), "uPu", f"{0:016x} 00 {9:016x}", Reply(0, (Unchanged(), 9))),
    (asked("C_DeriveKey", Mechanism(0x392), 2, (), 0), "uPu", f"{0:016x} {9:016x}", Reply(0, (Unchanged(), 9))),
    (
        two((0x202, RoomBytes(1)), (0, RoomNumbers(1))), "aAu",
        f"00000002  00000202 01 00000001 00  00000000 01 00000008 {3:016x}  {0:016x}",
        Reply(0, ((Attribute(0x202, b"\0"), Attribute(0, 3)),)),
    ),
    (
        two((0x181, Null()), (0x1, Null()), (0x100, Null()), (0x110, Null())), "aAu",
        (f"00000004  00000181 01 00000043 ffffffff  00000001 01 00000001 00  00000100 01 00000008 {0:016x}"
        f"  00000110 01 00000008 ffffffff  {0:016x}"),
        Reply(0, ((
            Attribute(0x181, Null(67)), Attribute(1, Null(1)), Attribute(0x100, LengthNumbers(1)), Attribute(0x110, Null(8)),
        ),)),
    ),
    (
        two((0x4, Null())), "aAu", "00000001 00000004 00 0000000000000012",
        Reply(RV.CKR_ATTRIBUTE_TYPE_INVALID, ((Attribute(4, Unavailable()),),)),
    ),
    (
        two((0x40000600, Null()), (3, RoomBytes(2))), "aAu",
        f'00000002  40000600 01 00000010 00000002 {0:016x} {0:016x}  00000003 01 00000002 00000002 "ab"  {0:016x}',
        Reply(0, ((Attribute(0x40000600, LengthNumbers(2)), Attribute(3, b"ab")),)),
    ),
    (
        two((0x40000212, (Attribute(0x108, RoomBytes(1)),)), (0x40000211, Null())), "aAu",
        f"00000002  40000212 01 00000018 00000001 00000108 01 00000001 01  40000211 01 00000030 00000000  {0:016x}",
        Reply(0, ((Attribute(0x40000212, (Attribute(0x108, b"\1"),)), Attribute(0x40000211, LengthAttributes(2))),)),
    ),
    (
        two((3, RoomBytes(1))), "aAu", f"00000001 00000003 01 00000002 ffffffff {0x150:016x}",
        Reply(RV.CKR_BUFFER_TOO_SMALL, ((Attribute(3, Null(2)),),)),
    ),
]  # fmt: skip


@pytest.mark.parametrize("vector", REPLIES, ids=lambda vector: vector[0][1].call.name)
def test_replies(vector: tuple[Any, ...]) -> None:
    (dialect, decoded), letters, results, reply = vector
    body = request(decoded.id, letters, results)
    assert encode_reply(dialect, decoded, reply) == body
    assert decode_reply(dialect, decoded, body) == reply


def test_a_list_of_mechanisms_as_stock_servers_tell_its_length() -> None:
    dialect, decoded = two((0x40000600, Null()), (3, RoomBytes(2)))
    body = request(24, "aAu", f'00000002  40000600 01 00000010 00000002  00000003 01 00000002 00000002 "ab"  {0:016x}')
    assert decode_reply(dialect, decoded, body).values == (
        (Attribute(0x40000600, LengthNumbers(2)), Attribute(3, b"ab")),
    )


def test_a_client_with_32_bits_is_told_its_own_lengths() -> None:
    decoded = decode_request(NEW, request(24, "uufA", f"{SESSION} {KEY} 00000001 00000100 00000004"))
    assert encode_reply(NEW, decoded, Reply(0, ((Attribute(0x100, 3),),))) == request(
        24, "aAu", f"00000001 00000100 01 00000004 {3:016x} {0:016x}"
    )


def test_templates_are_kept_from_clients_that_do_not_take_them() -> None:
    """They would fail the whole call, and lose the other attributes."""
    for dialect in (OLD, MIDDLE):
        decoded = decode_request(
            dialect, request(24, "uufA", f"{SESSION} {KEY} 00000002 40000211 00000000 00000100 00000008")
        )
        reply = Reply(0, ((Attribute(0x40000211, LengthAttributes(1)), Attribute(0x100, 3)),))
        assert encode_reply(dialect, decoded, reply) == request(
            24, "aAu", f"00000002 40000211 00 00000100 01 00000008 {3:016x} {0x12:016x}"
        )


def test_an_answer_without_attributes_is_an_error() -> None:
    """Clients abort the process when it is none."""
    decoded = decode_request(NEW, request(24, "uufA", f"{SESSION} {KEY} 00000000"))
    assert encode_reply(NEW, decoded, Reply(0, ((),))) == encode_error(RV.CKR_ARGUMENTS_BAD)


def test_errors() -> None:
    dialect, decoded = asked("C_Sign", b"", Room(9, True))
    body = h('00000000 00000001 "u" 00000000000000b3')
    assert encode_error(0xB3) == encode_reply(dialect, decoded, Reply(0xB3)) == body
    assert encode_reply(dialect, decoded, Reply(0xB3, (Output(5, None),))) == body
    assert decode_reply(dialect, decoded, body) == Reply(0xB3)
    assert decode_reply(dialect, decoded, encode_error(2**63 + 5)) == Reply(2**63 + 5)
    assert encode_reply(*asked("C_Logout"), Reply(RV.CKR_BUFFER_TOO_SMALL)) == encode_error(0x150)


@pytest.mark.parametrize(
    ("question", "body"),
    [
        (asked("C_Logout"), h('00000000 00000001 "u" 0000000000000000')),
        (asked("C_Logout"), request(18, "", "")),
        (asked("C_Logout"), request(19, "u", "")),
        (asked("C_Logout"), b""),
        (asked("C_GenerateRandom", Fill(True, 3)), request(64, "ay", '01 00000002 "ab"')),
        (asked("C_GetObjectSize", 1, 0), request(23, "u", "00000000")),
        (two((3, RoomBytes(1))), request(24, "aAu", "00000000 0000000000000000")),
        (two((3, RoomBytes(1))), request(24, "aAu", "00000001 00000102 01 00000001 00000001 61 0000000000000000")),
        (asked("C_DeriveKey", Mechanism(0x392), 2, (), 0), request(89, "uPu", f"{0:016x} 01")),
        (asked("C_GetSlotList", 1, Room(2, True)), request(4, "au", "00 00000002")),
        (asked("C_Sign", b"", Room(9, True)), request(43, "ay", "00 00000002")),
        (asked("C_GetSlotInfo", True), request(5, "ssuvv", f"00000001 20 00000020 {'20' * 32} {0:016x} 0000 0000")),
    ],
)
def test_replies_that_are_none(question: Any, body: bytes) -> None:
    with pytest.raises(DecodeError) as refused:
        decode_reply(question[0], question[1], body)
    assert refused.value.rv == RV.CKR_DEVICE_ERROR


@pytest.mark.parametrize(
    ("body", "rv"),
    [
        (b"", RV.CKR_ARGUMENTS_BAD),
        (request(0, "u", SESSION), RV.CKR_FUNCTION_NOT_SUPPORTED),
        (request(90, "u", SESSION), RV.CKR_FUNCTION_NOT_SUPPORTED),
        (request(19, "uu", SESSION * 2), RV.CKR_ARGUMENTS_BAD),
        (request(19, "u", "00"), RV.CKR_ARGUMENTS_BAD),
        (request(1, "ayyay", "01 00000001 61 00 00 00000000"), RV.CKR_GENERAL_ERROR),
        (request(64, "ufy", f"{SESSION} 7fffffff"), RV.CKR_HOST_MEMORY),
        (request(63, "uay", f"{SESSION} 01 7fffffff"), RV.CKR_ARGUMENTS_BAD),
        (request(63, "uay", f"{SESSION} 02 00000000"), RV.CKR_ARGUMENTS_BAD),
        (request(26, "uaA", f"{SESSION} 00001001"), RV.CKR_ARGUMENTS_BAD),
        (request(26, "uaA", f"{SESSION} ffffffff"), RV.CKR_ARGUMENTS_BAD),
        (request(26, "uaA", f"{SESSION} 00000001 00000103 01 00000008 01"), RV.CKR_ATTRIBUTE_VALUE_INVALID),
        (request(26, "uaA", f"{SESSION} 00000001 0000062a 01 00000001 00000001 01"), RV.CKR_ATTRIBUTE_TYPE_INVALID),
        # Pointers into the client's memory.
        (request(79, "uayayfy", f"{SESSION} 01 00000001 00 01 00000000 00000000"), RV.CKR_MECHANISM_PARAM_INVALID),
        (request(42, "uMu", f"{SESSION} 00001057 01 00000018 {'41' * 24} {KEY}"), RV.CKR_MECHANISM_PARAM_INVALID),
        (request(42, "uMu", f"{SESSION} 00001082 01 00000003 414141 {KEY}"), RV.CKR_MECHANISM_PARAM_INVALID),
        (request(62, "uMuaA", f"{SESSION} 80070001 01 {SESSION} {KEY}"), RV.CKR_MECHANISM_INVALID),
    ],
)
def test_requests_that_are_refused(body: bytes, rv: int) -> None:
    with pytest.raises(DecodeError) as refused:
        decode_request(NEW, body)
    assert refused.value.rv == rv


def test_a_template_as_memory() -> None:
    """0.24.1 takes CKA_DERIVE_TEMPLATE for bytes, and would send its structures."""
    with pytest.raises(DecodeError) as refused:
        decode_request(OLD, request(26, "uaA", f"{SESSION} 00000001 40000213 01 00000018 00000018 {'41' * 24}"))
    assert refused.value.rv == RV.CKR_ATTRIBUTE_TYPE_INVALID


def test_levels() -> None:
    def nested(levels: int) -> bytes:
        start = "00000001 40000211 01 00000018 " * (levels - 1)
        return request(26, "uaA", f"{SESSION} {start} 00000000")

    decode_request(NEW, nested(8))
    with pytest.raises(DecodeError):
        decode_request(NEW, nested(9))
    with pytest.raises(DecodeError):
        decode_request(NEW, nested(100_000))


@pytest.mark.parametrize(
    ("version", "name", "values", "rv"),
    [
        (0, "C_SignInit", (None, 2), RV.CKR_ARGUMENTS_BAD),
        (0, "C_SessionCancel", (0,), RV.CKR_FUNCTION_NOT_SUPPORTED),
        (2, "C_VerifySignature", (b"",), RV.CKR_FUNCTION_NOT_SUPPORTED),
        (2, "C_SignInit", (Mechanism(2**32 - 1), 2), RV.CKR_MECHANISM_INVALID),
        (2, "C_SignInit", (Mechanism(2**32), 2), RV.CKR_MECHANISM_INVALID),
        (2, "C_SignInit", (Mechanism(0x80010024, b""), 2), RV.CKR_MECHANISM_INVALID),
        (2, "C_SignInit", (Mechanism(0x40, b"x"), 2), RV.CKR_MECHANISM_PARAM_INVALID),
        (1, "C_SignInit", (Mechanism(0xD), 2), RV.CKR_MECHANISM_PARAM_INVALID),
        (2, "C_SignInit", (Mechanism(0xD, b"x"), 2), RV.CKR_MECHANISM_PARAM_INVALID),
        (2, "C_SignInit", (Mechanism(0x1082, bytes(15)), 2), RV.CKR_MECHANISM_PARAM_INVALID),
        (2, "C_SignInit", (Mechanism(0x1057, Structured(27, (0, Null()))), 2), RV.CKR_MECHANISM_PARAM_INVALID),
        (2, "C_SignInit", (Mechanism(0x1057, bytes(24)), 2), RV.CKR_MECHANISM_PARAM_INVALID),
        (0, "C_CreateObject", ((Attribute(0x40000211, ()),), 0), RV.CKR_ATTRIBUTE_TYPE_INVALID),
        (2, "C_CreateObject", ((Attribute(0x62A, ()),), 0), RV.CKR_ATTRIBUTE_TYPE_INVALID),
        (2, "C_CreateObject", ((Attribute(2**32, b""),), 0), RV.CKR_ATTRIBUTE_TYPE_INVALID),
        (2, "C_CreateObject", ((Attribute(0x103, b"\1\0"),), 0), RV.CKR_ATTRIBUTE_VALUE_INVALID),
        (2, "C_CreateObject", ((Attribute(0x100, b"\1\0"),), 0), RV.CKR_ATTRIBUTE_VALUE_INVALID),
        (2, "C_CreateObject", (Null(3), 0), RV.CKR_ARGUMENTS_BAD),
        (2, "C_CreateObject", ((), None), RV.CKR_ARGUMENTS_BAD),
        (2, "C_GetAttributeValue", (1, Null(0)), RV.CKR_ARGUMENTS_BAD),
        (2, "C_GetInfo", (False,), RV.CKR_ARGUMENTS_BAD),
        (2, "C_Sign", (b"", Room(None, True)), RV.CKR_ARGUMENTS_BAD),
        (2, "C_WaitForSlotEvent", (0, 0, True), RV.CKR_ARGUMENTS_BAD),
        (2, "C_InitToken", (b"", None), RV.CKR_ARGUMENTS_BAD),
        (2, "C_SignMessage", (b"x", b"", Room(1, True)), RV.CKR_MECHANISM_PARAM_INVALID),
    ],
)
def test_what_is_not_carried(version: int, name: str, values: Any, rv: int) -> None:
    with pytest.raises(NotCarried) as refused:
        encode_request(DIALECTS[version], call_named(name), 1, values)
    assert refused.value.rv == rv


def test_received_bytes_do_not_show() -> None:
    decoded = decode_request(NEW, request(18, "uuay", f'{SESSION} {1:016x} 01 00000004 "1234"'))
    assert "1234" not in repr(decoded)
    assert "1234" not in repr(decoded.values)
    assert repr(Request(call_named("C_Login"), 1, (1, b"1234"))) == "Request(C_Login, target=0x1)"
    assert c.CKU_USER == 1
