"""The socket: who may use it, and what is there already."""

import socket
import stat
import subprocess
import sys

import pytest
from tests.daemon.harness import softhsm
from tests.daemon.raw import RawClient

from keyway.transport.unix import AddressError, listen


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_permissions(home, mode):
    path = home / "s"
    with listen(path, mode):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_stale_socket_is_replaced(home):
    path = home / "s"
    listen(path, 0o600).close()
    assert path.exists()
    with listen(path, 0o600):
        RawClient(path, greet=False).socket.close()


def test_a_socket_in_use_is_left_alone(home):
    path = home / "s"
    with listen(path, 0o600), pytest.raises(AddressError, match="another daemon listens there"):
        listen(path, 0o600)
    assert path.exists()


def test_another_file_is_left_alone(home):
    path = home / "s"
    path.write_text("precious")
    with pytest.raises(AddressError, match="which is no socket"):
        listen(path, 0o600)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "group", "problem"),
    [
        ("x" * 200, "", "too long for a unix socket"),
        ("missing/s", "", "No such file or directory"),
        ("s", "no-such-group", "there is no group no-such-group"),
    ],
)
def test_what_can_not_be_listened_on(home, name, group, problem):
    with pytest.raises(AddressError, match=problem):
        listen(home / name, 0o600, group)


def test_a_second_daemon_says_so_and_ends(start, home):
    start(softhsm(home))
    second = subprocess.run(
        [sys.executable, "-m", "keyway.cli", "serve", "-c", str(home / "keyway.toml")],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert "another daemon listens there" in second.stderr


def test_the_service_manager_is_told(home, start, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind(str(home / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(home / "notify"))
        daemon = start(softhsm(home))
        assert manager.recv(100) == b"READY=1"
        daemon.stop()
        assert manager.recv(100) == b"STOPPING=1"
