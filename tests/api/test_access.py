"""Who is let in: bearer tokens, client certificates, nobody, everybody; and PINs that stay in the gateway."""

import hashlib
import socket
import ssl
import subprocess

import pytest
from tests.api.running import PIN, SO_PIN, Caller, RunningApi, compatible
from tests.authority import Authority
from tests.daemon.harness import KEYWAY, RunningDaemon, softhsm, until

TOKEN = "4c2bf1f0e2d94b7c8a51"
OTHER = "another-token-0123456789"
LOG = '[log]\nformat = "json"\n'


def line(name, token):
    return f"{name}:{hashlib.sha256(token.encode()).hexdigest()}\n"


def private(path, text, mode=0o600):
    path.touch()
    path.chmod(mode)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def plain(shared):
    """A daemon with a token, for APIs of several configurations."""
    daemon = RunningDaemon(shared, LOG + softhsm(shared))
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def start(home, plain):
    """Starts APIs; each must end well."""
    running: list[RunningApi] = []

    def start(section, *, secure=None, more=""):
        config = home / f"api{len(running)}.toml"
        config.write_text(f'{LOG}[api]\nsocket = "{plain.socket}"\n{section}\n{more}')
        running.append(RunningApi(home, config, secure=secure))
        return running[-1]

    yield start
    for api in running:
        api.stop()
        for secret in (TOKEN, OTHER):
            assert secret not in api.log()


LOOPBACK = 'address = "tcp://127.0.0.1:0"\n'


class TestBearerTokens:
    def test_known_and_unknown(self, start, home):
        file = private(home / "tokens", f"# who\n{line('alice', TOKEN)}")
        api = start(f'{LOOPBACK}tokens_file = "{file}"')
        assert api.ask("GET", "/v1/tokens", Authorization=f"Bearer {TOKEN}").status == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            refused = api.ask("GET", "/v1/tokens", **headers)
            assert (refused.status, refused.code) == (401, "unauthenticated")
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert api.ask("POST", "/pkcs11/csr", compatible("a"), **headers).status == 401
            # Who is not let in does not even learn what there is.
            for path in ("/v1/openapi.json", "/v1/nothing", "/"):
                assert api.ask("GET", path, **headers).code == "unauthenticated"
        assert {each["caller"] for each in api.events("request") if each["status"] == 200} == {"alice"}

    def test_changes_of_the_file(self, start, home):
        file = private(home / "tokens", line("alice", TOKEN))
        api = start(f'{LOOPBACK}tokens_file = "{file}"')

        def status(token):
            return api.ask("GET", "/v1/tokens", Authorization=f"Bearer {token}").status

        assert (status(TOKEN), status(OTHER)) == (200, 401)
        file.write_text("# changed\n" + line("bob", OTHER))
        assert (status(TOKEN), status(OTHER)) == (401, 200)
        file.write_text("nonsense that is no line")
        assert status(OTHER) == 401
        file.write_text("# again\n\n" + line("bob", OTHER))
        assert status(OTHER) == 200
        file.chmod(0o644)
        assert status(OTHER) == 401
        file.unlink()
        assert status(OTHER) == 401

    def test_a_file_that_is_not_there(self, home, plain):
        assert f"{home}/none: No such file" in fails(home, plain, f'{LOOPBACK}tokens_file = "{home}/none"')


