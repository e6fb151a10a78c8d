"""What one client may use up."""

import contextlib
import socket

import pytest
from tests.daemon.conftest import LOG
from tests.daemon.harness import softhsm, until
from tests.daemon.pool_control.operator import Operated
from tests.daemon.raw import RawClient
from tests.daemon.tokens import make, open_session, slot_of

from keyway.cryptoki import RV, call_named
from keyway.wire.header import HEADER


def test_contexts(start, home):
    daemon = start(softhsm(home) + "[limits]\ncontexts = 2\n")
    with RawClient(daemon.socket) as one, RawClient(daemon.socket) as two, RawClient(daemon.socket) as three:
        one.initialize()
        two.initialize()
        assert three.call("C_Initialize", 0, b"", b"")[0] == RV.CKR_HOST_MEMORY
        one.good("C_Finalize")
        three.initialize()


def test_contexts_of_one_listener_leave_room_for_others(start, home):
    daemon = start(
        f'{softhsm(home)}[limits]\ncontexts = 3\n[listener.l]\naddress = "unix:{home}/l.sock"\ncontexts = 1\n'
    )
    with RawClient(home / "l.sock") as one, RawClient(home / "l.sock") as two, RawClient(daemon.socket) as three:
        one.initialize()
        assert two.call("C_Initialize", 0, b"", b"")[0] == RV.CKR_HOST_MEMORY
        three.initialize()
        one.good("C_Finalize")
        two.initialize()


def test_idle_connections_do_not_keep_the_owner_out(start, home):
    daemon = start(softhsm(home) + '[limits]\ncontexts = 2\n[listener.l]\naddress = "tcp://127.0.0.1:0"\n')
    (port,) = (int(e["address"].rpartition(":")[2]) for e in daemon.events("listening") if "tcp" in e["address"])
    with contextlib.ExitStack() as idle:
        for _ in range(70):
            idle.enter_context(socket.create_connection(("127.0.0.1", port), 20.0))
        until(lambda: daemon.events("client refused"), "the limit is reached")
        assert daemon.status()["connections"] >= 66


def test_sessions(start, home):
    daemon = start(softhsm(home) + "[limits]\nsessions = 3\n")
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        client.initialize()
        slot = slot_of(client, "demo")
        for handle in (1, 2, 3):
            open_session(client, slot, handle)
        assert client.call("C_OpenSession", 4, 4, target=slot)[0] == RV.CKR_HOST_MEMORY
        client.good("C_CloseSession", target=2)
        open_session(client, slot, 5)


def test_bodies(start, home):
    daemon = start(softhsm(home) + "[limits]\nbody = 4096\n")
    with RawClient(daemon.socket) as client:
        client.initialize()
        client.socket.sendall(HEADER.pack(4097, call_named("C_GetInfo").number, 0, 9, 0, 0))
        assert client.is_closed()


def test_time_to_begin(start, home):
    daemon = start(softhsm(home) + "[limits]\ngreeting = 0.5\n")
    with (
        RawClient(daemon.socket, greet=False) as silent,
        RawClient(daemon.socket) as idle,
        RawClient(daemon.socket) as good,
    ):
        good.initialize()
        assert silent.is_closed()
        assert idle.is_closed()
        good.good("C_GetInfo", True)


def test_clients_that_ask_for_nothing(start, home):
    section = softhsm(home)
    daemon = start(section)
    make(daemon, "demo")
    with RawClient(daemon.socket) as idle, RawClient(daemon.socket) as user:
        idle.initialize()
        user.initialize()
        open_session(user, slot_of(user, "demo"))
        Operated(daemon, home).reload(LOG, section, "[limits]\nidle = 0.1\n")
        assert idle.is_closed()
        assert [entry["context"] for entry in daemon.events("idle client closed")] == [
            daemon.events("context opened")[-2]["context"]
        ]
        user.good("C_GetSessionInfo", True, target=1)
        user.good("C_CloseSession", target=1)
        assert user.is_closed()
    until(lambda: not daemon.contexts(), "both contexts are closed")


@pytest.mark.parametrize("slow", ["client", "host"])
def test_nobody_waits_for_a_client_that_does_not_read(start, home, slow):
    daemon = start(softhsm(home) + "[limits]\nwrite_buffer = 65536\nending = 0.5\n")
    make(daemon, "demo")
    with RawClient(daemon.socket) as client, RawClient(daemon.socket) as bystander:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.setblocking(False)
        # Answers of 64 KiB that nobody reads; or requests of 64 KiB for them.
        if slow == "client":
            body = b"\x01" + (65536).to_bytes(8, "big")
            frame_of = lambda id_: HEADER.pack(9, call_named("C_GenerateRandom").number, 0, id_, 1, 0) + body  # noqa: E731
        else:
            body = (65536).to_bytes(4, "big") + bytes(65536)
            number = call_named("C_SeedRandom").number
            frame_of = lambda id_: HEADER.pack(len(body), number, 0, id_, 1, 0) + body  # noqa: E731
        before = daemon.memory()
        pending, id_, sent = b"", 1000, 0
        until_full = 0
        while until_full < 20 and sent < 256 << 20:
            if not pending:
                id_ += 1
                pending = frame_of(id_)
            try:
                count = client.socket.send(pending)
                sent += count
                pending = pending[count:]
                until_full = 0
            except BlockingIOError:
                # Full for now; the others go on, and it counts as full for good if it stays so.
                bystander.call("C_Finalize")
                bystander.initialize()
                until_full += 1
        assert daemon.memory() - before < 32 << 20
        bystander.good("C_GetInfo", True)
    until(lambda: len(daemon.contexts()) == 0, "the slow client is gone")


@pytest.mark.parametrize("initialised", [False, True])
def test_answers_of_the_daemon_itself_that_nobody_reads(start, home, initialised):
    daemon = start(softhsm(home) + "[limits]\nwrite_buffer = 65536\n")
    with RawClient(daemon.socket) as client, RawClient(daemon.socket) as bystander:
        if initialised:
            client.initialize()
        bystander.initialize()
        client.socket.settimeout(0.5)
        unknown = b"".join(HEADER.pack(0, 0x3FFF, 0, id_, 0, 0) for id_ in range(1, 2001))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                client.socket.sendall(unknown)
                sent += len(unknown)
        assert sent < 64 << 20, "the daemon reads on and keeps the answers"
        bystander.good("C_GetInfo", True)


def test_a_slow_client_gets_all_in_the_end(daemon):
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        number = call_named("C_GenerateRandom").number
        body = b"\x01" + (200_000).to_bytes(8, "big")
        ids = list(range(1000, 1100))
        client.socket.sendall(b"".join(HEADER.pack(9, number, 0, id_, 1, 0) + body for id_ in ids))
        frames = [client.receive() for _ in ids]
        assert [frame.header.id for frame in frames] == ids
        assert {frame.header.length for frame in frames} == {200_004}
        assert {frame.header.rv for frame in frames} == {RV.CKR_OK}
