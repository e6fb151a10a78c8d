"""Virtual slots over real backends."""

import os
import signal

import pytest
from tests.daemon.harness import RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, label_of, login, make, open_session, slot_of, slots

from keyway.cryptoki import RV, Numbers, Room, SlotInfo, unpadded
from keyway.cryptoki.constants import CKF_TOKEN_PRESENT


@pytest.fixture
def two(home):
    """The sections of two SoftHSMs, with a token called demo in each."""
    sections = [softhsm(home, "one"), softhsm(home, "two")]
    for section in sections:
        daemon = RunningDaemon(home, '[log]\nformat = "json"\n' + section)
        make(daemon, "demo")
        daemon.stop()
    return "".join(sections)


RULES = '[token.first]\nbackend = "two"\nlabel = "demo"\n[token.second]\nbackend = "one"\nlabel = "demo"\nslot = 7\n'


def test_configured_tokens_have_their_slots(start, two):
    daemon = start(two + RULES)
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert slots(client) == (0, 7)
        assert slots(client, token_present=0) == (0, 7)
        for handle, slot in ((1, 0), (2, 7)):
            assert label_of(client, slot) == "demo"
            open_session(client, slot, handle)
            login(client, handle)
            assert client.good("C_GetSessionInfo", True, target=handle)[0].slot == slot
        assert client.call("C_GetTokenInfo", True, target=1)[0] == RV.CKR_SLOT_ID_INVALID
        (context,) = daemon.contexts()
        assert set(context["hosts"]) == {"one", "two"}
        client.good("C_CloseAllSessions", target=0)
        assert client.good("C_GetSessionInfo", True, target=2)[0].slot == 7
        (info,) = client.good("C_GetInfo", True)
        assert unpadded(info.library_description) == "Keyway gateway"
        assert client.call("C_WaitForSlotEvent", 1, 0, False)[0] == RV.CKR_NO_EVENT
        assert client.call("C_WaitForSlotEvent", 0, 0, False)[0] == RV.CKR_FUNCTION_NOT_SUPPORTED


def test_a_token_that_is_not_there_has_a_slot_all_the_same(start, two):
    daemon = start(two + '[token.away]\nbackend = "one"\nlabel = "nobody"\n' + RULES)
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert slots(client) == (1, 7)
        assert slots(client, token_present=0) == (0, 1, 7)
        (info,) = client.good("C_GetSlotInfo", True, target=0)
        assert isinstance(info, SlotInfo)
        assert unpadded(info.slot_description) == "away"
        assert not info.flags & CKF_TOKEN_PRESENT
        assert client.call("C_GetTokenInfo", True, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
        assert client.call("C_OpenSession", 4, 1, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT


def test_slots_of_several_backends_keep_their_numbers_over_restarts(start, two):
    seen = []
    for _ in range(2):
        daemon = start(two)
        with RawClient(daemon.socket) as client:
            client.initialize()
            numbers = slots(client)
            seen.append([(number, label_of(client, number)) for number in numbers])
            for handle, number in enumerate(numbers, 1):
                if label_of(client, number):
                    open_session(client, number, handle)
                    assert client.good("C_GetSessionInfo", True, target=handle)[0].slot == number
        daemon.stop()
    assert seen[0] == seen[1]
    assert [label for _, label in seen[0]].count("demo") == 2


def test_a_lost_host_costs_only_the_sessions_of_its_backend(start, two):
    daemon = start(two + RULES)
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, 0, 1)
        open_session(client, 7, 2)
        os.kill(daemon.contexts()[0]["hosts"]["two"], signal.SIGKILL)
        until(lambda: daemon.contexts()[0]["lost_sessions"] == 1, "the loss is seen")
        assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_REMOVED
        assert client.good("C_GetSessionInfo", True, target=2)[0].slot == 7
        open_session(client, 0, 3)
        login(client, 3)


def test_a_token_made_later_appears_at_the_next_look(start, home):
    daemon = start(softhsm(home) + '[token.late]\nlabel = "late"\n[token.empty]\nbackend_slot = 0\n')
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert slots(client) == (1,)
        client.good("C_InitToken", PIN.encode(), b"late".ljust(32), target=1)
        client.good("C_Finalize")
        client.initialize()
        assert slots(client, token_present=0) == (0, 1)
        assert label_of(client, 0) == "late"


@pytest.mark.parametrize(
    ("room", "rv", "count"),
    [(Room(None, True), RV.CKR_ARGUMENTS_BAD, None), (Room(1, True), RV.CKR_BUFFER_TOO_SMALL, 2)],
)
def test_the_list_keeps_to_the_standard(start, two, room, rv, count):
    daemon = start(two + RULES)
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert client.call("C_GetSlotList", 1, room) == (rv, (Numbers(count, None),))


def test_own_slots_are_the_modules(start, home):
    daemon = start(softhsm(home))
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert slots(client)[-1] == 1  # SoftHSM's slot for the next token.
        assert slot_of(client, "demo") > 0xFFFF
        (info,) = client.good("C_GetInfo", True)
        assert unpadded(info.library_description) == "Implementation of PKCS11"
