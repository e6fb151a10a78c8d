"""What changes while an application lists: it sees what it would see without us."""

import pytest
from tests.daemon.harness import until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, login, open_session, slots
from tests.read_ahead.conftest import secret_key
from tests.read_ahead.cryptoki import UNAVAILABLE, Ask, Module, number

from keyway.cryptoki import RV, Attribute, Numbers, ObjectsRoom
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS_BITS,
    CKA_SENSITIVE,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKK_AES,
    CKO_SECRET_KEY,
)

KEYS = 8


@pytest.fixture
def keys(keyway):
    """The handles of eight keys, in the order in which they are found."""
    for index in range(KEYS):
        keyway.create(*secret_key(f"key {index}", bytes([index])))
    return keyway.all()


@pytest.fixture
def other(daemon):
    """Another application at the same daemon, logged in."""
    with RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slots(client)[0])
        login(client, session)
        yield client


def show(module: Module, handle: int) -> tuple[bytes, bytes]:
    """Ask about an object as a listing does."""
    kind = module.ask(handle, Ask(CKA_CLASS, 8), Ask(CKA_KEY_TYPE, 8))
    assert (kind.rv, kind.values) == (0, [number(CKO_SECRET_KEY), number(CKK_AES)])
    return module.value(handle, CKA_LABEL), module.value(handle, CKA_ID)


def walk(module: Module, keys: list[int], count: int) -> None:
    """List the first keys one by one, so that the others are read ahead."""
    assert module.begin() == 0
    for key in keys[:count]:
        assert module.find() == (0, [key])
        show(module, key)


def its_handle(client: RawClient, id_: bytes) -> int:
    """The handle that another application has for a key."""
    client.good("C_FindObjectsInit", (Attribute(CKA_ID, id_),), target=1)
    (found,) = client.good("C_FindObjects", ObjectsRoom(4, True, True), target=1)
    client.good("C_FindObjectsFinal", target=1)
    assert isinstance(found, Numbers)
    assert found.data is not None
    (handle,) = found.data
    return handle


def id_of(module: Module, key: int) -> bytes:
    return module.value(key, CKA_ID)


def test_what_another_application_renames(keyway, keys, other):
    ids = [id_of(keyway, key) for key in keys]
    walk(keyway, keys, 2)
    for at in range(2, KEYS):
        theirs = its_handle(other, ids[at])
        other.good("C_SetAttributeValue", theirs, (Attribute(CKA_LABEL, b"renamed %d" % at),), target=1)
        assert keyway.find() == (0, [keys[at]])
        assert show(keyway, keys[at]) == (b"renamed %d" % at, ids[at])


def test_what_another_application_destroys(keyway, keys, other):
    ids = [id_of(keyway, key) for key in keys]
    walk(keyway, keys, 2)
    other.good("C_DestroyObject", its_handle(other, ids[2]), target=1)
    assert keyway.find() == (0, [keys[2]]), "found before it was destroyed"
    assert keyway.ask(keys[2], Ask(CKA_CLASS, 8), Ask(CKA_KEY_TYPE, 8)).rv == RV.CKR_OBJECT_HANDLE_INVALID
    assert keyway.find() == (0, [keys[3]])
    assert show(keyway, keys[3])[1] == ids[3]


def test_a_change_under_way_when_reading_begins(keyway, keys, other, token):
    """The call is in flight before anybody reads ahead, and what was read ahead meanwhile is not given once it has returned."""
    theirs = its_handle(other, id_of(keyway, keys[2]))
    token.does_once("C_SetAttributeValue", "hang")
    request = other.send_call("C_SetAttributeValue", theirs, (Attribute(CKA_LABEL, b"renamed"),), target=1)
    until(lambda: token.was_told("C_SetAttributeValue"), "the change is under way")
    walk(keyway, keys, 2)
    token.behaves("C_SetAttributeValue")
    reply = other.receive()
    assert (reply.header.id, reply.header.rv) == (request, 0)
    assert keyway.find() == (0, [keys[2]])
    assert show(keyway, keys[2])[0] == b"renamed"


def test_what_this_application_changes(keyway, keys):
    walk(keyway, keys, 2)
    for at in range(2, 5):
        assert keyway.set(keys[at], (CKA_LABEL, b"renamed %d" % at)) == 0
        assert keyway.find() == (0, [keys[at]])
        assert show(keyway, keys[at])[0] == b"renamed %d" % at
    assert keyway.destroy(keys[5]) == 0
    assert keyway.find() == (0, [keys[5]]), "found before it was destroyed"
    assert keyway.ask(keys[5], Ask(CKA_CLASS, 8), Ask(CKA_KEY_TYPE, 8)).rv == RV.CKR_OBJECT_HANDLE_INVALID


