"""The client's side against a real `p11-kit remote`."""

import hashlib
from typing import Any

import pytest
from tests.daemon.raw import RawClient
from tests.daemon.tokens import slot_of
from tests.p11kit.conftest import PIN
from tests.p11kit.stock import StockServer

from keyway.config.locate import softhsm_module
from keyway.cryptoki import (
    RV,
    Attribute,
    Fill,
    LengthAttributes,
    Mechanism,
    Null,
    NumberArray,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    RoomNumbers,
    Structured,
    Unavailable,
    call_named,
)
from keyway.cryptoki import constants as c
from keyway.cryptoki.values import LengthNumbers
from keyway.p11kit import MAGIC, NotCarried, Reply, encode_request

OPEN = c.CKF_SERIAL_SESSION | c.CKF_RW_SESSION
YES, NO = b"\1", b"\0"


def session_of(server: StockServer) -> int:
    slot = slot_of(server, "demo")
    reply = server.call("C_OpenSession", OPEN, 0, target=slot)
    assert reply.rv == 0
    assert reply.session
    server.good("C_Login", c.CKU_USER, PIN.encode(), target=reply.session)
    return reply.session


def rsa_pair(server: Any, session: int) -> tuple[int, int]:
    values = server.good(
        "C_GenerateKeyPair",
        Mechanism(c.CKM_RSA_PKCS_KEY_PAIR_GEN),
        (Attribute(c.CKA_MODULUS_BITS, 2048), Attribute(c.CKA_VERIFY, YES), Attribute(c.CKA_TOKEN, YES)),
        (
            Attribute(c.CKA_TOKEN, YES),
            Attribute(c.CKA_SIGN, YES),
            Attribute(c.CKA_DECRYPT, YES),
            Attribute(c.CKA_SENSITIVE, YES),
            Attribute(c.CKA_ID, b"\x07"),
            Attribute(c.CKA_LABEL, b"rsa"),
            Attribute(c.CKA_ALLOWED_MECHANISMS, NumberArray((c.CKM_SHA256_RSA_PKCS, c.CKM_RSA_PKCS_PSS, 0x43))),
        ),
        0,
        0,
        target=session,
    )
    return values[1], values[2]


def test_a_key_from_generation_to_signature(remote: StockServer) -> None:
    session = session_of(remote)
    public, private = rsa_pair(remote, session)
    remote.good("C_SignInit", Mechanism(c.CKM_SHA256_RSA_PKCS), private, target=session)
    (asked,) = remote.good("C_Sign", b"hello", Room(0, False), target=session)
    assert asked == Output(256, None)
    reply = remote.call("C_Sign", b"hello", Room(10, True), target=session)
    assert reply == Reply(RV.CKR_BUFFER_TOO_SMALL, (Output(256, None),))
    (signed,) = remote.good("C_Sign", b"hello", Room(300, True), target=session)
    assert isinstance(signed, Output)
    assert signed.data is not None
    assert len(signed.data) == signed.length == 256
    remote.good("C_VerifyInit", Mechanism(c.CKM_SHA256_RSA_PKCS), public, target=session)
    remote.good("C_Verify", b"hello", signed.data, target=session)
    remote.good("C_VerifyInit", Mechanism(c.CKM_SHA256_RSA_PKCS), public, target=session)
    assert remote.call("C_Verify", b"hallo", signed.data, target=session) == Reply(RV.CKR_SIGNATURE_INVALID)
    pss = Mechanism(c.CKM_RSA_PKCS_PSS, Structured(11, (c.CKM_SHA256, c.CKG_MGF1_SHA256, 32)))
    digest = hashlib.sha256(b"hello").digest()
    remote.good("C_SignInit", pss, private, target=session)
    (signed,) = remote.good("C_Sign", digest, Room(300, True), target=session)
    assert isinstance(signed, Output)
    remote.good("C_VerifyInit", pss, public, target=session)
    remote.good("C_Verify", digest, signed.data, target=session)
    remote.good("C_Finalize")
    assert remote.call("C_GetInfo", True).rv == RV.CKR_CRYPTOKI_NOT_INITIALIZED


