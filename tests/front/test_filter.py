"""Which tokens the clients of a listener see, whatever protocol they speak."""

import pytest
from tests.daemon.harness import RunningDaemon, softhsm
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, label_of, login, make, open_session, slots
from tests.front.client import OPEN
from tests.front.conftest import Front, listener

from keyway.cryptoki import RV, Numbers, Room
from keyway.cryptoki.constants import CKF_SERIAL_SESSION, CKF_WRITE_PROTECTED

LABELS = ("one", "two", "three")


@pytest.fixture
def section(home):
    """The section of a SoftHSM with three tokens."""
    section = softhsm(home)
    daemon = RunningDaemon(home, '[log]\nformat = "json"\n' + section)
    make(daemon, *LABELS)
    daemon.stop()
    return section


@pytest.fixture
def serve(start, home, section):
    """Starts a daemon whose p11-kit listener has some options."""

    def serve(more: str = "", **options: object) -> Front:
        return Front(start(section + listener(home, "front", **options) + more), home / "front")

    return serve


def test_without_a_filter_all_is_shown(serve):
    with serve().connect() as client:
        client.initialize()
        assert {"one", "two", "three"} <= {client.label_of(slot) for slot in client.slots()}


def test_a_filter_keeps_the_numbers_of_the_slots(serve):
    front = serve(tokens='["pkcs11:token=two", "pkcs11:token=one"]')
    with RawClient(front.daemon.socket) as native, front.connect() as client:
        native.initialize()
        everything = {slot: label_of(native, slot) for slot in slots(native)}
        client.initialize()
        seen = {slot: client.label_of(slot) for slot in client.slots()}
        assert seen == {slot: label for slot, label in everything.items() if label in ("one", "two")}
        hidden = next(slot for slot, label in everything.items() if label == "three")
        for name in ("C_GetSlotInfo", "C_GetTokenInfo"):
            assert client.call(name, True, target=hidden).rv == RV.CKR_SLOT_ID_INVALID
        for name, values in (
            ("C_OpenSession", (OPEN, 0)),
            ("C_InitToken", (PIN.encode(), b"x" * 32)),
            ("C_CloseAllSessions", ()),
            ("C_GetMechanismList", (Room(9, True),)),
            ("C_GetMechanismInfo", (0, True)),
        ):
            assert client.call(name, *values, target=hidden).rv == RV.CKR_SLOT_ID_INVALID, name


def test_numbers_start_with_the_first_slot(serve):
    front = serve(tokens='["pkcs11:token=two", "pkcs11:token=one"]', first_slot=0x11)
    seen = []
    for _ in range(2):
        with front.connect() as client:
            client.initialize()
            (counted,) = client.good("C_GetSlotList", 0, Room(0, False))
            assert counted == Numbers(2, None)
            assert client.slots() == (0x11, 0x12)
            seen.append([client.label_of(slot) for slot in (0x11, 0x12)])
            session = client.open(0x12)
            assert client.good("C_GetSessionInfo", True, target=session)[0].slot == 0x12
            client.login(session, PIN)
    assert seen[0] == seen[1]
    assert set(seen[0]) == {"one", "two"}


def test_a_slot_that_appears_later_gets_the_next_number(serve):
    # With three tokens SoftHSM's empty slot is number 3; when that has a token too, there is one more.
    front = serve(tokens='["pkcs11:token=two", "pkcs11:slot-id=3", "pkcs11:slot-id=4"]', first_slot=5)
    with front.connect() as client:
        client.initialize()
        assert client.slots() == (5, 6)
        assert client.label_of(5) == "two"
        session = client.open(5)
        client.good("C_InitToken", PIN.encode(), b"later".ljust(32), target=6)
        assert client.slots() == (5, 6, 7)
        assert [client.label_of(slot) for slot in (5, 6, 7)] == ["two", "later", ""]
        assert client.good("C_GetSessionInfo", True, target=session)[0].slot == 5


def test_what_is_write_protected_can_t_be_changed(serve):
    front = serve(tokens='["pkcs11:token=one?write-protected=yes", "pkcs11:token=one", "pkcs11:token=two"]')
    with front.connect() as client:
        client.initialize()
        one, two = client.slot_of("one"), client.slot_of("two")
        assert client.token_of(one).flags & CKF_WRITE_PROTECTED
        assert not client.token_of(two).flags & CKF_WRITE_PROTECTED
        assert client.call("C_OpenSession", OPEN, 0, target=one).rv == RV.CKR_TOKEN_WRITE_PROTECTED
        init = (PIN.encode(), b"one".ljust(32))
        assert client.call("C_InitToken", *init, target=one).rv == RV.CKR_TOKEN_WRITE_PROTECTED
        session = client.open(one, CKF_SERIAL_SESSION)
        client.login(session, PIN)
        assert client.call("C_SetPIN", PIN.encode(), b"other", target=session).rv == RV.CKR_SESSION_READ_ONLY
        client.open(two)
        client.good("C_CloseAllSessions", target=two)
        client.good("C_InitToken", PIN.encode(), b"two".ljust(32), target=two)


def test_the_first_uri_decides(serve):
    front = serve(tokens='["pkcs11:token=one", "pkcs11:?write-protected=yes"]')
    with front.connect() as client:
        client.initialize()
        client.open(client.slot_of("one"))
        two = client.slot_of("two")
        assert client.call("C_OpenSession", OPEN, 0, target=two).rv == RV.CKR_TOKEN_WRITE_PROTECTED


def test_native_clients_have_filters_too(serve, home):
    more = listener(
        home, "native", protocol='"keyway"', tokens='["pkcs11:token=one?write-protected=yes"]', first_slot=3
    )
    front = serve(more)
    with RawClient(home / "native") as client, RawClient(front.daemon.socket) as unfiltered:
        client.initialize()
        assert slots(client) == slots(client, token_present=0) == (3,)
        assert label_of(client, 3) == "one"
        assert client.good("C_GetTokenInfo", True, target=3)[0].flags & CKF_WRITE_PROTECTED
        assert client.call("C_OpenSession", OPEN, 1, target=3)[0] == RV.CKR_TOKEN_WRITE_PROTECTED
        client.good("C_OpenSession", CKF_SERIAL_SESSION, 1, target=3)
        login(client, 1)
        unfiltered.initialize()
        assert len(slots(unfiltered)) > 3
        open_session(unfiltered, slots(unfiltered)[0])


def test_a_filter_over_configured_tokens(serve, home):
    rules = '[token.a]\nlabel = "three"\nslot = 4\n[token.b]\nlabel = "nobody"\n[token.c]\nlabel = "two"\n'
    front = serve(rules, tokens='["pkcs11:token=three", "pkcs11:token=nobody"]')
    with front.connect() as client:
        client.initialize()
        assert client.slots() == (4,)
        (listed,) = client.good("C_GetSlotList", 0, Room(9, True))
        assert listed.data == (0, 4)
        assert client.call("C_OpenSession", OPEN, 0, target=0).rv == RV.CKR_TOKEN_NOT_PRESENT
        assert client.label_of(4) == "three"
