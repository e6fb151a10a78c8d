"""`keyway remote` on standard input and output, for stock clients and for Keyway's own."""

import os
import shlex
import signal
import socket
import subprocess

import pytest
from tests.back.remotes import section
from tests.cli.conftest import COMMAND, KEYWAY, LOGIN, UNPRIVILEGED, labels
from tests.daemon.harness import RunningDaemon
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, label_of, slots
from tests.p11kit.stock import RELEASES

from keyway.config.locate import module_library, softhsm_module
from keyway.wire.header import VERSION_BYTE

MODULE = str(softhsm_module())
DEMO = "pkcs11:token=demo"


@pytest.fixture
def remote(start, at_home):
    """Starts the command over a pair of sockets, and returns it with our end."""
    ends = []

    def remote(*arguments):
        ours, theirs = socket.socketpair()
        ends.append(ours)
        ours.settimeout(30)
        with theirs:
            process = start("remote", *arguments, env=at_home, stdin=theirs.fileno(), stdout=theirs.fileno())
        return process, ours

    yield remote
    for each in ends:
        each.close()


class TestStockClients:
    @pytest.fixture(params=RELEASES, ids=lambda release: f"version {release.version}")
    def client(self, request, tool, at_home):
        """Runs pkcs11-tool with a stock client of the command."""
        release = request.param

        def client(served, *arguments, status=0):
            variables = {"P11_KIT_SERVER_ADDRESS": f"|env -u LD_LIBRARY_PATH {COMMAND} remote {served}", **at_home}
            return tool(
                {**variables, "LD_LIBRARY_PATH": str(release.libraries)},
                *arguments,
                module=release.client,
                status=status,
            )

        return client

    def test_a_module(self, client, tool, conf):
        listed = client(MODULE, "-L")
        assert listed == tool({"SOFTHSM2_CONF": str(conf)}, "-L", module=MODULE)

    def test_a_key_is_made_and_used(self, client, home):
        (home / "digest").write_bytes(bytes(32))
        client(MODULE, *LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01")
        about = ("--id", "01", "--mechanism", "ECDSA", "--input-file", home / "digest")
        client(f"'{DEMO}'", *LOGIN, "--sign", *about, "--output-file", home / "signature")
        verified = client(f"-p {MODULE} {DEMO}", *LOGIN, "--verify", *about, "--signature-file", home / "signature")
        assert "Signature is valid" in verified

    def test_uris(self, client):
        listed = client(f"{DEMO} --provider {MODULE}", "-L")
        assert labels(listed) == ["demo"]
        assert "(0x11)" in listed

    def test_write_protected(self, client):
        refused = client(f"{DEMO}?write-protected=yes", *LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", status=1)
        assert "CKR_TOKEN_WRITE_PROTECTED" in refused


class TestConfigurationOfP11Kit:
    """`remote:` in a file of p11-kit's, for all programs that use p11-kit."""

    @pytest.fixture
    def modules(self, home):
        return home / "config" / "pkcs11" / "modules"

    @pytest.fixture
    def run(self, home, at_home, modules):
        modules.mkdir(parents=True)
        (modules.parent / "pkcs11.conf").write_text("user-config: only\n")
        (modules / "hsm.module").write_text(f"remote: |{COMMAND} remote {MODULE}\n")
        environment = {"PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": str(home / "config"), "GNUTLS_PIN": PIN, **at_home}

        def run(*command):
            done = subprocess.run(
                [*UNPRIVILEGED, *command], env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "Traceback" not in done.stderr
            return done.stdout

        return run

    def test_list_modules(self, run):
        listed = run("p11-kit", "list-modules")
        assert "token: demo" in listed
        assert "token: other" in listed

    def test_gnutls(self, run):
        run(
            "p11tool",
            "--login",
            "--generate-privkey=ecdsa",
            "--curve=secp256r1",
            "--label=key",
            "--outfile=/dev/null",
            DEMO,
        )
        assert "object=key" in run("p11tool", "--login", "--list-privkeys", DEMO)

    def test_a_server_serves_it_too(self, run):
        """Keyway as the server, Keyway at the far end, p11-kit's configuration between."""
        tool = f"pkcs11-tool --module {RELEASES[0].client} -L"
        script = f'eval "$({shlex.join(KEYWAY)} p11-kit-server pkcs11:token=demo 2>/dev/null)" && {tool}; kill $P11_KIT_SERVER_PID'
        assert labels(run("sh", "-c", script)) == ["demo"]

    def test_one_that_leads_back_to_itself(self, run, modules):
        """It is left out, not started without end."""
        (modules / "loop.module").write_text(f"remote: |{COMMAND} remote pkcs11:\n")
        assert run("p11tool", "--list-token-urls").count("token=demo") == 2


class TestNativeClients:
    def test_the_first_byte_tells(self, remote):
        process, ours = remote(MODULE)
        with RawClient.over(ours) as client:
            client.initialize()
            assert {label_of(client, slot) for slot in slots(client)} >= {"demo", "other"}
        assert process.wait(30) == 0


class TestTheEnd:
    @pytest.mark.parametrize("first", [b"", b"\0", bytes([VERSION_BYTE])], ids=["nothing", "p11-kit", "native"])
    def test_of_the_input(self, remote, first):
        process, ours = remote(MODULE)
        ours.sendall(first)
        ours.shutdown(socket.SHUT_WR)
        assert ours.recv(16) == first
        assert process.wait(30) == 0
        assert process.stderr.read() == ""

    def test_by_a_signal(self, remote):
        process, ours = remote(MODULE)
        ours.sendall(b"\0")
        assert ours.recv(1) == b"\0"
        # That of Ctrl-C is meant for the application in the same terminal.
        process.send_signal(signal.SIGINT)
        ours.sendall(bytes.fromhex("00000010 00000000 00000002 ffff"))
        assert ours.recv(1) != b""
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    def test_of_a_stranger(self, remote):
        process, ours = remote(MODULE)
        ours.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while ours.recv(65536):
            pass
        assert process.wait(30) == 0


class TestRefusals:
    def test_a_terminal(self, start, at_home):
        terminal, other = os.openpty()
        process = start("remote", MODULE, env=at_home, stdin=other)
        os.close(other)
        _, errors = process.communicate(timeout=30)
        os.close(terminal)
        assert process.returncode == 2
        assert "not a terminal" in errors

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
    def test_closed_streams(self, start, at_home, closed):
        process = start("-c", f"{COMMAND} remote {MODULE} {closed}", program=["sh"], env=at_home, stdin=subprocess.PIPE)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert errors == "Error: standard input and output must be pipes or sockets\n"

    def test_a_file(self, keyway, at_home):
        done = keyway("remote", MODULE, env=at_home)
        assert done.returncode == 1
        assert done.stderr == "Error: standard input and output must be pipes or sockets\n"

    @pytest.mark.parametrize(
        ("arguments", "status", "text"),
        [
            ((), 2, "name a module"),
            (("/no/such.so",), 1, "/no/such.so: no such module"),
            (("-p", "/no/such.so", DEMO), 1, "/no/such.so: no such module"),
            (("pkcs11:token=%",), 2, "no PKCS #11 URI"),
            (("--bogus",), 2, "No such option"),
        ],
    )
    def test_what_can_not_be(self, remote, arguments, status, text):
        process, ours = remote(*arguments)
        assert ours.recv(1) == b""
        assert process.wait(30) == status
        errors = process.stderr.read()
        assert text in errors
        assert "Traceback" not in errors

    def test_no_token_matches(self, remote):
        process, ours = remote("pkcs11:token=nowhere")
        with RawClient.over(ours) as client:
            client.initialize()
            assert slots(client) == ()
        assert process.wait(30) == 0


def test_it_imports_no_other_command():
    script = "import sys; from keyway.cli import main\ntry: main(['remote', '--help'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([KEYWAY[0], "-c", script], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("keyway.cli.")}
    assert "keyway.cli.remote" in loaded
    assert not loaded & {
        f"keyway.cli.{name}" for name in ("agent", "embedded", "forward", "look", "p11kit_server", "serve", "trace")
    }


@pytest.mark.parametrize("protocol", ["keyway", "p11-kit"])
def test_it_is_a_backend_of_another_gateway(far, conf, home, tool, protocol):
    """Over a real ssh."""
    command = [*far.sshd(), "env", f"SOFTHSM2_CONF={conf}", COMMAND, "remote", MODULE]
    daemon = RunningDaemon(home, '[log]\nformat = "json"\n' + section("far", command=command, protocol=protocol))
    try:
        address = {"KEYWAY_ADDRESS": f"unix:{daemon.socket}"}
        tool(address, *LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", module=module_library())
        assert "Private Key Object" in tool(address, *LOGIN, "--list-objects", module=module_library())
        assert not daemon.events("command output")
    finally:
        assert daemon.stop() == 0
