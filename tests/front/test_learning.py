"""A signature of a stock client takes one round trip to the module, and the answers are those that the module would give."""

import os
import signal

import pytest
from tests.daemon.harness import until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, login, open_session, slot_of

from keyway.cryptoki import RV, Attribute, Mechanism, Numbers, ObjectsRoom, Room
from keyway.cryptoki import constants as c

SIGN = Mechanism(c.CKM_SHA256_RSA_PKCS)
YES = b"\1"


@pytest.fixture
def client(front):
    with front.connect() as client:
        client.session = client.start()
        client.login(client.session, PIN)
        yield client


def pair(client, **options):
    private = (Attribute(c.CKA_SIGN, YES), Attribute(c.CKA_ID, b"k"), *(options.get("more") or ()))
    bits = (Attribute(c.CKA_MODULUS_BITS, 1024),)
    mechanism = Mechanism(c.CKM_RSA_PKCS_KEY_PAIR_GEN)
    return client.good("C_GenerateKeyPair", mechanism, bits, private, 0, 0, target=client.session)[2]


def rvs(client, key, session=None):
    target = session or client.session
    first = client.call("C_SignInit", SIGN, key, target=target).rv
    return first, client.call("C_Sign", b"data", Room(128, True), target=target).rv


def test_what_the_application_itself_changes_is_told_at_once(client):
    key = pair(client)
    for _ in range(3):
        assert rvs(client, key) == (0, 0)
    client.good("C_DestroyObject", key, target=client.session)
    assert rvs(client, key) == (RV.CKR_OBJECT_HANDLE_INVALID, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_a_logout_is_told_at_once(client):
    key = pair(client, more=(Attribute(c.CKA_TOKEN, YES),))
    for _ in range(3):
        assert rvs(client, key) == (0, 0)
    client.good("C_Logout", target=client.session)
    # Private objects are no longer there for SoftHSM.
    assert rvs(client, key) == (RV.CKR_OBJECT_HANDLE_INVALID, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_an_operation_that_is_active_is_told_at_once(client):
    key = pair(client)
    assert rvs(client, key) == (0, 0)
    client.good("C_SignInit", SIGN, key, target=client.session)
    assert client.call("C_SignInit", SIGN, key, target=client.session).rv == RV.CKR_OPERATION_ACTIVE
    client.good("C_Sign", b"data", Room(128, True), target=client.session)
    client.good("C_DigestInit", Mechanism(c.CKM_SHA256), target=client.session)
    assert client.call("C_SignInit", SIGN, key, target=client.session).rv == RV.CKR_OPERATION_ACTIVE


def test_only_what_another_application_changes_is_told_later(client, front):
    """Which shows too that the init call was not sent by itself."""
    key = pair(client, more=(Attribute(c.CKA_TOKEN, YES),))
    assert rvs(client, key) == (0, 0)
    with RawClient(front.daemon.socket) as other:
        other.initialize()
        session = open_session(other, slot_of(other, "demo"))
        login(other, session)
        wanted = (Attribute(c.CKA_CLASS, c.CKO_PRIVATE_KEY), Attribute(c.CKA_ID, b"k"))
        other.good("C_FindObjectsInit", wanted, target=session)
        (found,) = other.good("C_FindObjects", ObjectsRoom(2, True, True), target=session)
        assert isinstance(found, Numbers)
        other.good("C_FindObjectsFinal", target=session)
        (handle,) = found.data or ()
        other.good("C_DestroyObject", handle, target=session)
    assert rvs(client, key) == (RV.CKR_OK, RV.CKR_OBJECT_HANDLE_INVALID)
    assert rvs(client, key) == (RV.CKR_OBJECT_HANDLE_INVALID, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_calls_that_wait_keep_their_order(client):
    """A call that changes the token waits for an init call of another session, and what is behind it waits with it."""
    key = pair(client)
    slot = client.slot_of("demo")
    other = client.open(slot)
    assert rvs(client, key) == (0, 0)
    client.good("C_SignInit", SIGN, key, target=client.session)
    codes = [
        client.send(client.message("C_DestroyObject", key, target=other)),
        client.send(client.message("C_GetSessionInfo", True, target=other)),
        client.send(client.message("C_GetSlotList", 1, Room(64, True))),
        client.send(client.message("C_OpenSession", 4, 0, target=slot)),
    ]
    assert sorted(client.receive().code for _ in codes) == codes
    assert client.call("C_Sign", b"data", Room(128, True), target=client.session).rv in (0, RV.CKR_KEY_HANDLE_INVALID)


def test_a_host_that_ended_while_nobody_called_is_known_no_more(client, front):
    key = pair(client, more=(Attribute(c.CKA_TOKEN, YES),))
    assert rvs(client, key) == (0, 0)
    for pid in front.daemon.hosts():
        os.kill(pid, signal.SIGKILL)
    until(lambda: any(each.get("context") for each in front.daemon.events("module host ended")), "its end is seen")
    session = client.open(client.slot_of("demo"))
    assert rvs(client, key, session) == (RV.CKR_OBJECT_HANDLE_INVALID, RV.CKR_OPERATION_NOT_INITIALIZED)
