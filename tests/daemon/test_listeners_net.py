"""Listeners when clients misbehave, descriptors run out, or sockets come from somebody else."""

import contextlib
import hashlib
import os
import random
import shutil
import socket
import ssl
import struct
import subprocess
import sys

import pytest
from tests.authority import Authority
from tests.daemon.harness import DEADLINE, KEYWAY, RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.test_loops import WITHOUT_UVLOOP
from tests.daemon.tokens import login, make, open_session, slot_of

from keyway.cryptoki import Fill, Mechanism, Null, Room
from keyway.cryptoki.constants import CKM_SHA256
from keyway.daemon.listener import HANDSHAKES

RESET = struct.pack("ii", 1, 0)
"""struct linger: reset the connection when it is closed."""
AS_SERVICE = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture
def authority(home):
    return Authority(home)


def port_of(daemon: RunningDaemon, scheme: str) -> int:
    entries = (e["address"] for e in daemon.events("listening"))
    return next(int(address.rpartition(":")[2]) for address in entries if address.startswith(scheme))


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE)


def tls(authority: Authority, port: int, *names: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=authority.file)
    if names:
        pair = authority.issue(*names)
        context.load_cert_chain(pair.certificate, pair.key)
    return context.wrap_socket(dial(port), server_hostname="gw.test")


def tls_listener(authority: Authority, address: str = "tls://127.0.0.1:0", protocol: str = "keyway") -> str:
    return (
        f'[listener.net]\naddress = "{address}"\nprotocol = "{protocol}"\n'
        f'ca = "{authority.file}"\n{authority.issue("gw.test", stem="server").options}'
    )


def use(client: RawClient) -> None:
    client.initialize()
    client.good("C_GetInfo", True)
    client.good("C_Finalize")