def test_attributes(remote: StockServer) -> None:
    session = session_of(remote)
    _, private = rsa_pair(remote, session)
    remote.good(
        "C_FindObjectsInit", (Attribute(c.CKA_CLASS, c.CKO_PRIVATE_KEY), Attribute(c.CKA_ID, b"\7")), target=session
    )
    (found,) = remote.good("C_FindObjects", ObjectsRoom(5, True, True), target=session)
    assert found.data == (private,)
    (found,) = remote.good("C_FindObjects", ObjectsRoom(5, True, True), target=session)
    assert found.data == ()
    remote.good("C_FindObjectsFinal", target=session)

    def asked(*entries: Attribute) -> Any:
        return remote.call("C_GetAttributeValue", private, entries, target=session)

    mechanisms = NumberArray((c.CKM_RSA_PKCS_PSS, c.CKM_SHA256_RSA_PKCS, 0x43))
    reply = asked(
        Attribute(c.CKA_CLASS, RoomNumbers(1)),
        Attribute(c.CKA_SIGN, RoomBytes(1)),
        Attribute(c.CKA_WRAP_WITH_TRUSTED, RoomBytes(1)),
        Attribute(c.CKA_LABEL, RoomBytes(3)),
        Attribute(c.CKA_MODULUS, Null()),
        Attribute(c.CKA_KEY_TYPE, Null()),
        Attribute(c.CKA_ALLOWED_MECHANISMS, RoomNumbers(9)),
    )
    assert reply.rv == 0
    (entries,) = reply.values
    values = {entry.type: entry.value for entry in entries}
    allowed = values.pop(c.CKA_ALLOWED_MECHANISMS)
    assert sorted(allowed.numbers) == sorted(mechanisms.numbers)
    assert values == {
        c.CKA_CLASS: c.CKO_PRIVATE_KEY,
        c.CKA_SIGN: YES,
        c.CKA_WRAP_WITH_TRUSTED: NO,
        c.CKA_LABEL: b"rsa",
        c.CKA_MODULUS: Null(256),
        c.CKA_KEY_TYPE: LengthNumbers(1),
    }
    # The stock server does not send the items, which no stock client survives.
    reply = asked(Attribute(c.CKA_ALLOWED_MECHANISMS, Null()), Attribute(c.CKA_ID, RoomBytes(9)))
    assert reply == Reply(0, ((Attribute(c.CKA_ALLOWED_MECHANISMS, LengthNumbers(3)), Attribute(c.CKA_ID, b"\7")),))
    assert asked(Attribute(c.CKA_PRIVATE_EXPONENT, RoomBytes(999)), Attribute(c.CKA_ID, RoomBytes(1))) == Reply(
        RV.CKR_ATTRIBUTE_SENSITIVE, ((Attribute(c.CKA_PRIVATE_EXPONENT, Unavailable()), Attribute(c.CKA_ID, b"\7")),)
    )
    assert asked(Attribute(c.CKA_UNIQUE_ID, Null())) == Reply(
        RV.CKR_ATTRIBUTE_TYPE_INVALID, ((Attribute(c.CKA_UNIQUE_ID, Unavailable()),),)
    )
    reply = asked(Attribute(c.CKA_LABEL, RoomBytes(2)))
    assert reply.rv == RV.CKR_BUFFER_TOO_SMALL
    assert asked(Attribute(c.CKA_START_DATE, RoomBytes(8))).rv == 0


def test_mechanisms_that_the_stock_client_does_not_send(remote: StockServer) -> None:
    """The server takes any parameter as plain bytes."""
    session = session_of(remote)
    template = (
        Attribute(c.CKA_CLASS, c.CKO_SECRET_KEY),
        Attribute(c.CKA_KEY_TYPE, c.CKK_AES),
        Attribute(c.CKA_VALUE, bytes(range(16))),
        Attribute(c.CKA_ENCRYPT, YES),
        Attribute(c.CKA_TOKEN, NO),
    )
    (key,) = remote.good("C_CreateObject", template, 0, target=session)
    for mechanism, size in (
        (Mechanism(c.CKM_AES_CBC_PAD, bytes(16)), 16),
        (Mechanism(c.CKM_AES_CTR, Structured(40, (128, bytes(16)))), 3),
    ):
        (_,) = remote.good("C_EncryptInit", mechanism, key, target=session)
        (encrypted,) = remote.good("C_Encrypt", b"abc", Room(64, True), target=session)
        assert isinstance(encrypted, Output)
        assert encrypted.length == size
        remote.good("C_DecryptInit", mechanism, key, target=session)
        (plain,) = remote.good("C_Decrypt", encrypted.data, Room(64, True), target=session)
        assert plain == Output(3, b"abc")
    gcm = Mechanism(c.CKM_AES_GCM, Structured(42, (bytes(12), 96, b"", 128)))
    if remote.dialect.version:
        remote.good("C_EncryptInit", gcm, key, target=session)
        (encrypted,) = remote.good("C_Encrypt", b"abc", Room(64, True), target=session)
        assert encrypted.length == 3 + 16
    else:
        with pytest.raises(NotCarried) as refused:
            remote.call("C_EncryptInit", gcm, key, target=session)
        assert refused.value.rv == RV.CKR_MECHANISM_PARAM_INVALID


