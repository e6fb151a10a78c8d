"""libkeyway.so reaches its daemon over unix sockets, TCP and TLS, and behaves in the same way on all of them."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.daemon.harness import until
from tests.module_transport.conftest import Application, finish, mutual, own, resume, until_paused
from tests.module_transport.relay import Relay

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.authority import Authority
    from tests.daemon.harness import RunningDaemon

SIGN = ("initialize", "open", "login", "keys", "sign", "sign", "close", "finalize")
CKR_DEVICE_ERROR = 0x30
CKR_DEVICE_REMOVED = 0x32
TRANSPORTS = ["unix", "tcp", "tls"]


class Way:
    """A relay, and the settings with which the module finds it."""

    def __init__(self, daemon: RunningDaemon, transport: str, home: Path, authority: Authority) -> None:
        self.settings: dict[str, object] = {}
        match transport:
            case "unix":
                path = home / "relay.sock"
                self.relay = Relay(daemon.socket, path=path)
                self.settings["address"] = f"unix:{path}"
            case "tcp":
                self.relay = Relay(daemon.socket)
                self.settings["address"] = f"tcp://127.0.0.1:{self.relay.port}"
            case "tls":
                self.relay = Relay(daemon.socket, mutual(authority))
                self.settings["address"] = f"tls://127.0.0.1:{self.relay.port}"
                self.settings |= {"ca": authority.file, **own(authority)}


@pytest.fixture(params=TRANSPORTS)
def way(request, daemon: RunningDaemon, home: Path, authority: Authority) -> Iterator[Way]:
    way = Way(daemon, request.param, home, authority)
    with way.relay:
        yield way


def test_an_application_signs(application: Application, way: Way) -> None:
    done = application.run(*SIGN, **way.settings)
    assert done.all_good(), done
    assert done.errors == ""
    assert way.relay.connections == 1


def test_threads_send_and_receive_much_at_once(application: Application, way: Way) -> None:
    steps = ("initialize", "open", "login", "keys", "large:8", "sign", "finalize")
    done = application.run(*steps, **way.settings)
    assert done.all_good(), done
    assert way.relay.connections == 1
    # Four times encrypted and four times decrypted, by each of eight threads.
    assert way.relay.requested > 64 << 20


def test_a_forked_child_does_not_disturb_its_parent(application: Application, way: Way) -> None:
    steps = (
        "initialize",
        "open",
        "login",
        "keys",
        "sign",
        "leave",
        "sign",
        "fork",
        "sign",
        "leave",
        "sign",
        "finalize",
    )
    done = application.run(*steps, **way.settings)
    assert done.all_good(), done
    # The parent's, and that of the child that started anew.
    assert way.relay.connections == 2


@pytest.mark.parametrize("end", ["cut", "part"])
def test_a_connection_that_ends_takes_its_sessions_along(application: Application, way: Way, end: str) -> None:
    steps = ("initialize", "open", "login", "pause", "random", "random", "close", "slots", "open", "random", "finalize")
    process = application.start(*steps, **way.settings)
    until_paused(process)
    getattr(way.relay, end)()
    resume(process)
    done = finish(process)
    # The daemon has not seen the call, so nothing is in doubt.
    assert done.rvs("random") == [CKR_DEVICE_REMOVED, CKR_DEVICE_REMOVED, 0]
    assert done.rvs("close") == [0]
    assert (done.rvs("slots"), done.rvs("open"), done.rvs("finalize")) == ([0], [0], [0])
    assert way.relay.connections == 2


def test_a_call_in_flight_fails_with_its_connection(application: Application, way: Way) -> None:
    process = application.start("initialize", "open", "pause", "random", "random", "open", "random", **way.settings)
    until_paused(process)
    before = way.relay.requested
    way.relay.mute()
    resume(process)
    until(lambda: way.relay.requested > before, "the request is on its way")
    way.relay.cut()
    done = finish(process)
    assert done.rvs("random") == [CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, 0], done
    assert done.rvs("open") == [0]


def test_threads_endure_connections_that_break(application: Application, way: Way) -> None:
    process = application.start("initialize", "endure:8", "finalize", **way.settings)
    for _ in range(12):
        # In the middle of something, wherever that is.
        wait_for_requests(way.relay, process, 5_000)
        way.relay.cut()
    done = finish(process)
    assert done.all_good(), done
    assert way.relay.connections > 1


def test_addresses_are_tried_in_their_order(
    application: Application, daemon: RunningDaemon, home: Path, authority: Authority
) -> None:
    with closed_port() as port, Relay(daemon.socket, mutual(authority)) as first, Relay(daemon.socket) as second:
        settings = {"ca": authority.file, **own(authority)}
        addresses = (
            f"unix:{home}/nobody.sock tcp://127.0.0.1:{port} tls://localhost:{port}"
            f" tls://localhost:{first.port} tcp://localhost:{second.port}"
        )
        done = application.run(*SIGN, address=addresses, **settings)
        assert done.all_good(), done
        assert done.errors == ""
        assert (first.connections, second.connections) == (1, 0)


def test_the_next_address_takes_over_when_one_goes(
    application: Application, daemon: RunningDaemon, authority: Authority
) -> None:
    steps = ("initialize", "open", "login", "pause", "random", "close", "open", "login", "random", "finalize")
    with Relay(daemon.socket, mutual(authority)) as second:
        with Relay(daemon.socket, mutual(authority)) as first:
            settings = {"ca": authority.file, **own(authority)}
            addresses = f"tls://localhost:{first.port} tls://localhost:{second.port}"
            process = application.start(*steps, address=addresses, **settings)
            until_paused(process)
        assert second.connections == 0
        resume(process)
        done = finish(process)
        assert done.rvs("random") == [CKR_DEVICE_REMOVED, 0]
        assert [done.rvs(name) for name in ("close", "open", "login", "finalize")] == [[0]] * 4
        assert second.connections == 1


def test_the_file_has_an_array_of_addresses(application: Application, daemon: RunningDaemon, home: Path) -> None:
    (home / "keyway").mkdir()
    (home / "keyway" / "module.toml").write_text(
        f"address = [\n  'unix:{home}/nobody.sock', # not yet\n  'unix:path={daemon.socket}',\n]\n"
    )
    assert application.run(*SIGN).all_good()


def test_a_silent_peer_is_given_up(application: Application, daemon: RunningDaemon, authority: Authority) -> None:
    settings = {"ca": authority.file}
    with deaf_port() as deaf, full_port() as full, Relay(daemon.socket) as relay:
        good = f"tcp://127.0.0.1:{relay.port}"
        # Each takes its five seconds, both at the same time.
        processes = [
            application.start(*SIGN, address=f"tls://127.0.0.1:{deaf} {good}", **settings),
            application.start(*SIGN, address=f"tcp://127.0.0.1:{full} {good}"),
        ]
        assert [finish(process).all_good() for process in processes] == [True, True]
        assert relay.connections == 2


def wait_for_requests(relay: Relay, process: subprocess.Popen[str], count: int) -> None:
    """Wait until so many bytes more have come, or none will."""
    goal = relay.requested + count
    until(lambda: relay.requested > goal or process.poll() is not None, "requests go on")


@contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port behind which nobody speaks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def full_port() -> Iterator[int]:
    """A port that does not answer who wants to connect."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = listening.getsockname()
        with socket.create_connection(address):
            yield address[1]