def refused_start(home, config: str, *program: str, **options) -> str:
    """Return what a daemon says that does not start."""
    path = home / "refused.toml"
    path.write_text(f'[listen]\nsocket = "{home}/k.sock"\n{config}')
    done = subprocess.run(
        [*(program or KEYWAY), "serve", "-c", path], capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not (home / "k.sock").exists()
    return done.stderr


class TestCrowds:
    def test_silent_connections_keep_nobody_out(self, start, home, authority):
        daemon = start(softhsm(home) + tls_listener(authority))
        with contextlib.ExitStack() as stack:
            for _ in range(HANDSHAKES * 2):
                stack.enter_context(dial(port_of(daemon, "tls")))
            with RawClient.over(tls(authority, port_of(daemon, "tls"), "alice")) as client:
                use(client)
            refused = daemon.events("connection refused")
            assert len(refused) >= HANDSHAKES
            assert {entry["reason"] for entry in refused} == {
                "too many handshakes at a time, and this one is the oldest"
            }
            assert all(entry["address"].startswith("127.0.0.1:") for entry in refused)
        with RawClient.over(tls(authority, port_of(daemon, "tls"), "alice")) as client:
            use(client)

    def test_clients_that_reset_their_connection_at_once(self, start, home):
        daemon = start(softhsm(home, spares=0) + '[listener.net]\naddress = "tcp://127.0.0.1:0"\n')
        with RawClient.over(dial(port_of(daemon, "tcp"))) as client:
            use(client)
        daemon.wait_quiet(0)
        descriptors = daemon.descriptors()
        for _ in range(200):
            hasty = dial(port_of(daemon, "tcp"))
            hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            hasty.close()
        with RawClient.over(dial(port_of(daemon, "tcp"))) as client:
            use(client)
        until(lambda: daemon.descriptors() <= descriptors, "no connection stays open")

    def test_when_descriptors_run_out_it_is_said_once_and_goes_on_later(self, start, home):
        # 64 are taken by the loop, the log, the listeners and the spare hosts, the rest is for clients.
        daemon = start(
            softhsm(home, spares=0) + '[listener.net]\naddress = "tcp://127.0.0.1:0"\n',
            program=["prlimit", "--nofile=64:64", *KEYWAY],
        )
        crowd = [dial(port_of(daemon, "tcp")) for _ in range(100)]
        until(lambda: daemon.events("no more connections"), "it is said that there are no more connections")
        # Longer than one pause: nothing is said again while it is still so.
        crowd[-1].settimeout(1.5)
        crowd[-1].sendall(b"\x81")
        with pytest.raises(TimeoutError):
            crowd[-1].recv(1)
        for each in crowd:
            each.close()
        with RawClient.over(dial(port_of(daemon, "tcp"))) as client:
            client.initialize()
        (entry,) = daemon.events("no more connections")
        assert entry["reason"] == "Too many open files"

    def test_a_daemon_that_is_told_to_stop_does_not_wait_for_handshakes(self, start, home, authority):
        daemon = start(softhsm(home) + tls_listener(authority) + "[limits]\ngreeting = 600\ndrain = 0\n")
        with dial(port_of(daemon, "tls")) as silent:
            silent.sendall(b"\x16")
            with RawClient.over(tls(authority, port_of(daemon, "tls"), "alice")) as client:
                use(client)
            assert daemon.stop() == 0

    @pytest.mark.parametrize("scheme", ["tcp", "tls"])
    def test_a_client_that_vanishes_while_it_is_not_read_from(self, start, home, authority, scheme):
        config = tls_listener(authority) if scheme == "tls" else '[listener.net]\naddress = "tcp://127.0.0.1:0"\n'
        daemon = start(softhsm(home) + config + "[limits]\nwrite_buffer = 65536\nending = 0\n")
        port = port_of(daemon, scheme)
        with RawClient.over(tls(authority, port, "alice") if scheme == "tls" else dial(port)) as client:
            client.initialize()
            client.socket.settimeout(0.5)
            # The answers stop the daemon from reading: nobody takes them.
            with contextlib.suppress(TimeoutError, ssl.SSLWantWriteError):
                while True:
                    client.send_call("C_GetInfo", True)
        until(lambda: not daemon.contexts(), "the context is gone")


class TestRefusals:
    def test_noise(self, start, home, authority):
        daemon = start(softhsm(home) + tls_listener(authority))
        port = port_of(daemon, "tls")
        source = random.Random(1)
        for begin in (
            b"",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\x15\x03\x03\x00\x02",
            b"\x17\x03\x03\x40\x00",
        ):
            for size in (0, 1, 100, 20_000):
                with dial(port) as noisy, contextlib.suppress(ConnectionError):
                    noisy.sendall(begin + source.randbytes(size))
                    noisy.shutdown(socket.SHUT_WR)
                    while noisy.recv(4096):
                        pass
        with RawClient.over(tls(authority, port, "alice")) as client:
            use(client)
        until(lambda: len(daemon.events("connection refused")) == 16, "each is refused in the log")
        assert all(entry["reason"] for entry in daemon.events("connection refused"))

    def test_a_client_is_told_why(self, start, home, authority):
        daemon = start(softhsm(home) + tls_listener(authority))
        with pytest.raises(ssl.SSLError, match="certificate required"):
            RawClient.over(tls(authority, port_of(daemon, "tls")))
        until(lambda: daemon.events("connection refused"), "the refusal is in the log")
        (entry,) = daemon.events("connection refused")
        assert entry["listener"] == "net"
        assert (entry["transport"], entry["reason"]) == ("tls", "it shows no certificate")
        assert entry["address"].startswith("127.0.0.1:")

    def test_plain_tcp_outside_loopback_needs_a_word(self, start, home):
        net = '[listener.net]\naddress = "tcp://0.0.0.0:0"\n'
        assert "insecure = true" in refused_start(home, softhsm(home) + net)
        daemon = start(softhsm(home, "second") + net + "insecure = true\n")
        with RawClient.over(dial(port_of(daemon, "tcp"))) as client:
            use(client)


class TestGivenSockets:
    def program(self, listener: socket.socket) -> list[str]:
        # The descriptor must be the third, as the service manager makes it.
        script = f'exec 3<&{listener.fileno()}; LISTEN_FDS=1 LISTEN_FDNAMES=net exec "$@"'
        listener.set_inheritable(True)
        return ["bash", "-c", script, "bash", sys.executable, "-c", AS_SERVICE, *KEYWAY]

    def test_tls(self, start, home, authority):
        with socket.create_server(("0.0.0.0", 0)) as listener:
            port = listener.getsockname()[1]
            daemon = start(
                softhsm(home) + tls_listener(authority, "systemd:net"), program=self.program(listener), close_fds=False
            )
            with RawClient.over(tls(authority, port, "alice")) as client:
                client.initialize()
                assert daemon.contexts()[0]["certificate"] == "alice"

    @pytest.mark.skipif(
        shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is not installed"
    )
    def test_a_daemon_that_starts_with_its_first_client(self, home):
        path = home / "keyway.toml"
        config = softhsm(home) + '[listener.net]\naddress = "systemd:net"\n[listener.other]\naddress = "systemd:1"\n'
        path.write_text(f'[listen]\nsocket = "{home}/k.sock"\n{config}')
        given, other = home / "given.sock", home / "other.sock"
        manager = subprocess.Popen(
            ["systemd-socket-activate", "-l", given, "-l", other, "--fdname=net:", *KEYWAY, "serve", "-c", path],
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: given.exists() and other.exists(), "the sockets are there")
            assert not (home / "k.sock").exists()
            for place in (given, other, home / "k.sock"):
                with RawClient(place) as client:
                    use(client)
        finally:
            manager.terminate()
            assert manager.wait(DEADLINE) == 0
        # They belong to who has handed them over.
        assert given.exists()
        assert not (home / "k.sock").exists()

    def test_plain_tcp_outside_loopback_needs_a_word(self, start, home):
        net = '[listener.net]\naddress = "systemd:net"\n'
        with socket.create_server(("0.0.0.0", 0)) as listener:
            program = self.program(listener)
            said = refused_start(home, softhsm(home) + net, *program, close_fds=False)
            assert "systemd:net: is tcp://0.0.0.0:" in said
            assert "insecure = true" in said
            daemon = start(softhsm(home, "second") + net + "insecure = true\n", program=program, close_fds=False)
            with RawClient.over(dial(listener.getsockname()[1])) as client:
                use(client)
            assert daemon.events("listening")[-1]["address"] == "systemd:net"

    def test_a_certificate_for_a_unix_socket(self, home, authority):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(home / "given.sock"))
            listener.listen()
            config = softhsm(home) + tls_listener(authority, "systemd:net")
            said = refused_start(home, config, *self.program(listener), close_fds=False)
        assert "has a certificate, but is no TCP socket" in said