def fails(home, daemon, section):
    """Return what `keyway api` says when it does not start."""
    config = home / "api.toml"
    config.write_text(f'[api]\nsocket = "{daemon.socket}"\n{section}\n')
    done = subprocess.run([*KEYWAY, "api", "-c", str(config)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


class TestCertificates:
    def test_mutual_tls(self, start, home):
        authority, strange = Authority(home), Authority(home, "strange")
        server, moon, sun = authority.issue("127.0.0.1"), authority.issue("moon"), authority.issue("sun")
        section = (
            f'address = "tls://127.0.0.1:0"\nca = "{authority.file}"\n{server.options}certificate_names = ["moon"]\n'
            'client_certificates = "optional"'
        )
        api = start(section, secure=context(authority, moon))
        assert api.ask("GET", "/v1/tokens").status == 200
        assert api.events("request")[-1]["caller"] == "certificate:moon"
        api._secure = context(authority, sun)
        assert api.ask("GET", "/v1/tokens").code == "forbidden"
        api._secure = context(authority)
        assert api.ask("GET", "/v1/tokens").code == "unauthenticated"
        api._secure = context(authority, strange.issue("moon"))
        with pytest.raises(OSError, match=r"(?i)alert|reset|closed|without response|broken"):
            api.ask("GET", "/v1/tokens")
        api._secure = context(authority, moon)
        assert api.ask("GET", "/v1/tokens").status == 200

    def test_a_renewed_server_certificate(self, start, home):
        authority = Authority(home)
        server, moon = authority.issue("127.0.0.1"), authority.issue("moon")
        api = start(
            f'address = "tls://127.0.0.1:0"\nca = "{authority.file}"\n{server.options}', secure=context(authority, moon)
        )
        first = serial(api, context(authority, moon))
        authority.issue("127.0.0.1")
        assert serial(api, context(authority, moon)) != first


def context(authority, pair=None):
    made = ssl.create_default_context(cafile=str(authority.file))
    if pair is not None:
        made.load_cert_chain(pair.certificate, pair.key)
    return made


def serial(api, secure):
    connection = secure.wrap_socket(socket.create_connection(("127.0.0.1", api.port), 60), server_hostname="127.0.0.1")
    with connection:
        return connection.getpeercert()["serialNumber"]


class TestAnonymous:
    def test_existing_callers_only(self, start):
        api = start(f'{LOOPBACK}anonymous = "compatible"')
        assert api.ask("POST", "/pkcs11/csr", compatible("anon")).status == 200
        assert api.ask("GET", "/v1/tokens").code == "unauthenticated"
        assert api.ask("GET", "/v1/openapi.json").code == "unauthenticated"

    def test_pages_of_a_browser(self, start):
        api = start(f'{LOOPBACK}anonymous = "all"')
        assert api.ask("POST", "/pkcs11/csr", compatible("anon"), Origin="http://evil.example").code == "forbidden"
        assert api.ask("GET", "/v1/tokens", Host="evil.example").code == "forbidden"
        assert api.ask("GET", "/v1/tokens", Host=f"localhost:{api.port}").status == 200

    def test_no_section(self, home):
        config = home / "none.toml"
        config.write_text('[log]\nlevel = "info"\n')
        done = subprocess.run(
            [*KEYWAY, "api", "-c", str(config)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert "no section [api]" in done.stderr


class TestPinsByReference:
    def test_all_ways(self, start, home):
        user = private(home / "user.pin", PIN + "\n")
        so = private(home / "so.pin", SO_PIN)
        tokens = private(home / "tokens", line("alice", TOKEN) + line("bob", OTHER))
        more = (
            f'[api.pin.user]\nfile = "{user}"\ntoken = "refs"\n'
            f'[api.pin.officer]\nfile = "{so}"\ntoken = "refs"\nuser = "so"\ncallers = ["alice"]\n'
        )
        api = start(f'{LOOPBACK}tokens_file = "{tokens}"', more=more)
        alice, bob = ({"Authorization": f"Bearer {token}"} for token in (TOKEN, OTHER))

        # Nobody but alice may use the officer's PIN, and neither may be used for another token.
        assert api.ask("POST", "/v1/tokens", {"label": "refs"}, **bob).code == "pin-missing"
        asked = {"label": "refs", "so_pin_ref": "officer"}
        assert api.ask("POST", "/v1/tokens", asked, **bob).code == "pin-reference-missing"
        assert api.ask("POST", "/v1/tokens", asked | {"label": "other"}, **alice).code == "pin-reference-missing"
        assert api.ask("POST", "/v1/tokens", asked, **alice).status in (200, 201)

        key = {"label": "a", "type": "EC:prime256v1"}
        assert api.ask("POST", "/v1/tokens/refs/keys", key, **bob).status == 201
        assert api.ask("POST", "/v1/tokens/refs/keys", key | {"pin_ref": "user"}, **bob).status == 200
        assert (
            api.ask("POST", "/v1/tokens/refs/keys", key | {"pin_ref": "officer"}, **bob).code == "pin-reference-missing"
        )
        assert (
            api.ask("POST", "/v1/tokens/refs/keys", key | {"pin_ref": "nobody"}, **bob).code == "pin-reference-missing"
        )
        listed = api.ask("GET", "/v1/tokens/refs/keys", Keyway_Pin_Ref="user", **bob).json["keys"]
        assert [each["has_private_key"] for each in listed] == [True]

        user.chmod(0o644)
        assert api.ask("POST", "/v1/tokens/refs/keys", key, **bob).code == "pin-reference-missing"
        assert "others can read" in api.log()

    def test_of_the_compatible_api(self, start, home):
        user, so = private(home / "user.pin", PIN), private(home / "so.pin", SO_PIN)
        more = f'[api.pin.user]\nfile = "{user}"\ntoken = "edge"\n[api.pin.so]\nfile = "{so}"\ntoken = "edge"\nuser = "so"\n'
        section = f'{LOOPBACK}anonymous = "compatible"\ncompatible_token = "edge"\ncompatible_pin = "user"\ncompatible_so_pin = "so"'
        api = start(section, more=more)
        assert api.ask("POST", "/pkcs11/csr", compatible("a")).status == 200
        wrong = compatible("a") | {"token": {"pin": "12345678"}}
        assert api.ask("POST", "/pkcs11/csr", wrong).code == "pin-wrong"


class TestLimits:
    def test_body(self, start):
        api = start(f'{LOOPBACK}anonymous = "all"\nbody = 1024')
        assert api.ask("POST", "/pkcs11/csr", b" " * 1025).code == "body-too-large"
        assert api.ask("POST", "/pkcs11/csr", b" " * 1024).code == "malformed-json"

    def test_chunked_body(self, start):
        api = start(f'{LOOPBACK}anonymous = "all"\nbody = 1024')
        connection = api.connect()
        connection.request("POST", "/pkcs11/csr", iter([b" " * 700, b" " * 700]), encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()

    def test_requests_at_a_time(self, start):
        api = start(f'{LOOPBACK}anonymous = "all"\nrequests = 1')
        slow = api.connect()
        # Its body has not arrived, so it is being served.
        slow.putrequest("POST", "/pkcs11/csr")
        slow.putheader("Content-Length", "10")
        slow.endheaders()
        until(lambda: api.ask("GET", "/v1/tokens").status == 503, "there is room for one")
        refused = api.ask("GET", "/v1/tokens")
        assert (refused.code, refused.headers["retry-after"]) == ("overloaded", "1")
        slow.close()
        until(lambda: api.ask("GET", "/v1/tokens").status == 200, "there is room again")

    def test_two_apis_at_one_daemon(self, start):
        one, two = (start(f'{LOOPBACK}anonymous = "all"') for _ in range(2))
        path = Caller(one).token("both")
        Caller(one).key(path, "k")
        assert [each["label"] for each in Caller(two).keys(path)] == ["k"]