def test_what_a_logout_hides(keyway, keys):
    walk(keyway, keys, 3)
    other = keyway.open()
    assert keyway.call("C_Logout", other) == 0
    rv, found = keyway.find()
    hidden = keyway.ask(keys[3], Ask(CKA_CLASS, 8), Ask(CKA_KEY_TYPE, 8))
    assert (rv, found) in [(0, [keys[3]]), (RV.CKR_OPERATION_NOT_INITIALIZED, [])]
    assert hidden.rv == RV.CKR_OBJECT_HANDLE_INVALID
    assert keyway.login(PIN) == 0


def test_a_closed_session_ends_its_search(keyway, keys):
    walk(keyway, keys, 3)
    keyway.good("C_CloseSession", keyway.session)
    assert keyway.find()[0] == RV.CKR_SESSION_HANDLE_INVALID
    assert keyway.ask(keys[4], Ask(CKA_CLASS, 8), Ask(CKA_KEY_TYPE, 8)).rv == RV.CKR_SESSION_HANDLE_INVALID
    keyway.session = keyway.open()


def test_a_search_ends_once(keyway, keys):
    walk(keyway, keys, 3)
    assert keyway.begin() == RV.CKR_OPERATION_ACTIVE
    assert keyway.find(2) == (0, keys[3:5])
    assert keyway.find(100) == (0, keys[5:])
    assert keyway.find() == (0, [])
    assert keyway.end() == 0
    assert keyway.end() == RV.CKR_OPERATION_NOT_INITIALIZED
    assert keyway.find()[0] == RV.CKR_OPERATION_NOT_INITIALIZED
    assert keyway.begin() == 0
    assert keyway.find(100) == (0, keys)


def test_rooms_of_all_sizes(keyway, keys):
    walk(keyway, keys, 3)
    key = keys[3]
    for room in (0, 1, 4, 5, 6, 100):
        told = keyway.ask(key, Ask(CKA_LABEL, room))
        if room < 5:
            assert (told.rv, told.attributes[0][0]) == (RV.CKR_BUFFER_TOO_SMALL, UNAVAILABLE)
        else:
            assert (told.rv, told.attributes[0][0], told.values[0][:4]) == (0, 5, b"key ")
    assert show(keyway, key)[0][:4] == b"key "


def test_sensitive_values_and_attributes_that_are_not_there(keyway):
    for index in range(6):
        sensitive = bytes([index % 2])
        more = ((CKA_SENSITIVE, sensitive), (CKA_EXTRACTABLE, bytes([1 - index % 2])))
        keyway.create(*secret_key(f"key {index}", bytes([index]), *more))
    assert keyway.begin() == 0
    for _ in range(6):
        (key,) = keyway.find()[1]
        index = id_of(keyway, key)[0]
        told = keyway.ask(key, Ask(CKA_VALUE, None))
        missing = keyway.ask(key, Ask(CKA_MODULUS_BITS, 8))
        both = keyway.ask(key, Ask(CKA_VALUE_LEN, 8), Ask(CKA_VALUE, None), Ask(0x80001234, None))
        if index % 2:
            assert told == (RV.CKR_ATTRIBUTE_SENSITIVE, ((UNAVAILABLE, None),))
        else:
            assert told == (0, ((16, None),))
            assert keyway.value(key, CKA_VALUE) == bytes(16)
        assert (missing.rv, missing.attributes[0][0]) == (RV.CKR_ATTRIBUTE_TYPE_INVALID, UNAVAILABLE)
        assert both.rv in (RV.CKR_ATTRIBUTE_TYPE_INVALID, RV.CKR_ATTRIBUTE_SENSITIVE)
        assert (both.values[0], both.attributes[2][0]) == (number(16), UNAVAILABLE)


def test_a_daemon_that_goes_is_noticed(keyway, keys, daemon):
    walk(keyway, keys, 4)
    daemon.process.kill()
    until(lambda: daemon.process.poll() is not None, "the daemon is gone")
    assert keyway.find()[0] in (RV.CKR_DEVICE_ERROR, RV.CKR_DEVICE_REMOVED)
    told = keyway.ask(keys[4], Ask(CKA_CLASS, 8), Ask(CKA_KEY_TYPE, 8))
    assert told.rv == RV.CKR_DEVICE_REMOVED


def test_others_take_the_short_way_again(daemon, keyway, keys, other):
    """A context that is over is told nothing, and keeps nobody from the short way."""
    walk(keyway, keys, 3)
    ids = id_of(keyway, keys[5])
    theirs = its_handle(other, ids)
    keyway.stop()
    until(lambda: len(daemon.contexts()) == 1, "the context is closed")
    other.good("C_SetAttributeValue", theirs, (Attribute(CKA_LABEL, b"renamed"),), target=1)
    keyway.start()
    assert keyway.login(PIN) == 0
    assert b"renamed" in [show(keyway, key)[0] for key in keyway.all()]