@pytest.mark.parametrize("program", [KEYWAY, [sys.executable, "-c", WITHOUT_UVLOOP]], ids=["uvloop", "asyncio"])
def test_large_bodies_and_many_calls_over_tls(start, home, authority, program):
    daemon = start(softhsm(home) + tls_listener(authority), program=program)
    make(daemon, "demo")
    data = bytes(8 << 20)
    with RawClient.over(tls(authority, port_of(daemon, "tls"), "alice")) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        login(client, 1)
        client.good("C_DigestInit", Mechanism(CKM_SHA256, Null()), target=1)
        (digest,) = client.good("C_Digest", data, Room(32, True), target=1)
        assert digest.data == hashlib.sha256(data).digest()
        (random,) = client.good("C_GenerateRandom", Fill(True, 1 << 20), target=1)
        assert len(set(random)) == 256
        ids = [client.send_call("C_GetSessionInfo", True, target=1) for _ in range(2000)]
        assert [client.receive().header.id for _ in ids] == ids


def test_p11kit_over_tls(start, home, authority):
    daemon = start(softhsm(home) + tls_listener(authority, protocol="p11-kit"))
    with tls(authority, port_of(daemon, "tls"), "alice") as client:
        client.sendall(b"\x02")
        assert client.recv(1) == b"\x02"


def test_vsock(start, home):
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError as error:
        pytest.skip(f"no vsock on this kernel: {error}")
    port = 0x4B59_0000 | os.getpid() & 0xFFFF
    daemon = start(softhsm(home) + f'[listener.vm]\naddress = "vsock:cid=any;port={port}"\n')
    assert daemon.events("listening")[-1]["address"] == f"vsock:cid=any;port={port}"
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect((1, port))
        except OSError as error:
            pytest.skip(f"this kernel carries no vsock to itself: {error}")
        client.settimeout(DEADLINE)
        with RawClient.over(client) as raw:
            raw.initialize()
            assert daemon.contexts()[0]["transport"] == "vsock"
