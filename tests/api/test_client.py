"""`keyway.Client` and the commands, over the daemon's socket and over HTTP."""

import os
import subprocess

import pytest
from click.testing import CliRunner
from tests.api.openssl import public_key, run, verified
from tests.api.running import PIN, SO_PIN
from tests.daemon.harness import KEYWAY

from keyway import Client, ClientError
from keyway.cli import main

WAYS = ["socket", "http"]


@pytest.fixture(params=WAYS)
def client(request, daemon, api):
    address = f"unix:{daemon.socket}" if request.param == "socket" else api.url
    with Client(address, timeout=90) as client:
        yield client


class Command:
    """Runs commands, in this process."""

    def __init__(self, way, *place):
        self.way = way
        self._place = place

    def __call__(self, *arguments, status=0, text="", pins=True):
        """Return what a command prints, or what it says when it fails."""
        given = {"KEYWAY_PIN": PIN, "KEYWAY_SO_PIN": SO_PIN} if pins else {"KEYWAY_PIN": None, "KEYWAY_SO_PIN": None}
        done = CliRunner().invoke(main, [*map(str, arguments), *map(str, self._place)], input=text, env=given)
        assert done.exit_code == status, done.output
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert PIN not in done.output
        return done.stderr if status else done.stdout


@pytest.fixture(params=WAYS)
def command(request, daemon, api):
    place = ("--socket", daemon.socket) if request.param == "socket" else ("--api", api.url)
    return Command(request.param, *place)


