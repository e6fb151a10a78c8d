"""C_WaitForSlotEvent of clients that see pools."""

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.tokens import LABEL
from tests.daemon.pool_control.signer import begin, sign
from tests.daemon.raw import RawClient
from tests.daemon.tokens import label_of, slots

from keyway.cryptoki import RV, call_named
from keyway.cryptoki.constants import CKF_DONT_BLOCK, CKF_SERIAL_SESSION
from keyway.daemon.service import MAX_WAITING
from keyway.wire.codec import decode_reply

WAIT = call_named("C_WaitForSlotEvent")
ASK = (CKF_DONT_BLOCK, 0, False)
BLOCK = (0, 0, False)


def event(client):
    """The slot of the next event, or the RV."""
    rv, values = client.call("C_WaitForSlotEvent", *ASK)
    return values[0] if rv == RV.CKR_OK else RV(rv)


@pytest.fixture
def gateway(operated):
    return operated("one", more='[token.spare]\nbackend = "one"\nlabel = "other"\nslot = 5\n')


def test_a_pool_goes_and_comes(gateway):
    with RawClient(gateway.socket) as client:
        client.initialize()
        assert event(client) == RV.CKR_NO_EVENT
        gateway.drain("one")
        assert event(client) == 0
        assert event(client) == RV.CKR_NO_EVENT
        assert slots(client) == ()
        gateway.resume("one")
        assert event(client) == 0
        assert event(client) == RV.CKR_NO_EVENT
        # The slot can be used without a look at all of them.
        assert label_of(client, 0) == LABEL
        client.good("C_OpenSession", CKF_SERIAL_SESSION, 1, target=0)


def test_one_that_came_back_meanwhile_is_told_once(gateway):
    with RawClient(gateway.socket) as client, RawClient(gateway.socket) as later:
        client.initialize()
        gateway.drain("one")
        gateway.resume("one")
        assert [event(client) for _ in range(2)] == [0, RV.CKR_NO_EVENT]
        # What was before a context is none of its events.
        later.initialize()
        assert event(later) == RV.CKR_NO_EVENT


def test_a_member_is_no_token(operated):
    gateway = operated("one", "two")
    with RawClient(gateway.socket) as client:
        client.initialize()
        gateway.drain("one")
        assert event(client) == RV.CKR_NO_EVENT
        gateway.drain("two")
        assert event(client) == 0


def test_waiting_keeps_nobody_from_working(gateway):
    with RawClient(gateway.socket) as client:
        key = begin(client)
        waiting = client.send_call("C_WaitForSlotEvent", *BLOCK)
        sign(client, key)
        slots(client)
        gateway.drain("one")
        frame = client.receive()
        assert (frame.header.id, frame.header.rv, decode_reply(WAIT, frame.body)) == (waiting, RV.CKR_OK, (0,))
        gateway.resume("one")
        # An event that is there already is waited for no longer than one is asked for.
        assert client.call("C_WaitForSlotEvent", *BLOCK) == (RV.CKR_OK, (0,))
        sign(client, key)


def test_each_event_goes_to_one_who_waits(gateway):
    with RawClient(gateway.socket) as client:
        client.initialize()
        waiting = {client.send_call("C_WaitForSlotEvent", *BLOCK) for _ in range(2)}
        gateway.drain("one")
        first = client.receive().header
        client.good("C_GetInfo", True)
        gateway.resume("one")
        second = client.receive().header
        assert {first.id, second.id} == waiting
        assert (first.rv, second.rv) == (RV.CKR_OK, RV.CKR_OK)


def test_the_end_of_the_context_ends_the_wait(gateway):
    with RawClient(gateway.socket) as client:
        client.initialize()
        waiting = client.send_call("C_WaitForSlotEvent", *BLOCK)
        last = client.send_call("C_Finalize")
        frames = [client.receive().header for _ in range(2)]
        assert [(frame.id, frame.rv) for frame in frames] == [
            (waiting, RV.CKR_CRYPTOKI_NOT_INITIALIZED),
            (last, RV.CKR_OK),
        ]
        # The next one begins anew.
        client.initialize()
        gateway.drain("one")
        assert event(client) == 0


def test_a_client_that_goes_while_it_waits(gateway):
    with RawClient(gateway.socket) as client:
        client.initialize()
        client.send_call("C_WaitForSlotEvent", *BLOCK)
        client.good("C_GetInfo", True)
    until(lambda: not gateway.daemon.contexts(), "the context is closed")
    gateway.drain("one")


def test_how_many_may_wait(gateway):
    with RawClient(gateway.socket) as client:
        client.initialize()
        for _ in range(MAX_WAITING):
            client.send_call("C_WaitForSlotEvent", *BLOCK)
        assert client.call("C_WaitForSlotEvent", *BLOCK)[0] == RV.CKR_HOST_MEMORY


@pytest.mark.parametrize("arguments", [(CKF_DONT_BLOCK, None, False), (0, 0, True)])
def test_arguments_that_make_no_sense(gateway, arguments):
    with RawClient(gateway.socket) as client:
        client.initialize()
        assert client.call("C_WaitForSlotEvent", *arguments)[0] == RV.CKR_ARGUMENTS_BAD


def test_a_pool_that_this_client_does_not_see(operated):
    gateway = operated("one")
    more = f'[listener.more]\naddress = "unix:{gateway.home}/l"\ntokens = ["pkcs11:token=nothing"]\n'
    path = gateway.home / "keyway.toml"
    gateway.reload(path.read_text().partition("\n")[2].partition("\n")[2], more)
    with RawClient(gateway.home / "l") as client:
        client.initialize()
        gateway.drain("one")
        assert event(client) == RV.CKR_NO_EVENT
