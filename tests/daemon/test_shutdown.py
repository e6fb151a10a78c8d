"""The end of a daemon: clients may finish, hosts end, nothing stays."""

import signal
from pathlib import Path

import pytest
from tests.daemon.harness import softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import generate_rsa, login, make, open_session, slot_of


@pytest.fixture
def begun(start, home):
    """A daemon with an initialised client."""

    def begin(drain):
        daemon = start(softhsm(home) + f"[limits]\ndrain = {drain}\n")
        make(daemon, "demo")
        client = RawClient(daemon.socket)
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        login(client, 1)
        return daemon, client

    return begin


def test_draining_lets_clients_finish(begun):
    daemon, client = begun(drain=60)
    id_ = generate_rsa(client, 1)
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: daemon.events("draining"), "the daemon drains")
    assert not daemon.socket.exists()
    assert client.receive().header.id == id_
    client.good("C_GetInfo", True)
    client.good("C_Finalize")
    client.socket.close()
    assert daemon.process.wait(20) == 0
    assert daemon.events("stopped")


def test_a_client_that_stays_is_cut_off(begun):
    daemon, client = begun(drain=0.2)
    hosts = daemon.hosts()
    daemon.process.send_signal(signal.SIGTERM)
    assert client.is_closed()
    assert daemon.process.wait(20) == 0
    assert not [pid for pid in hosts if Path(f"/proc/{pid}").exists()]
    client.socket.close()


def test_a_second_signal_hurries(begun):
    daemon, client = begun(drain=600)
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: daemon.events("draining"), "the daemon drains")
    daemon.process.send_signal(signal.SIGINT)
    assert client.is_closed()
    assert daemon.process.wait(20) == 0
    client.socket.close()


def test_hosts_die_with_a_daemon_that_is_killed(begun):
    daemon, client = begun(drain=5)
    hosts = daemon.hosts()
    assert hosts
    daemon.process.kill()
    daemon.process.wait()
    until(lambda: not any(_runs(pid) for pid in hosts), "the hosts have ended")
    assert client.is_closed()
    client.socket.close()


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