def test_as_a_program(daemon):
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("KEYWAY")}
    arguments = [*KEYWAY, "token", "list", "--socket", str(daemon.socket)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=quiet, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a token that is not initialised" in done.stdout


def test_client(client, ca, request):
    label = f"client {request.node.callspec.id}"
    made = client.init_token(label, so_pin=SO_PIN, pin=PIN)
    assert client.init_token(label, so_pin=SO_PIN, pin=PIN) == made
    assert client.token(label) == made
    assert made in client.tokens()

    key = client.create_key(label, "a/b", "EC:prime256v1", id="0001", pin=PIN)
    assert (key.id, key.type) == ("0001", "EC:prime256v1")
    assert client.create_key(label, "a/b", "EC:prime256v1", pin=PIN) == key
    assert client.keys(label, pin=PIN) == (key,)
    assert client.key(label, "pkcs11:id=%00%01", pin=PIN) == key
    assert not client.keys(label)[0].has_private_key

    csr = client.csr(label, "a/b", "CN=x", names=["dns:x.example"], key_usage=["digitalSignature"], pin=PIN)
    assert public_key(csr) == key.public_key_pem
    first, second = ca.sign(csr), ca.sign(csr)
    stored = client.import_certificate(label, "a/b", first + ca.pem, pin=PIN)
    assert (stored.pem, stored.id) == (first, "0001")
    renewed = client.replace_certificate(label, "a/b", second, pin=PIN)
    assert {each.pem for each in client.certificates(label)} == {second, ca.pem}
    assert client.certificate(label, renewed.sha256) == renewed
    client.delete_certificate(label, renewed.sha256, pin=PIN)

    client.set_pin(label, "another-pin-42", pin=PIN)
    with pytest.raises(ClientError) as caught:
        client.delete_key(label, "a/b", pin=PIN)
    assert (caught.value.code, caught.value.rv, caught.value.status) == ("pin-wrong", "CKR_PIN_INCORRECT", 403)
    client.set_pin(label, PIN, so_pin=SO_PIN)
    client.delete_key(label, "a/b", pin=PIN)
    assert client.keys(label, pin=PIN) == ()


def test_problems(client):
    with pytest.raises(ClientError, match="There is no such token: no token matches nobody") as caught:
        client.keys("nobody")
    assert (caught.value.code, caught.value.status, caught.value.rv) == ("token-missing", 404, "")
    for pin in ("ü" * 200, "\0"):
        with pytest.raises(ClientError) as caught:
            client.keys("nobody", pin=pin)
        assert caught.value.code == "pin-invalid"


@pytest.mark.parametrize("address", ["", "keyway.sock", "ftp://x", "http://", "http://x/y", "tcp://x:1"])
def test_what_is_no_address(address):
    with pytest.raises(ValueError, match="must be"):
        Client(address)


def test_nobody_there(home):
    with Client(str(home / "none.sock")) as client, pytest.raises(ClientError) as caught:
        client.tokens()
    assert caught.value.code == "backend-down"
    with Client("http://127.0.0.1:1") as client, pytest.raises(OSError, match="refused"):
        client.tokens()


def test_commands(command, ca, home):
    token = f"cmd {command.way}"
    pem, other = home / "cert.pem", home / "other.pem"
    assert command("token", "init", token).startswith(f"{token}: slot ")
    command("token", "init", token)
    assert [line.partition(":")[0] for line in command("token", "list").splitlines()].count(token) == 1
    assert f'"label": "{token}"' in command("token", "show", token, "--json")

    assert command("key", "create", token, "k", "--type", "EC:prime256v1", "--id", "ab") == "k: EC:prime256v1, id ab\n"
    assert command("key", "list", token) == "k: EC:prime256v1, id ab\n"
    assert command("key", "list", token, pins=False) == "k: EC:prime256v1, id ab, public key only\n"
    assert '"crv": "P-256"' in command("key", "public", token, "k", "--jwk")

    csr = command("csr", token, "k", "--subject", "CN=k", "--name", "dns:k.example", "--hash", "sha384")
    assert "DNS:k.example" in verified(csr)
    assert "ecdsa-with-SHA384" in verified(csr)
    assert public_key(csr) == command("key", "public", token, "k")

    pem.write_text(ca.sign(csr) + ca.pem)
    assert command("cert", "import", token, "k", pem).startswith("k: CN=k, until ")
    renewed = ca.sign(csr)
    run("x509", "-outform", "der", "-out", other, text=renewed)
    assert "There is" not in command("cert", "replace", token, "k", other)
    listed = command("cert", "list", token).splitlines()
    assert sorted(line.partition(":")[0] for line in listed) == ["Test CA", "k"]
    fingerprint = next(line for line in listed if line.startswith("k:")).split()[-1]
    assert command("cert", "show", token, fingerprint) == renewed
    command("cert", "delete", token, fingerprint)
    assert "[certificate-missing]" in command("cert", "show", token, fingerprint, status=1)

    # The PIN from a file, and from standard input.
    file = home / "pin"
    file.write_text(PIN + "\n")
    assert "k:" in command("key", "list", token, "--pin-file", file, pins=False)
    assert "key only" not in command("key", "list", token, "--pin-file", "-", text=PIN, pins=False)

    assert "Aborted" in command("key", "delete", token, "k", text="n\n", status=1)
    command("key", "delete", token, "k", "--yes")
    assert command("key", "list", token) == ""


def test_commands_that_fail(command, home):
    wrong = home / "pin"
    wrong.write_text("wrong-pin-0815")
    token = f"cmd2 {command.way}"
    command("token", "init", token)
    told = command("key", "create", token, "k", "--pin-file", wrong, status=1)
    assert told == "Error: The PIN is wrong: C_Login: CKR_PIN_INCORRECT [pin-wrong]\n"
    assert "[token-missing]" in command("key", "list", "nobody", status=1)
    assert "[bad-key-type]" in command("key", "create", token, "k", "--type", "x", status=1)
    assert "No such file" in command("cert", "import", token, "k", home / "none", status=1)
    assert "do not go together" in command("key", "list", token, "--pin-file", wrong, "--pin-ref", "x", status=2)
    new = home / "new"
    new.write_text("another-pin-42")
    command("token", "set-pin", token, "--new-pin-file", new, "--so-pin-ref", "x", status=1)


def test_set_pin_by_command(command, home):
    token = f"cmd3 {command.way}"
    command("token", "init", token)
    new = home / "new"
    new.write_text("another-pin-42")
    old = home / "old"
    old.write_text(PIN)
    quiet = {"pins": False}
    command("token", "set-pin", token, "--new-pin-file", new, "--pin-file", old, **quiet)
    assert "[pin-wrong]" in command("key", "list", token, "--pin-file", old, status=1, **quiet)
    command("key", "list", token, "--pin-file", new, **quiet)
    so = home / "so"
    so.write_text(SO_PIN)
    command("token", "set-pin", token, "--new-pin-file", old, "--so-pin-file", so, **quiet)
    command("key", "list", token, "--pin-file", old, **quiet)
