"""Listeners for TCP and TLS, as clients from outside see them."""

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.authority import Authority, Pair
from tests.daemon.harness import KEYWAY, RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import make

REFUSED = "connection refused"


@pytest.fixture
def authority(home):
    return Authority(home)


def port_of(daemon: RunningDaemon, scheme: str) -> int:
    return next(
        int(entry["address"].rpartition(":")[2])
        for entry in daemon.events("listening")
        if entry["address"].startswith(scheme)
    )


def context_for(authority: Authority, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def tls_client(daemon: RunningDaemon, context: ssl.SSLContext, name: str = "gw.test") -> RawClient:
    with socket.create_connection(("127.0.0.1", port_of(daemon, "tls")), 20.0) as plain:
        return RawClient.over(context.wrap_socket(plain, server_hostname=name))


@pytest.fixture
def start_tls(start, home, authority) -> Callable[..., RunningDaemon]:
    """Starts a daemon over a SoftHSM with a token called demo, that listens for TLS on a free port."""

    def begin(more: str = "", pair: Pair | None = None) -> RunningDaemon:
        pair = pair or authority.issue("gw.test", stem="server")
        daemon = start(
            softhsm(home)
            + '[listener.net]\naddress = "tls://127.0.0.1:0"\n'
            + pair.options
            + f'ca = "{authority.file}"\n'
            + more
        )
        make(daemon, "demo")
        return daemon

    return begin


def use(client: RawClient) -> None:
    """Do what needs the token."""
    client.initialize()
    assert client.good("C_GetInfo", True)
    client.good("C_Finalize")


def try_tls(daemon: RunningDaemon, context: ssl.SSLContext) -> None:
    with tls_client(daemon, context) as client:
        use(client)


def refusal(daemon: RunningDaemon, connect: Callable[[], object]) -> str:
    """Connect in vain, and return why the daemon says so. It serves others afterwards as before."""
    before = len(daemon.events(REFUSED))
    with pytest.raises((OSError, EOFError, ssl.SSLError)):
        connect()
    until(lambda: len(daemon.events(REFUSED)) > before, "the refusal is in the log")
    with RawClient(daemon.socket) as client:
        use(client)
    return daemon.events(REFUSED)[-1]["reason"]


class TestMutualTls:
    def test_a_client_with_a_good_certificate_is_served_and_named(self, start_tls, authority):
        daemon = start_tls()
        with tls_client(daemon, context_for(authority, authority.issue("alice"))) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            assert client.socket.version() == "TLSv1.3"
            client.initialize()
            (context,) = daemon.contexts()
            assert (context["transport"], context["certificate"]) == ("tls", "alice")
            assert "uid" not in context

    def test_a_client_without_certificate_is_refused(self, start_tls, authority):
        daemon = start_tls()
        reason = refusal(daemon, lambda: try_tls(daemon, context_for(authority, None)))
        assert "no certificate" in reason

    def test_a_certificate_of_another_ca_is_refused(self, start_tls, authority, home):
        daemon = start_tls()
        stranger = Authority(home, "other").issue("alice")
        reason = refusal(daemon, lambda: try_tls(daemon, context_for(authority, stranger)))
        assert "certificate is refused" in reason
        assert "issuer" in reason

    def test_an_expired_certificate_is_refused(self, start_tls, authority):
        daemon = start_tls()
        old = authority.issue("alice", expired=True)
        assert "expired" in refusal(daemon, lambda: try_tls(daemon, context_for(authority, old)))

    def test_a_revoked_certificate_is_refused_as_soon_as_the_list_says_so(self, start_tls, authority):
        alice, bob = authority.issue("alice"), authority.issue("bob")
        crl = authority.revoke(bob)
        daemon = start_tls(f'crl = "{crl}"\n')
        with tls_client(daemon, context_for(authority, alice)) as client:
            use(client)
        assert "revoked" in refusal(daemon, lambda: try_tls(daemon, context_for(authority, bob)))
        authority.revoke(alice, bob)
        assert "revoked" in refusal(daemon, lambda: try_tls(daemon, context_for(authority, alice)))

    def test_older_versions_are_refused(self, start_tls, authority):
        daemon = start_tls()
        context = context_for(authority, authority.issue("alice"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert "TLS 1.3" in refusal(daemon, lambda: try_tls(daemon, context))

    def test_no_session_is_resumed(self, start_tls, authority):
        daemon = start_tls()
        alice = context_for(authority, authority.issue("alice"))
        with tls_client(daemon, alice) as client:
            use(client)
            assert isinstance(client.socket, ssl.SSLSocket)
            session = client.socket.session
            assert session is None or not session.has_ticket

    def test_what_is_no_tls_is_refused(self, start_tls):
        daemon = start_tls()

        def connect() -> None:
            with socket.create_connection(("127.0.0.1", port_of(daemon, "tls")), 20.0) as plain:
                plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while plain.recv(4096):
                    pass
                raise EOFError

        assert "HTTP" in refusal(daemon, connect)

    def test_certificates_may_be_left_out_if_the_configuration_says_so(self, start_tls, authority):
        daemon = start_tls('client_certificates = "optional"\n')
        with tls_client(daemon, context_for(authority, None)) as client:
            client.initialize()
            assert "certificate" not in daemon.contexts()[0]

    def test_a_client_that_says_nothing_is_let_go_in_time(self, start_tls, authority):
        daemon = start_tls("[limits]\ngreeting = 0.5\n")
        with socket.create_connection(("127.0.0.1", port_of(daemon, "tls")), 20.0) as silent:
            assert "too long" in refusal(daemon, lambda: silent.recv(1) or (_ for _ in ()).throw(EOFError))
        # One that is silent after the handshake has the same time again.
        with tls_client(daemon, context_for(authority, authority.issue("alice"))) as client:
            assert client.is_closed()


class TestReload:
    def test_a_new_certificate_is_used_without_a_restart(self, start_tls, authority, home):
        daemon = start_tls()
        alice = context_for(authority, authority.issue("alice"))
        with tls_client(daemon, alice) as before:
            before.initialize()
            authority.issue("new.test", stem="server")
            with tls_client(daemon, alice, "new.test") as client:
                use(client)
            with pytest.raises(ssl.SSLCertVerificationError):
                tls_client(daemon, alice, "gw.test")
            assert before.good("C_GetInfo", True)

    def test_broken_files_change_nothing_but_the_log(self, start_tls, authority, home):
        daemon = start_tls()
        alice = context_for(authority, authority.issue("alice"))
        (home / "ca-server.crt").write_text("no certificate")
        for _ in range(2):
            with tls_client(daemon, alice) as client:
                use(client)
        (entry,) = daemon.events("TLS files")
        assert "not used" in entry["what"]
        assert "ca-server.crt" in entry["what"]

    def test_a_daemon_does_not_start_with_broken_files(self, home, authority):
        pair = authority.issue("gw.test")
        pair.key.write_bytes(authority.issue("other").key.read_bytes())
        path = home / "k.toml"
        path.write_text(
            f'[listen]\nsocket = "{home}/k.sock"\n{softhsm(home)}[listener.net]\naddress = "tls://127.0.0.1:0"\n'
            f'{pair.options}ca = "{authority.file}"\n'
        )
        done = subprocess.run([*KEYWAY, "serve", "-c", path], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "do not belong together" in done.stderr
        assert "Traceback" not in done.stderr


class TestPlain:
    def test_tcp_on_loopback(self, start, home):
        daemon = start(softhsm(home) + '[listener.net]\naddress = "tcp://127.0.0.1:0"\n')
        with RawClient.over(socket.create_connection(("127.0.0.1", port_of(daemon, "tcp")), 20.0)) as client:
            client.initialize()
            (context,) = daemon.contexts()
            assert context["transport"] == "tcp"
            assert context["address"].startswith("127.0.0.1:")

    def test_control_calls_are_for_the_local_user_only(self, start, home):
        daemon = start(softhsm(home) + '[listener.net]\naddress = "tcp://127.0.0.1:0"\n')
        with RawClient.over(socket.create_connection(("127.0.0.1", port_of(daemon, "tcp")), 20.0)) as client:
            client.send(0x4000)
            frame = client.receive()
            assert frame.header.rv == 0x1B
            assert frame.body == b""

    def test_a_port_that_is_taken_is_told(self, home):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
            path = home / "k.toml"
            path.write_text(
                f'[listen]\nsocket = "{home}/k.sock"\n{softhsm(home)}[listener.net]\naddress = "{address}"\n'
            )
            done = subprocess.run(
                [*KEYWAY, "serve", "-c", path], capture_output=True, text=True, timeout=60, check=False
            )
        assert done.returncode == 1
        assert f"{address}: Address already in use" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (home / "k.sock").exists()


class TestSocketActivation:
    START = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"

    def test_a_socket_that_is_handed_over_is_served(self, start, home):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(home / "given.sock"))
            listener.listen()
            # The descriptor must be the third, as the service manager makes it.
            script = f'exec 3<&{listener.fileno()}; LISTEN_FDS=1 LISTEN_FDNAMES=native exec "$@"'
            os.set_inheritable(listener.fileno(), True)
            program = ["bash", "-c", script, "bash", sys.executable, "-c", self.START, *KEYWAY]
            daemon = start(
                softhsm(home) + '[listener.given]\naddress = "systemd:native"\n', program=program, close_fds=False
            )
            with RawClient(home / "given.sock") as client:
                use(client)
            assert daemon.events("listening")[-1]["address"] == "systemd:native"

    def test_a_socket_that_is_not_there_is_told(self, home):
        path = home / "k.toml"
        path.write_text(f'[listen]\nsocket = "{home}/k.sock"\n{softhsm(home)}[listener.given]\naddress = "systemd:x"\n')
        done = subprocess.run([*KEYWAY, "serve", "-c", path], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "systemd:x: no such socket is handed over" in done.stderr


def test_a_path_of_the_configuration_that_is_a_directory(home, authority):
    pair = authority.issue("gw.test")
    path = home / "k.toml"
    (home / "dir").mkdir()
    path.write_text(
        f'[listen]\nsocket = "{home}/k.sock"\n{softhsm(home)}[listener.net]\naddress = "tls://127.0.0.1:0"\n'
        f'{pair.options}ca = "{Path(home / "dir")}"\n'
    )
    done = subprocess.run([*KEYWAY, "serve", "-c", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Is a directory" in done.stderr
    assert "Traceback" not in done.stderr
