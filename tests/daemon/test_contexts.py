"""Contexts are alone with their hosts: what happens to one is not seen by others."""

import os
import signal
from functools import partial

from tests.daemon.harness import freeze, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import generate_rsa, login, make, open_session, slot_of, slots

from keyway.config.locate import host_binary
from keyway.cryptoki import CALLS, RV


def host_of(daemon, context=-1):
    """The host of a context, in the order in which they were opened."""
    contexts = sorted(daemon.contexts(), key=lambda each: int(each["context"].partition("-")[2]))
    (host,) = contexts[context]["hosts"].values()
    return host


def test_peer_and_application_are_recorded(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        (context,) = daemon.contexts()
        assert (context["pid"], context["uid"], context["gid"]) == (os.getpid(), os.getuid(), os.getgid())
        assert context["application"] == "test"
    (opened,) = [event for event in daemon.events("context opened") if event["application"] == "test"]
    assert opened["pid"] == os.getpid()
    assert "python" in opened["program"]


def test_logins_are_apart(daemon):
    with RawClient(daemon.socket) as one, RawClient(daemon.socket) as two:
        for client in (one, two):
            client.initialize()
            open_session(client, slot_of(client, "demo"))
        login(one, 1)
        states = [client.good("C_GetSessionInfo", True, target=1)[0].state for client in (one, two)]
        assert states == [3, 2]


def test_a_killed_host_costs_only_its_client(daemon):
    with RawClient(daemon.socket) as bystander, RawClient(daemon.socket) as client:
        bystander.initialize()
        open_session(bystander, slot_of(bystander, "demo"))
        login(bystander, 1)
        client.initialize()
        slot = slot_of(client, "demo")
        open_session(client, slot, 1)
        open_session(client, slot, 2)
        login(client, 1)
        host = host_of(daemon)
        freeze(host)  # So that the call is surely not over.
        id_ = generate_rsa(client, 1)
        until(lambda: sum(context["in_flight"] for context in daemon.contexts()), "the call is under way")
        os.kill(host, signal.SIGKILL)
        frame = client.receive()
        assert (frame.header.id, frame.header.rv, frame.body) == (id_, RV.CKR_DEVICE_ERROR, b"")
        # The sessions are lost, and say so until they are closed.
        assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_REMOVED
        assert client.call("C_GetSessionInfo", True, target=2)[0] == RV.CKR_DEVICE_REMOVED
        client.good("C_CloseSession", target=1)
        assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_SESSION_HANDLE_INVALID
        # The client goes on with a new session on a new host.
        open_session(client, slot_of(client, "demo"), 3)
        login(client, 3)
        assert client.good("C_GetSessionInfo", True, target=3)[0].state == 3
        client.good("C_CloseAllSessions", target=slot)
        assert client.call("C_GetSessionInfo", True, target=2)[0] == RV.CKR_SESSION_HANDLE_INVALID
        # Nobody else noticed.
        assert bystander.good("C_GetSessionInfo", True, target=1)[0].state == 3
    (ended,) = daemon.events("module host ended")
    assert ended["how"] == "was killed by SIGKILL"
    assert ended["calls"] == "C_GenerateKeyPair"
    assert ended["backend"] == "softhsm"


def test_a_host_that_dies_while_nothing_is_called(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        slot = slot_of(client, "demo")
        open_session(client, slot)
        os.kill(host_of(daemon), signal.SIGABRT)
        until(lambda: daemon.contexts()[0]["lost_sessions"] == 1, "the loss is seen")
        assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_REMOVED
        open_session(client, slot, 2)


def has_lost(daemon, count):
    return daemon.contexts()[0]["lost_sessions"] == count


def test_a_host_that_dies_again_and_again(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        for handle in range(1, 8):
            open_session(client, slot_of(client, "demo"), handle)
            os.kill(host_of(daemon), signal.SIGKILL)
            until(partial(has_lost, daemon, handle), "the loss is seen")
        assert len(daemon.events("module host ended")) == 7
        client.good("C_Finalize")
    daemon.wait_quiet(spares=2)


def test_killed_spares_are_replaced(daemon):
    daemon.wait_quiet(spares=2)
    for pid in daemon.hosts():
        os.kill(pid, signal.SIGKILL)
    until(lambda: daemon.status()["backends"]["softhsm"]["hosts"] == 0, "the dead are reaped")
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert slots(client)
    daemon.wait_quiet(spares=2)


def test_a_client_that_vanishes_leaves_nothing(daemon):
    daemon.wait_quiet(spares=2)
    client = RawClient(daemon.socket)
    client.initialize()
    open_session(client, slot_of(client, "demo"))
    login(client, 1)
    host = host_of(daemon)
    client.socket.close()
    until(lambda: host not in daemon.hosts(), "the host has ended")
    daemon.wait_quiet(spares=2)


def test_a_client_that_vanishes_in_a_call_has_its_host_killed(start, home):
    daemon = start(softhsm(home) + "[limits]\nending = 0.5\n")
    client = RawClient(daemon.socket)
    client.initialize()
    host = host_of(daemon)
    freeze(host)
    client.send_call("C_GetInfo", True)
    client.socket.close()
    until(lambda: host not in daemon.hosts(), "the hung host is killed")


def test_a_hung_call_is_ended_by_call_timeout(start, home):
    daemon = start(softhsm(home, call_timeout=1))
    make(daemon, "demo")
    with RawClient(daemon.socket) as client, RawClient(daemon.socket) as bystander:
        for each in (client, bystander):
            each.initialize()
            open_session(each, slot_of(each, "demo"))
        freeze(host_of(daemon, 0))
        assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_ERROR
        client.good("C_GetInfo", True)
        bystander.good("C_GetSessionInfo", True, target=1)
    assert daemon.events("call timed out")[0]["call"] == "C_GetSessionInfo"


def test_a_call_that_needs_no_session_is_made_again_on_the_next_host(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        slot = slot_of(client, "demo")
        host = host_of(daemon)
        freeze(host)
        client.send_call("C_GetInfo", True)
        client.send_call("C_OpenSession", 4, 1, target=slot)
        client.send_call("C_InitToken", b"", None, target=slot)
        until(lambda: daemon.contexts()[0]["in_flight"] == 3, "the calls are under way")
        os.kill(host, signal.SIGKILL)
        replies = [client.receive().header for _ in range(3)]
        assert {(CALLS[reply.call - 1].name, reply.rv) for reply in replies} == {
            ("C_GetInfo", RV.CKR_OK),
            ("C_OpenSession", RV.CKR_OK),
            ("C_InitToken", RV.CKR_DEVICE_ERROR),
        }
        client.good("C_GetSessionInfo", True, target=1)


WRAPPER = """#!/bin/sh
(
    env | sed 's/=.*//'
    echo "cwd $(pwd)"
    for descriptor in /proc/$$/fd/*; do echo "descriptor $(readlink $descriptor)"; done
) > {told}.$$
mv {told}.$$ {told}
exec {binary} "$@"
"""


def test_what_a_host_is_given(start, home, monkeypatch):
    told = home / "told"
    wrapper = home / "wrapper"
    wrapper.write_text(WRAPPER.format(told=told, binary=host_binary()))
    wrapper.chmod(0o755)
    monkeypatch.setenv("KEYWAY_HOST_BINARY", str(wrapper))
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "1")
    daemon = start(softhsm(home, spares=0))
    with RawClient(daemon.socket) as client:
        client.initialize()
    lines = told.read_text().splitlines()
    of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    names = {line for line in lines if " " not in line} - of_the_shell
    assert names <= {"SOFTHSM2_CONF", "PATH", "HOME", "LANG", "LC_ALL", "TZ"}
    assert "SOFTHSM2_CONF" in names
    assert "cwd /" in lines
    # Of sockets only the stream to the daemon: not the listener, not another client's.
    assert len([line for line in lines if line.startswith("descriptor socket:")]) == 1
