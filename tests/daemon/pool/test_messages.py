"""Operations of messages (PKCS #11 3.2, sections 5.9, 5.11, 5.14 and 5.16) at pools: they go on at another member, but for encrypting, since the token makes the IVs."""

from collections.abc import Callable
from itertools import count

import pytest
from tests.daemon.pool.app import RSA, App
from tests.daemon.pool.members import Pools
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import RV, Mechanism, Null, Output, Room, Structured, Unchanged
from keyway.cryptoki.constants import (
    CKG_GENERATE_RANDOM,
    CKG_NO_GENERATE,
    CKM_AES_GCM,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)

MEMBERS = ("one", "two", "three")
OPTIONS = {"version": "3.0"}
FAILOVER, BALANCE, SMALL = range(3)
POOLS = [
    section(*MEMBERS, deadline=20),
    section(*MEMBERS, name="spread", policy='"balance"', deadline=20),
    section(*MEMBERS, name="small", deadline=20, journal=256),
]
ROOM, NO_ROOM = Room(4096, True), Room(None, False)
NONE = Null()
GCM_PARAMS, GCM_MESSAGE_PARAMS = 42, 44
MESSAGES = [b"the first", b"", b"another one", b"the last"]
PARTS = [b"a first part, ", b"a second one, ", b"and a third"]
EXTRA = b"what is not encrypted"
KINDS = ("Sign", "Verify", "Encrypt", "Decrypt")
both = pytest.mark.parametrize("slot", [FAILOVER, BALANCE], ids=["failover", "balance"])


def lose(pools: Pools) -> None:
    """Kill the member at which a message operation was begun."""
    (serving,) = (each for each in pools.members if any(each.calls(f"C_Message{what}Init") for what in KINDS))
    serving.kill()


def lost_before(pools: Pools, at: int | None) -> Callable[[], None]:
    """Return what is to be called before each call: before the one with this number the member that serves is killed."""
    numbers = count()

    def before() -> None:
        if next(numbers) == at:
            lose(pools)

    return before


def signature(values) -> bytes:
    """Return the signature in the reply to C_SignMessage or C_SignMessageNext."""
    parameter, output = values
    assert isinstance(parameter, Unchanged)
    assert isinstance(output, Output)
    return output.data or b""


