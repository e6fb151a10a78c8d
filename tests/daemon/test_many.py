"""Many contexts: at once, and one after another without a trace."""

import threading

import pytest
from tests.daemon.harness import softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import login, make, open_session, slot_of


def use(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        login(client, 1)
        client.good("C_Finalize")


@pytest.mark.timeout(300)
def test_a_thousand_contexts_leave_nothing(start, home):
    daemon = start(softhsm(home))
    make(daemon, "demo")
    for _ in range(50):
        use(daemon)
    daemon.wait_quiet(spares=2)
    before = daemon.descriptors(), len(daemon.hosts())
    memory = daemon.memory()
    for number in range(1000):
        if number % 10 == 0:
            with RawClient(daemon.socket) as client:
                client.initialize()  # And gone without C_Finalize.
        else:
            use(daemon)
    daemon.wait_quiet(spares=2)
    # At most: when `before` was taken, the daemon may not have closed the connection that asked whether it is quiet.
    until(lambda: daemon.descriptors() <= before[0] and len(daemon.hosts()) <= before[1], "no more than before")
    assert daemon.memory() - memory < 4 << 20


@pytest.mark.timeout(300)
def test_a_hundred_contexts_at_once(start, home):
    daemon = start(softhsm(home))
    make(daemon, "demo")
    everybody = threading.Barrier(100, timeout=120)
    problems = []

    def one():
        try:
            with RawClient(daemon.socket) as client:
                client.socket.settimeout(120)
                client.initialize()
                slot = slot_of(client, "demo")
                everybody.wait()
                open_session(client, slot)
                login(client, 1)
                everybody.wait()
                assert client.good("C_GetSessionInfo", True, target=1)[0].state == 3
        except BaseException as error:
            problems.append(error)
            everybody.abort()
            raise

    threads = [threading.Thread(target=one) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    daemon.wait_quiet(spares=2)