def test_nested_templates(remote: StockServer) -> None:
    session = session_of(remote)
    template = (
        Attribute(c.CKA_CLASS, c.CKO_SECRET_KEY),
        Attribute(c.CKA_KEY_TYPE, c.CKK_AES),
        Attribute(c.CKA_VALUE, bytes(16)),
        Attribute(c.CKA_SENSITIVE, NO),
        Attribute(c.CKA_EXTRACTABLE, YES),
        Attribute(c.CKA_WRAP_TEMPLATE, (Attribute(c.CKA_EXTRACTABLE, YES), Attribute(c.CKA_CLASS, c.CKO_SECRET_KEY))),
    )
    if not remote.dialect.has_templates:
        with pytest.raises(NotCarried):
            remote.call("C_CreateObject", template, 0, target=session)
        return
    (key,) = remote.good("C_CreateObject", template, 0, target=session)
    query = (
        Attribute(c.CKA_WRAP_TEMPLATE, Null()),
        Attribute(c.CKA_VALUE, RoomBytes(16)),
    )
    (entries,) = remote.good("C_GetAttributeValue", key, query, target=session)
    assert entries == (Attribute(c.CKA_WRAP_TEMPLATE, LengthAttributes(2)), Attribute(c.CKA_VALUE, bytes(16)))
    rooms = (Attribute(c.CKA_CLASS, RoomNumbers(1)), Attribute(c.CKA_EXTRACTABLE, RoomBytes(1)))
    query = (Attribute(c.CKA_WRAP_TEMPLATE, rooms), Attribute(c.CKA_VALUE, RoomBytes(16)))
    (entries,) = remote.good("C_GetAttributeValue", key, query, target=session)
    assert entries[0].value == (Attribute(c.CKA_CLASS, c.CKO_SECRET_KEY), Attribute(c.CKA_EXTRACTABLE, YES))
    assert entries[1] == Attribute(c.CKA_VALUE, bytes(16))


def test_derivation(remote: StockServer) -> None:
    """C_DeriveKey is another message from 0.25.6 on, with an answer of its own."""
    if not remote.dialect.version:
        ecdh = Mechanism(c.CKM_ECDH1_DERIVE, Structured(20, (c.CKD_NULL, Null(), b"")))
        with pytest.raises(NotCarried):
            remote.call("C_DeriveKey", ecdh, 1, (), 0, target=1)
        return
    session = session_of(remote)
    curve = bytes.fromhex("06082a8648ce3d030107")
    pair = (
        Mechanism(c.CKM_EC_KEY_PAIR_GEN),
        (Attribute(c.CKA_EC_PARAMS, curve),),
        (Attribute(c.CKA_DERIVE, YES), Attribute(c.CKA_TOKEN, NO)),
    )
    _, public, private = remote.good("C_GenerateKeyPair", *pair, 0, 0, target=session)
    query = (Attribute(c.CKA_EC_POINT, RoomBytes(100)),)
    (((_, point),),) = [
        [(entry.type, entry.value) for entry in entries]
        for entries in remote.good("C_GetAttributeValue", public, query, target=session)
    ]
    template = (
        Attribute(c.CKA_CLASS, c.CKO_SECRET_KEY),
        Attribute(c.CKA_KEY_TYPE, c.CKK_GENERIC_SECRET),
        Attribute(c.CKA_SENSITIVE, NO),
        Attribute(c.CKA_EXTRACTABLE, YES),
        Attribute(c.CKA_VALUE_LEN, 32),
    )
    ecdh = Mechanism(c.CKM_ECDH1_DERIVE, Structured(20, (c.CKD_NULL, Null(), point[2:])))
    _, key = remote.good("C_DeriveKey", ecdh, private, template, 0, target=session)
    (entries,) = remote.good("C_GetAttributeValue", key, (Attribute(c.CKA_VALUE, RoomBytes(99)),), target=session)
    assert len(entries[0].value) == 32


def test_random(remote: StockServer) -> None:
    session = session_of(remote)
    (random,) = remote.good("C_GenerateRandom", Fill(True, 16), target=session)
    assert isinstance(random, bytes)
    assert len(random) == 16
    with pytest.raises(NotCarried):
        remote.call("C_GenerateRandom", Fill(False, 16), target=session)


