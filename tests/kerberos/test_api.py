"""Provisioning over HTTP with Kerberos tickets: curl, the client and the commands, and what strangers send."""

import http.client
import json
import ssl
import subprocess
import sys
import threading
from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner
from tests.api.running import RunningApi
from tests.authority import Authority
from tests.daemon.harness import KEYWAY, softhsm
from tests.daemon.tokens import PIN, make
from tests.kerberos.client import HOST
from tests.kerberos.realm import REALM

from keyway import Client, ClientError
from keyway.cli import main
from keyway.transport.binding import end_point
from keyway.transport.kerberos import Initiator

ALICE = f"alice@{REALM}"
SPNEGO_WITHOUT_TICKET = bytes.fromhex(
    "601b" "06062b0601050502" "a011" "300f" "a00d" "300b" "06092a864886f712010202"
)  # fmt: skip
"""A client that first wants to know whether it should use Kerberos (RFC 4178, section 4.2.1)."""
NTLM = b"NTLMSSP\0\1\0\0\0\x07\x82\x08\xa2" + bytes(16)


@pytest.fixture(scope="module")
def keytab(shared_realm):
    shared_realm.service(f"HTTP/{HOST}", keytab="http.keytab")
    return shared_realm.home / "http.keytab"


@pytest.fixture
def authority(home):
    return Authority(home)


@pytest.fixture
def begin(start, home, realm, keytab):
    """Starts a daemon with a token called demo, and an API before it that takes tickets."""
    apis = []

    def begin(more="", address='address = "tcp://127.0.0.1:0"\n', pins="", takes_tickets=True):
        daemon = start(softhsm(home))
        make(daemon, "demo")
        config = home / "api.toml"
        kerberos = f'kerberos = true\nkeytab = "{keytab}"\n' if takes_tickets else ""
        section = f'[api]\nsocket = "{daemon.socket}"\n{address}{kerberos}{more}'
        config.write_text(f'[log]\nformat = "json"\nlevel = "debug"\n{section}{pins}')
        api = RunningApi(home, config)
        apis.append(api)
        return api

    yield begin
    for api in apis:
        api.stop()


@pytest.fixture
def begin_tls(begin, authority):
    def begin_tls(more=""):
        own = authority.issue(HOST, stem="server").options
        api = begin(f'client_certificates = "none"\n{own}{more}', 'address = "tls://127.0.0.1:0"\n')
        api._secure = trusting(authority)
        return api

    return begin_tls


def trusting(authority):
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    return context


def url(api):
    return f"{api.url.partition(':')[0]}://{HOST}:{api.port}"


def ticket(binding=b"", service=f"HTTP@{HOST}"):
    """What a caller sends first."""
    return Initiator(service, HOST, None).begin(binding).step(b"")


def binding(api):
    """What a caller knows of the TLS connection."""
    certificate = ssl.get_server_certificate(("127.0.0.1", api.port))
    return end_point(ssl.PEM_cert_to_DER_cert(certificate))


def show(api, token, scheme="Negotiate"):
    return api.ask("GET", "/v1/tokens", Authorization=f"{scheme} {b64encode(token).decode()}")


def refused(api, token):
    """Send a token that is refused, and return the reason that the log tells; the caller is told none."""
    answer = show(api, token)
    assert answer.code == "unauthenticated"
    assert answer.headers["www-authenticate"] == 'Negotiate, Bearer realm="keyway"'
    assert answer.json["detail"] == "the ticket is refused; the log of keyway api says why"
    return api.events("ticket refused")[-1]["reason"]


def labels(answer):
    return [each["label"] for each in answer["tokens"] if each["label"]]


def curl(*arguments):
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "90", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestCurl:
    def test_several_requests(self, begin, alice):
        api = begin()
        tokens = f"{url(api)}/v1/tokens"
        told = curl("--negotiate", "-u", ":", "-w", "\n%{http_code}\n", tokens, tokens)
        first, status, *others = told.splitlines()
        assert (labels(json.loads(first)), status) == (["demo"], "200")
        assert others == [first, "200"]
        callers = [entry["caller"] for entry in api.events("request") if entry["status"] == 200]
        assert callers == [f"kerberos:{ALICE}"] * 2

    def test_over_tls(self, begin_tls, authority, alice):
        api = begin_tls('channel_binding = "optional"\n')
        told = curl("--negotiate", "-u", ":", "--cacert", authority.file, f"{url(api)}/v1/tokens")
        assert labels(json.loads(told)) == ["demo"]

    def test_without_a_ticket(self, begin):
        api = begin()
        told = curl("--negotiate", "-u", ":", "-o", "/dev/null", "-w", "%{http_code}", f"{url(api)}/v1/tokens")
        assert told == "401"


