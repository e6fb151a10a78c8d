"""How much an identity may use, and how often it may guess."""

import select

import pytest
from tests.daemon.guard.guests import SLOT
from tests.daemon.pool.app import READ
from tests.daemon.pool.tokens import PIN

from keyway.cryptoki import RV, Null, call_named
from keyway.cryptoki.constants import CKU_USER
from keyway.wire.codec import encode_request
from keyway.wire.frames import pack
from keyway.wire.header import Header

MOST = 32 << 20
"""Bytes that no buffer on the way takes."""


def opened(app, handle):
    return app.call("C_OpenSession", READ, handle, target=SLOT)[0]


class TestSessions:
    def test_no_more_than_the_quota_in_all_contexts(self, guests):
        with guests.app("few", session=False) as one, guests.app("few", session=False) as two:
            assert opened(one, 1) == RV.CKR_OK
            assert opened(two, 1) == RV.CKR_OK
            assert opened(one, 2) == opened(two, 2) == RV.CKR_SESSION_COUNT
            one.good("C_CloseSession", target=1)
            assert opened(two, 3) == RV.CKR_OK
            two.good("C_CloseAllSessions", target=SLOT)
            assert [opened(one, handle) for handle in (5, 6, 7)] == [RV.CKR_OK, RV.CKR_OK, RV.CKR_SESSION_COUNT]

    def test_what_fails_or_goes_is_not_counted(self, guests):
        for _ in range(3):
            with guests.app("few", session=False) as app:
                for handle in range(1, 5):
                    assert app.call("C_OpenSession", 0, handle, target=SLOT)[0] == RV.CKR_SESSION_PARALLEL_NOT_SUPPORTED
                # Once the client before has been noticed to be gone.
                while opened(app, 10) == RV.CKR_SESSION_COUNT:
                    pass
                assert opened(app, 11) == RV.CKR_OK

    def test_others_are_not_concerned(self, guests):
        with guests.app("owner") as app:
            assert [app.open(handle) for handle in range(2, 9)] == list(range(2, 9))


class TestContexts:
    def test_no_more_than_the_identity_may_have(self, guests):
        with guests.app("single", session=False) as one, guests.app("reader", session=False):
            with guests.connect("single") as two:
                assert two.call("C_Initialize", 0, Null(), b"test")[0] == RV.CKR_HOST_MEMORY
                one.good("C_Finalize")
                two.initialize()
            (told,) = guests.daemon.events("context refused")
            assert (told["reason"], told["identity"]) == ("limit of contexts of the identity", "single")

    def test_who_is_nobody_costs_no_host(self, guests):
        with guests.app("stranger", session=False):
            hosts = [each["hosts"] for each in guests.daemon.contexts() if each["application"] == "test"]
            assert {} in hosts


def test_calls_wait_until_the_quota_has_room(guests):
    """None is lost, and their order stays."""
    with guests.app("slow") as app:
        key = app.object("rsa")
        ids = [app.send_call("C_GetObjectSize", key, 0, target=1) for _ in range(30)]
        assert [app.receive().header.id for _ in ids] == ids


def test_a_client_that_must_wait_is_not_read_from(guests):
    """What it sends meanwhile would pile up in the daemon."""
    with guests.app("crawler") as app:
        row = call_named("C_SeedRandom")
        frame = pack(Header(0, row.number, 0, 7, 1, 0), encode_request(row, (bytes(65_536),)).body)
        requests = b"".join(frame[:8] + (1000 + n).to_bytes(8) + frame[16:] for n in range(64))
        app.socket.setblocking(False)
        sent = 0
        while sent < MOST and select.select([], [app.socket], [], 1.0)[1]:
            sent += app.socket.send(requests[sent % len(requests) :])
        assert sent < MOST


@pytest.mark.parametrize("session", [1, 2])
def test_a_client_can_not_lock_the_token_for_others(guests, session):
    """SoftHSM has no limit of its own: what counts is that the token is not asked."""
    with guests.app("guesser", login=False) as app:
        app.open(2)
        before = len(guests.daemon.events("PIN not tried"))
        answers = [app.call("C_Login", CKU_USER, b"wrong-pin", target=session)[0] for _ in range(6)]
        assert answers[-3:] == [RV.CKR_PIN_LOCKED] * 3
        assert set(answers) <= {RV.CKR_PIN_INCORRECT, RV.CKR_PIN_LOCKED}
        # Not even the right one, until it has waited.
        assert app.call("C_Login", CKU_USER, PIN.encode(), target=session)[0] == RV.CKR_PIN_LOCKED
        assert len(guests.daemon.events("PIN not tried")) >= before + 4
    with guests.app("reader"):
        pass
    with guests.app("owner") as app:
        app.sign(app.object("rsa"))
