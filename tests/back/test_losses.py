"""Far ends that break, hang, or are not there: a clear error, and a new attempt with the next call."""

import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.authority import Authority
from tests.back.remotes import KINDS, section
from tests.daemon.harness import KEYWAY, until
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
    os.kill(worker, signal.SIGSTOP)
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
    os.kill(worker, signal.SIGSTOP)
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
        os.kill(worker, signal.SIGSTOP)
        assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_ERROR
        os.kill(worker, signal.SIGKILL)
        open_session(client, slot, 2)
    assert [timed["call"] for timed in daemon.events("call timed out")] == ["C_GetSessionInfo"]
    assert [ended["how"] for ended in daemon.events("connection ended")] == [
        "was closed from here (C_GetSessionInfo took too long)"
    ]


class TestBesideAnother:
    """A backend that can't be reached, beside a SoftHSM that must not notice."""

    @pytest.fixture
    def begin(self, start, good):
        def begin(**options):
            return start(good + RULES + section("far", **options))

        return begin

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (["/nowhere/ssh"], "/nowhere/ssh: No such file or directory"),
            (["/etc"], "/etc: Permission denied"),
            (["sh", "-c", "exit 3"], "sh: it exited with status 3"),
            (["sh", "-c", "head -c1 >/dev/null; echo no key >&2; exit 4"], "sh: it exited with status 4: no key"),
            (["sh", "-c", "printf 'no\\nend' >&2; exit 255"], "sh: it exited with status 255: end"),
            (["sh", "-c", "kill -9 $$"], "sh: it was killed by SIGKILL"),
            (
                ["sh", "-c", "echo Welcome, traveller; cat"],
                'sh: it does not speak the protocol "p11-kit": it began with b\'Welcome, traveller\\n',
            ),
            (
                ["sh", "-c", "exec >&- <&-; echo closed >&2; sleep 1000"],
                "sh: it was killed by SIGKILL: closed (it did not end)",
            ),
            (["sleep", "1000"], "sleep: no answer in 0.5 s"),
            (
                ["ssh", "-F", "/dev/null", "-p", "1", "127.0.0.1", "true"],
                "ssh: it exited with status 255: ssh: connect to ",
            ),
        ],
    )
    def test_a_command_that_does_not_work(self, begin, command, reason):
        daemon = begin(command=command, start_timeout=0.5 if "sleep" in command else 20)
        check(daemon, "command does not answer", reason)
        until(lambda: daemon.status()["backends"]["far"]["hosts"] == 0, "no process is left")

    def test_nobody_is_there(self, begin, home):
        daemon = begin(address=f"unix:{home}/nobody", protocol="p11-kit")
        check(daemon, "connection can't be made", f"unix:{home}/nobody: No such file or directory")

    def test_the_other_protocol_is_spoken_there(self, start, home, good, far):
        daemon = start(good + RULES + far.section("server", protocol="keyway"))
        address = f"unix:{home}/far.sock"
        check(
            daemon,
            "connection can't be made",
            f"{address}: it does not speak the protocol \"keyway\": it began with b'\\x00'",
        )

    def test_the_native_wire_is_spoken_there(self, start, home, good, far):
        daemon = start(good + RULES + far.section("gateway", protocol="p11-kit"))
        check(daemon, "connection can't be made", f"unix:{home}/far-gateway/k.sock: it was closed by the other end")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"server_name": "other.test"}, "its certificate is refused: Hostname mismatch"),
            ({"certificate": None}, "it broke: it demands a certificate"),
            ({"stranger": "ca"}, "its certificate is refused: self-signed certificate in certificate chain"),
            ({"stranger": "certificate"}, "it broke: it does not know the CA of our certificate"),
        ],
    )
    @pytest.mark.parametrize("protocol", ["keyway", "p11-kit"])
    def test_tls_is_refused(self, start, home, good, far, change, reason, protocol):
        options = {**far.gateway("tls", protocol), **change}
        stranger = Authority(home, "stranger")
        pair = stranger.issue("client.test")
        match options.pop("stranger", ""):
            case "ca":
                options["ca"] = stranger.file
            case "certificate":
                options |= {"certificate": pair.certificate, "key": pair.key}
        if options["certificate"] is None:
            del options["certificate"], options["key"]
        daemon = start(good + RULES + section("far", **options))
        check(daemon, "connection can't be made", f"{options['address']}: {reason}")


RULES = '[token.good]\nbackend = "good"\nlabel = "good"\n[token.demo]\nbackend = "far"\nlabel = "demo"\n'
GOOD, DEMO = 0, 1


def check(daemon, event, reason):
    with RawClient(daemon.socket) as client:
        client.initialize()
        for _ in range(50):
            assert slots(client) == (GOOD,)
        assert client.call("C_OpenSession", 4, 1, target=DEMO)[0] == RV.CKR_TOKEN_NOT_PRESENT
        open_session(client, GOOD, 2)
    errors = daemon.events(event)
    assert errors
    # Each attempt costs a connection, so there are pauses.
    assert len(errors) < 8
    assert {error["backend"] for error in errors} == {"far"}
    assert all(error["reason"].startswith(reason) for error in errors), errors
    told = daemon.status()["backends"]["far"]
    assert told["error"].startswith(reason)
    assert told["failures"]


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