class TestClient:
    def test_over_http(self, begin, alice):
        api = begin()
        with Client(url(api), kerberos=True, timeout=90) as client:
            for _ in range(2):
                assert client.token("demo").label == "demo"
        assert {entry["caller"] for entry in api.events("request")} == {f"kerberos:{ALICE}"}

    def test_over_tls_bound_to_the_certificate(self, begin_tls, authority, alice):
        api = begin_tls()
        with Client(url(api), kerberos=True, ca=authority.file, timeout=90) as client:
            assert client.token("demo").label == "demo"

    def test_by_command(self, begin, alice):
        api = begin()
        done = CliRunner().invoke(main, ["token", "list", "--api", url(api), "--kerberos"])
        assert done.exit_code == 0, done.output
        assert "demo" in done.output

    def test_by_command_without_a_ticket(self, begin):
        api = begin()
        done = CliRunner().invoke(main, ["token", "list", "--api", url(api), "--kerberos"])
        assert done.exit_code == 1
        assert "there is no ticket: get one with kinit" in done.output

    def test_by_command_at_the_socket(self, home):
        done = CliRunner().invoke(main, ["token", "list", "--socket", str(home / "s"), "--kerberos"])
        assert done.exit_code == 2
        assert "--kerberos needs --api" in done.output

    @pytest.mark.parametrize("header", [None, "Negotiate", "Negotiate !", "Negotiate YWJj", "Bearer x"])
    def test_a_server_that_proves_nothing(self, realm, keytab, alice, header):
        class Impostor(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                if header is not None:
                    self.send_header("WWW-Authenticate", header)
                body = b'{"tokens": []}'
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        with HTTPServer(("127.0.0.1", 0), Impostor) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            with (
                Client(f"http://{HOST}:{server.server_port}", kerberos=True, timeout=90) as client,
                pytest.raises(ClientError, match="does not prove who it is"),
            ):
                client.tokens()
            thread.join()

    def test_what_does_not_go_together(self):
        with pytest.raises(ValueError, match="do not go together"):
            Client("http://localhost:1", kerberos=True, bearer="x")

    def test_without_the_library(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gssapi", None)
        with pytest.raises(ValueError, match=r"pip install 'keyway\[kerberos\]'"):
            Client("http://localhost:1", kerberos=True)


class TestCallers:
    def test_those_who_may(self, begin, realm, monkeypatch):
        api = begin(f'principals = ["{ALICE}"]\n')
        told = {}
        for user in ("alice", "bob"):
            monkeypatch.setenv("KRB5CCNAME", realm.ticket(user)["KRB5CCNAME"])
            told[user] = show(api, ticket())
        assert told["alice"].status == 200
        assert told["bob"].code == "forbidden"
        # Both see that the server is the right one.
        assert all(each.headers["www-authenticate"].startswith("Negotiate ") for each in told.values())

    def test_a_pin_for_one_of_them(self, begin, home, realm, monkeypatch):
        pin_file = home / "pin"
        pin_file.write_text(PIN)
        pin_file.chmod(0o600)
        pins = f'[api.pin.demo]\nfile = "{pin_file}"\ntoken = "demo"\ncallers = ["kerberos:{ALICE}"]\n'
        api = begin(pins=pins)
        told = {}
        for user in ("alice", "bob"):
            monkeypatch.setenv("KRB5CCNAME", realm.ticket(user)["KRB5CCNAME"])
            headers = {"Authorization": f"Negotiate {b64encode(ticket()).decode()}"}
            body = {"label": "k", "type": "EC:prime256v1", "pin_ref": "demo"}
            told[user] = api.ask("POST", "/v1/tokens/demo/keys", body, **headers)
        assert told["alice"].status == 201
        assert told["bob"].code == "pin-reference-missing"

    def test_beside_bearers_and_nobody(self, begin, home, alice):
        api = begin('anonymous = "all"\n')
        assert api.ask("GET", "/v1/tokens").status == 200
        assert show(api, ticket()).status == 200
        assert [entry["caller"] for entry in api.events("request")] == ["anonymous", f"kerberos:{ALICE}"]
        # Who shows something is not let in as nobody when it is wrong.
        assert show(api, b"x").code == "unauthenticated"

    def test_the_proof_is_the_servers(self, begin, alice):
        mechanism = Initiator(f"HTTP@{HOST}", HOST, None).begin()
        answer = show(begin(), mechanism.step(b""), "nEgOtIaTe")
        mechanism.step(b64decode(answer.headers["www-authenticate"].removeprefix("Negotiate ")))
        assert mechanism.is_complete


class TestAttacks:
    def test_a_ticket_is_sent_again(self, begin, alice):
        api = begin()
        token = ticket()
        assert show(api, token).status == 200
        assert "the same ticket was shown before" in refused(api, token)

    def test_a_ticket_for_another_service(self, begin, alice):
        assert "the ticket is for another service" in refused(begin(), ticket(service=f"pkcs11@{HOST}"))

    @pytest.mark.parametrize("policy", ["required", "optional"])
    def test_a_ticket_that_is_bound_elsewhere(self, begin_tls, alice, policy):
        api = begin_tls(f'channel_binding = "{policy}"\n')
        assert "bind" in refused(api, ticket(b"tls-server-end-point:of another server"))

    def test_a_ticket_that_is_not_bound(self, begin_tls, alice):
        api = begin_tls()
        assert "does not bind its ticket" in refused(api, ticket())
        assert show(api, ticket(binding(api))).status == 200

    def test_a_ticket_that_need_not_be_bound(self, begin_tls, alice):
        api = begin_tls('channel_binding = "optional"\n')
        assert show(api, ticket()).status == 200
        assert show(api, ticket(binding(api))).status == 200

    def test_a_caller_that_wants_to_negotiate_first(self, begin):
        answer = show(begin(), SPNEGO_WITHOUT_TICKET)
        assert answer.code == "unauthenticated"
        assert "more than one round trip" in answer.json["detail"]

    def test_what_is_none(self, begin, alice):
        api = begin()
        good = ticket()
        for token in (b"\0", b"\x60", b"\x60\x84\xff\xff\xff\xff", NTLM, good[:-1], good[:50], bytes(60_000)):
            assert refused(api, token)
        changed = bytearray(good)
        changed[-1] ^= 1
        assert refused(api, bytes(changed))
        for text in ("", "!", "YQ", "Y Q==", "\u00e4"):
            answer = api.ask("GET", "/v1/tokens", Authorization=f"Negotiate {text}")
            assert answer.code == "unauthenticated"
            assert "base64" in answer.json["detail"]
        assert show(api, ticket()).status == 200

    def test_a_header_that_is_too_long(self, begin, alice):
        api = begin()
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=90)
        connection.request("GET", "/v1/tokens", headers={"Authorization": "Negotiate " + "A" * 100_000})
        assert connection.getresponse().status == 400
        connection.close()
        assert show(api, ticket()).status == 200


class TestSetUp:
    def fails(self, home, section):
        config = home / "api.toml"
        config.write_text(f'[api]\naddress = "tcp://127.0.0.1:0"\n{section}\n')
        done = subprocess.run([*KEYWAY, "api", "-c", config], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    def test_a_keytab_that_is_not_there(self, home, realm):
        told = self.fails(home, f'kerberos = true\nkeytab = "{home}/none"')
        assert "no key for the Kerberos service HTTP: " in told

    def test_a_keytab_without_the_key(self, home, realm):
        told = self.fails(home, f'kerberos = true\nkeytab = "{realm.keytab}"')
        assert "no key for the Kerberos service HTTP: " in told

    def test_it_is_not_taken_unless_the_configuration_says_so(self, begin, alice):
        answer = show(begin('anonymous = "all"\n', takes_tickets=False), ticket())
        assert answer.code == "unauthenticated"
        assert answer.headers["www-authenticate"] == 'Bearer realm="keyway"'

    def test_nothing_is_loaded_that_is_not_needed(self):
        script = (
            "import sys, asyncio, keyway\n"
            "from keyway.config import parse\n"
            "from keyway.address import Unix\n"
            "from keyway.provision.start import api_server\n"
            "config = parse('[api]\\nanonymous = \"all\"\\n', serves=False)\n"
            "async def main(): api_server(config, Unix('/none'), '0')\n"
            "asyncio.run(main())\n"
            "keyway.Client('http://localhost:1')\n"
            "print(sorted({'gssapi', 'keyway.provision.tickets', 'keyway.client.tickets'} & set(sys.modules)))\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "[]\n"
