"""Far ends that break, hang, or are not there: a clear error, and a new attempt with the next call."""

import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.back.remotes import KINDS, section
from tests.daemon.harness import KEYWAY, freeze, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import login, open_session, slot_of, slots

from keyway.cryptoki import RV, Null
from keyway.wire.header import VERSION_BYTE


@pytest.fixture(params=KINDS)
def reached(request, start, far):
    """A gateway, and a client of it with a session at the far end."""
    daemon = start(far.section(request.param))
    with RawClient(daemon.socket) as client:
        open_session(client, far.slot(daemon, client))
        yield far, daemon, client


def test_a_far_end_that_dies_in_a_call(reached):
    far, daemon, client = reached
    slot = slot_of(client, "demo")
    worker = far.worker(daemon)
    freeze(worker)
    client.send_call("C_GetSessionInfo", True, target=1)
    until(lambda: daemon.contexts()[0]["in_flight"], "the call is under way")
    os.kill(worker, signal.SIGKILL)
    far.come_back()
    assert client.receive().header.rv == RV.CKR_DEVICE_ERROR
    assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_REMOVED
    open_session(client, slot, 2)
    login(client, 2)
    assert client.good("C_GetSessionInfo", True, target=2)[0].slot == slot
    until(lambda: daemon.events(f"{far.log_kind} ended"), "the loss is reported")
    (ended,) = daemon.events(f"{far.log_kind} ended")
    assert ended["calls"] == "C_GetSessionInfo"
    assert ended["backend"] == "far"
    assert any(words in ended["how"] for words in ("SIGKILL", "status 255", "closed by the other end", "broke: "))
    assert daemon.status()["backends"]["far"]["crashes"] == 1


@pytest.mark.parametrize("reached", ["command", "server", "ssh"], indirect=True)
def test_calls_that_can_be_repeated_are(reached):
    far, daemon, client = reached
    slot = slot_of(client, "demo")
    worker = far.worker(daemon)
    freeze(worker)
    client.send_call("C_GetSlotInfo", True, target=slot)
    until(lambda: daemon.contexts()[0]["in_flight"], "the call is under way")
    os.kill(worker, signal.SIGKILL)
    far.come_back()
    assert client.receive().header.rv == RV.CKR_OK


def test_a_far_end_that_hangs_in_a_call(start, far):
    daemon = start(far.section("server", call_timeout=1))
    with RawClient(daemon.socket) as client:
        client.initialize()
        slot = slot_of(client, "demo")
        open_session(client, slot)
        worker = far.worker(daemon)
        freeze(worker)
        assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_ERROR
        os.kill(worker, signal.SIGKILL)
        open_session(client, slot, 2)
    assert [timed["call"] for timed in daemon.events("call timed out")] == ["C_GetSessionInfo"]
    assert [ended["how"] for ended in daemon.events("connection ended")] == [
        "was closed from here (C_GetSessionInfo took too long)"
    ]


@pytest.mark.parametrize("reached", ["command", "server", "gateway by tls"], indirect=True)
def test_a_far_end_that_dies_between_calls(reached):
    far, daemon, client = reached
    slot = slot_of(client, "demo")
    os.kill(far.worker(daemon), signal.SIGKILL)
    far.come_back()
    until(lambda: daemon.events(f"{far.log_kind} ended"), "the loss is noticed")
    assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_REMOVED
    client.good("C_CloseSession", target=1)
    open_session(client, slot, 1)


@pytest.mark.parametrize("kind", ["command", "server", "ssh", "gateway", "p11-kit by tls"])
def test_nothing_is_left_of_contexts(start, far, kind):
    daemon = start(far.section(kind))

    def use():
        with RawClient(daemon.socket) as client:
            client.initialize()
            open_session(client, slot_of(client, "demo"))

    use()
    daemon.wait_quiet(0)
    before = daemon.descriptors()
    for _ in range(4):
        use()
    daemon.wait_quiet(0)
    until(lambda: daemon.descriptors() <= before, "all descriptors are closed")
    assert daemon.hosts() == set()


@pytest.mark.parametrize("kind", ["command", "server", "gateway by tls"])
def test_a_daemon_without_descriptors_recovers(start, far, kind):
    daemon = start(far.section(kind), program=["prlimit", "--nofile=45:45", *KEYWAY])

    def is_reached(client):
        client.socket.settimeout(1)
        client.socket.sendall(bytes([VERSION_BYTE]))
        with suppress(TimeoutError):
            client.socket.recv(1)
            client.initialize()
            return bool(slots(client))

    with ExitStack() as stack:
        for _ in range(45):
            if not is_reached(stack.enter_context(RawClient(daemon.socket, greet=False))):
                break
        else:
            pytest.fail("there are always descriptors")
    until(lambda: not daemon.contexts(), "all contexts are over")

    def again():
        with RawClient(daemon.socket, greet=False) as client:
            return is_reached(client)

    until(again, "the far end is reached again")


def test_spares_wait_and_are_used(start, far):
    daemon = start(far.section("server", spares=2))
    until(lambda: daemon.status()["backends"]["far"]["spares"] == 2, "connections wait")
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        until(lambda: daemon.status()["backends"]["far"]["hosts"] == 3, "another one waits in its place")


def test_what_a_command_has_started_ends_with_it(start, far, home):
    words = " ".join(far.remote_command())
    script = f"sleep 1000 & echo $! > {home}/sleeper; exec {words}"
    daemon = start(far.section("command", command=["sh", "-c", script]))
    with RawClient(daemon.socket) as client:
        client.initialize()
        sleeper = Path(f"/proc/{int((home / 'sleeper').read_text())}")
        assert sleeper.exists()
        client.good("C_Finalize")
        until(lambda: not _runs(sleeper), "its child has ended")


def test_a_daemon_that_stops_waits_for_no_command(start):
    daemon = start(section("far", command=["sleep", "1000"], start_timeout=600) + "[limits]\ndrain = 0\n")
    with RawClient(daemon.socket) as client:
        client.send_call("C_Initialize", 0, Null(), b"")
        until(daemon.hosts, "the command runs")
        assert daemon.stop() == 0


def test_commands_end_with_a_daemon_that_is_killed(start, far):
    daemon = start(far.section("command"))
    with RawClient(daemon.socket) as client:
        client.initialize()
        (worker,) = daemon.hosts()
        daemon.process.kill()
        daemon.process.wait()
        until(lambda: not _runs(Path(f"/proc/{worker}")), "the command has ended")
    daemon.socket.unlink()


def _runs(process):
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