@both
@pytest.mark.parametrize("at", [None, *range(5)])
def test_signing_whole_messages(pools, slot, at):
    """Whichever call the member is lost before: each signature is that of its message."""
    with App(pools.daemon, slot) as app:
        key = app.object("rsa")
        expected = [app.sign(key, each) for each in MESSAGES]
        before = lost_before(pools, at)
        app.good("C_MessageSignInit", RSA, key, target=1)
        made = []
        for each in MESSAGES:
            before()
            made.append(signature(app.good("C_SignMessage", NONE, each, ROOM, target=1)))
        before()
        app.good("C_MessageSignFinal", target=1)
        assert made == expected
        assert app.call("C_SignMessage", NONE, b"one more", ROOM, target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED


@both
@pytest.mark.parametrize("at", [None, *range(6)])
def test_signing_messages_in_parts(pools, slot, at):
    with App(pools.daemon, slot) as app:
        key = app.object("rsa")
        expected = app.sign(key, b"".join(PARTS))
        before = lost_before(pools, at)
        app.good("C_MessageSignInit", RSA, key, target=1)
        made = []
        for _ in range(2):
            before()
            app.good("C_SignMessageBegin", NONE, target=1)
            for part in PARTS[:-1]:
                before()
                app.good("C_SignMessageNext", NONE, part, NO_ROOM, target=1)
            before()
            made.append(signature(app.good("C_SignMessageNext", NONE, PARTS[-1], ROOM, target=1)))
        app.good("C_MessageSignFinal", target=1)
        assert made == [expected] * 2


def test_signing_in_parts_that_are_longer_than_what_is_kept(pools):
    with App(pools.daemon, SMALL) as app:
        app.good("C_MessageSignInit", RSA, app.object("rsa"), target=1)
        app.good("C_SignMessageBegin", NONE, target=1)
        app.good("C_SignMessageNext", NONE, bytes(300), NO_ROOM, target=1)
        lose(pools)
        assert app.call("C_SignMessageNext", NONE, b"more", ROOM, target=1)[0] == RV.CKR_DEVICE_REMOVED
        assert app.call("C_SignMessageNext", NONE, b"more", ROOM, target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED
        assert app.signed(app.object("rsa")) == RV.CKR_OK


def test_messages_that_are_over_take_no_room(pools):
    with App(pools.daemon, SMALL) as app:
        key = app.object("rsa")
        expected = app.sign(key, PARTS[0])
        app.good("C_MessageSignInit", RSA, key, target=1)
        for number in range(6):
            if number == 5:
                lose(pools)
            app.good("C_SignMessageBegin", NONE, target=1)
            assert signature(app.good("C_SignMessageNext", NONE, PARTS[0], ROOM, target=1)) == expected
        app.good("C_MessageSignFinal", target=1)


@both
@pytest.mark.parametrize("words", ["exit", "exit-after"])
def test_a_member_that_is_lost_with_a_signature(pools, slot, words):
    with App(pools.daemon, slot) as app:
        key = app.object("rsa")
        expected = app.sign(key, MESSAGES[0])
        for each in pools.members[:2]:
            each.does_once("C_SignMessage", words)
        app.good("C_MessageSignInit", RSA, key, target=1)
        for _ in range(3):
            assert signature(app.good("C_SignMessage", NONE, MESSAGES[0], ROOM, target=1)) == expected
        app.good("C_MessageSignFinal", target=1)


def verified(app: App, message: bytes, made: bytes) -> int:
    """Verify a message, and return the RV."""
    return app.call("C_VerifyMessage", NONE, message, made, target=1)[0]


@both
@pytest.mark.parametrize("at", [None, *range(6)])
def test_verifying_whole_messages(pools, slot, at):
    """Whichever call the member is lost before; and a signature that is refused ends nothing."""
    with App(pools.daemon, slot) as app:
        key = app.object("rsa")
        made = [app.sign(key, each) for each in MESSAGES]
        before = lost_before(pools, at)
        app.good("C_MessageVerifyInit", RSA, app.object("rsa", CKO_PUBLIC_KEY), target=1)
        for wrong, each in ((False, MESSAGES[0]), (True, MESSAGES[1]), (False, MESSAGES[2]), (False, MESSAGES[3])):
            before()
            signed = made[MESSAGES.index(each)]
            rv = verified(app, b"another" if wrong else each, signed)
            assert rv == (RV.CKR_SIGNATURE_INVALID if wrong else RV.CKR_OK)
        before()
        assert verified(app, MESSAGES[0], made[0][:-1]) == RV.CKR_SIGNATURE_LEN_RANGE
        before()
        app.good("C_MessageVerifyFinal", target=1)
        assert verified(app, MESSAGES[0], made[0]) == RV.CKR_OPERATION_NOT_INITIALIZED


@both
@pytest.mark.parametrize("at", [None, *range(7)])
def test_verifying_messages_in_parts(pools, slot, at):
    with App(pools.daemon, slot) as app:
        signed = app.sign(app.object("rsa"), b"".join(PARTS))
        before = lost_before(pools, at)
        app.good("C_MessageVerifyInit", RSA, app.object("rsa", CKO_PUBLIC_KEY), target=1)
        for last, expected in ((b"something else", RV.CKR_SIGNATURE_INVALID), (PARTS[-1], RV.CKR_OK)):
            before()
            app.good("C_VerifyMessageBegin", NONE, target=1)
            for part in PARTS[:-1]:
                before()
                app.good("C_VerifyMessageNext", NONE, part, NONE, target=1)
            before()
            assert app.call("C_VerifyMessageNext", NONE, last, signed, target=1)[0] == expected
        app.good("C_MessageVerifyFinal", target=1)


@both
@pytest.mark.parametrize("words", ["exit", "exit-after"])
def test_a_member_that_is_lost_while_it_verifies(pools, slot, words):
    with App(pools.daemon, slot) as app:
        signed = app.sign(app.object("rsa"), MESSAGES[0])
        for each in pools.members[:2]:
            each.does_once("C_VerifyMessage", words)
        app.good("C_MessageVerifyInit", RSA, app.object("rsa", CKO_PUBLIC_KEY), target=1)
        for message, expected in ((b"another", RV.CKR_SIGNATURE_INVALID), (MESSAGES[0], RV.CKR_OK)):
            assert verified(app, message, signed) == expected
        app.good("C_MessageVerifyFinal", target=1)


def encrypted(app: App, text: bytes) -> tuple[int, bytes, bytes]:
    """Encrypt a message, and return RV, IV, and what has become of it with the tag behind it."""
    told = Structured(GCM_MESSAGE_PARAMS, (bytes(12), 0, CKG_GENERATE_RANDOM, bytes(16), 128))
    rv, values = app.call("C_EncryptMessage", told, EXTRA, text, ROOM, target=1)
    if rv:
        return rv, b"", b""
    written, output = values
    assert isinstance(written, Structured)
    assert isinstance(output, Output)
    iv, *_, tag, _ = written.members
    assert isinstance(iv, bytes)
    assert isinstance(tag, bytes)
    return rv, iv, (output.data or b"") + tag


def decrypted(app: App, key: int, iv: bytes, secret: bytes) -> bytes:
    gcm = Mechanism(CKM_AES_GCM, Structured(GCM_PARAMS, (iv, 96, EXTRA, 128)))
    app.good("C_DecryptInit", gcm, key, target=1)
    return app.output("C_Decrypt", secret)


@both
def test_encrypting(pools, slot):
    """All messages go to one member, and what the token writes comes back."""
    with App(pools.daemon, slot) as app:
        key = app.object("aes", CKO_SECRET_KEY)
        app.good("C_MessageEncryptInit", Mechanism(CKM_AES_GCM, NONE), key, target=1)
        made = [encrypted(app, each) for each in MESSAGES]
        app.good("C_MessageEncryptFinal", target=1)
        assert sorted(member.calls("C_EncryptMessage") for member in pools.members) == [0, 0, len(MESSAGES)]
        assert len({iv for _, iv, _ in made}) == len(MESSAGES)
        assert [decrypted(app, key, iv, secret) for _, iv, secret in made] == MESSAGES


@both
@pytest.mark.parametrize("words", ["", "exit", "exit-after"])
def test_encrypting_is_over_when_its_member_is_lost(pools, slot, words):
    """Before a message, with it, or behind it: no other member makes an IV for it, and the session goes on."""
    with App(pools.daemon, slot) as app:
        key = app.object("aes", CKO_SECRET_KEY)
        app.good("C_MessageEncryptInit", Mechanism(CKM_AES_GCM, NONE), key, target=1)
        assert encrypted(app, b"one")[0] == RV.CKR_OK
        if words:
            for each in pools.members:
                each.does("C_EncryptMessage", words)
        else:
            lose(pools)
        asked = sum(member.calls("C_EncryptMessage") for member in pools.members)
        assert encrypted(app, b"two")[0] == RV.CKR_DEVICE_REMOVED
        assert sum(member.calls("C_EncryptMessage") for member in pools.members) == asked + bool(words)
        for each in pools.members:
            each.behaves("C_EncryptMessage")
        assert encrypted(app, b"two")[0] == RV.CKR_OPERATION_NOT_INITIALIZED
        app.good("C_MessageEncryptInit", Mechanism(CKM_AES_GCM, NONE), key, target=1)
        rv, iv, secret = encrypted(app, b"two")
        assert rv == RV.CKR_OK
        app.good("C_MessageEncryptFinal", target=1)
        assert decrypted(app, key, iv, secret) == b"two"


def opened(app: App, iv: bytes, secret: bytes, extra: bytes = EXTRA) -> tuple[int, bytes]:
    """Decrypt a message with its tag behind it, and return RV and text."""
    told = Structured(GCM_MESSAGE_PARAMS, (iv, 0, CKG_NO_GENERATE, secret[-16:], 128))
    rv, values = app.call("C_DecryptMessage", told, extra, secret[:-16], ROOM, target=1)
    if rv:
        return rv, b""
    _, output = values
    assert isinstance(output, Output)
    return rv, output.data or b""


def sealed(app: App, key: int) -> list[tuple[bytes, bytes]]:
    """Encrypt all messages, and return IV and secret of each."""
    app.good("C_MessageEncryptInit", Mechanism(CKM_AES_GCM, NONE), key, target=1)
    made = [encrypted(app, each)[1:] for each in MESSAGES]
    app.good("C_MessageEncryptFinal", target=1)
    return made


@both
@pytest.mark.parametrize("at", [None, *range(6)])
def test_decrypting(pools, slot, at):
    """Whichever call the member is lost before: each text is that of its message, and one that is refused ends nothing."""
    with App(pools.daemon, slot) as app:
        key = app.object("aes", CKO_SECRET_KEY)
        made = sealed(app, key)
        for each in pools.members:
            each.forget()
        before = lost_before(pools, at)
        app.good("C_MessageDecryptInit", Mechanism(CKM_AES_GCM, NONE), key, target=1)
        before()
        assert opened(app, *made[0], extra=b"other") == (RV.CKR_AEAD_DECRYPT_FAILED, b"")
        for text, (iv, secret) in zip(MESSAGES, made, strict=True):
            before()
            assert opened(app, iv, secret) == (RV.CKR_OK, text)
        before()
        app.good("C_MessageDecryptFinal", target=1)
        assert opened(app, *made[0])[0] == RV.CKR_OPERATION_NOT_INITIALIZED


@both
@pytest.mark.parametrize("words", ["exit", "exit-after"])
def test_a_member_that_is_lost_while_it_decrypts(pools, slot, words):
    with App(pools.daemon, slot) as app:
        key = app.object("aes", CKO_SECRET_KEY)
        made = sealed(app, key)
        for each in pools.members[:2]:
            each.does_once("C_DecryptMessage", words)
        app.good("C_MessageDecryptInit", Mechanism(CKM_AES_GCM, NONE), key, target=1)
        assert [opened(app, *each) for each in made] == [(RV.CKR_OK, text) for text in MESSAGES]
        app.good("C_MessageDecryptFinal", target=1)