def test_errors(remote: StockServer) -> None:
    assert remote.call("C_GetSessionInfo", True, target=99) == Reply(RV.CKR_SESSION_HANDLE_INVALID)
    assert remote.call("C_Initialize", 0, Null(), b"").rv == RV.CKR_CRYPTOKI_ALREADY_INITIALIZED
    if remote.dialect.version:
        assert remote.call("C_SessionCancel", 0, target=1) == Reply(RV.CKR_FUNCTION_NOT_SUPPORTED)
    else:
        with pytest.raises(NotCarried) as refused:
            remote.call("C_SessionCancel", 0, target=1)
        assert refused.value.rv == RV.CKR_FUNCTION_NOT_SUPPORTED


def test_wrong_magic(conf: Any) -> None:
    with StockServer(softhsm_module(), conf) as server:
        body = encode_request(server.dialect, call_named("C_Initialize"), 0, (0, Null(), b""))
        answered = server.exchange(body.replace(MAGIC, MAGIC[::-1]))
        assert answered == bytes.fromhex("00000000 00000001 75 0000000000000005")


def test_the_same_as_over_the_native_wire(remote: StockServer, daemon: Any) -> None:
    session = session_of(remote)
    rsa_pair(remote, session)
    with RawClient(daemon.socket) as native:
        native.initialize()
        slot = slot_of(native, "demo")
        assert slot == slot_of(remote, "demo")
        remote.good("C_CloseSession", target=session)
        session = remote.call("C_OpenSession", OPEN, 0, target=slot).session
        remote.good("C_Login", c.CKU_USER, PIN.encode(), target=session)
        native.good("C_OpenSession", OPEN, 1, target=slot)
        native.good("C_Login", c.CKU_USER, PIN.encode(), target=1)

        def same(name: str, *values: Any, target: int = 0, remotely: int | None = None) -> Any:
            there = remote.call(name, *values, target=target if remotely is None else remotely)
            here = native.call(name, *values, target=target)
            assert (there.rv, there.values) == here
            return here

        same("C_GetInfo", True)
        same("C_GetSlotInfo", True, target=slot)
        same("C_GetMechanismList", Room(0, False), target=slot)
        same("C_GetMechanismList", Room(3, True), target=slot)
        same("C_GetMechanismInfo", c.CKM_AES_CBC, True, target=slot)
        _, (listed,) = same("C_GetMechanismList", Room(200, True), target=slot)
        assert len(listed.data) == listed.count == 70
        same("C_DigestInit", Mechanism(c.CKM_SHA256), target=1, remotely=session)
        same("C_Digest", b"abc", Room(4, True), target=1, remotely=session)
        same("C_Digest", b"abc", Room(32, True), target=1, remotely=session)
        found = []
        clients: list[tuple[Any, int]] = [(native, 1), (remote, session)]
        for client, handle in clients:
            client.good("C_FindObjectsInit", (Attribute(c.CKA_CLASS, c.CKO_PRIVATE_KEY),), target=handle)
            found.append(client.good("C_FindObjects", ObjectsRoom(9, True, True), target=handle)[0].data[0])
            client.good("C_FindObjectsFinal", target=handle)
        ours, theirs = found
        for query in (
            (Attribute(c.CKA_MODULUS, RoomBytes(256)), Attribute(c.CKA_PUBLIC_EXPONENT, Null())),
            (Attribute(c.CKA_CLASS, RoomNumbers(1)), Attribute(c.CKA_MODULUS, RoomBytes(300))),
            (Attribute(c.CKA_PRIVATE_EXPONENT, RoomBytes(256)), Attribute(c.CKA_LABEL, RoomBytes(9))),
            (Attribute(c.CKA_PROFILE_ID, Null()), Attribute(c.CKA_TOKEN, RoomBytes(1))),
            (Attribute(c.CKA_ALLOWED_MECHANISMS, RoomNumbers(3)), Attribute(c.CKA_ALLOWED_MECHANISMS, Null())),
            (Attribute(c.CKA_START_DATE, Null()),),
        ):
            there = remote.call("C_GetAttributeValue", theirs, query, target=session)
            assert (there.rv, there.values) == native.call("C_GetAttributeValue", ours, query, target=1)
        for mechanism in (Mechanism(0x80000001, b"x"), Mechanism(c.CKM_AES_ECB), Mechanism(c.CKM_SHA256_RSA_PKCS)):
            there = remote.call("C_SignInit", mechanism, theirs, target=session)
            rv, values = native.call("C_SignInit", mechanism, ours, target=1)
            # An error message holds nothing else.
            assert there == Reply(rv, values if rv == 0 else ())
        assert remote.good("C_Sign", b"x", Room(256, True), target=session) == native.good(
            "C_Sign", b"x", Room(256, True), target=1
        )
