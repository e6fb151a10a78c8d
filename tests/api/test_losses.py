"""Daemons that are not there, restart and lose hosts; what a crash leaves; pools."""

import contextlib
import http.client
import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from tests.api.conftest import API, LOG
from tests.api.openssl import Ca, public_key
from tests.api.running import PIN, SECONDS, SO_PIN, Caller, RunningApi, compatible
from tests.daemon.harness import RunningDaemon, softhsm, until
from tests.daemon.pool.tokens import member, pool
from tests.daemon.pool.writer import KEK, Alone, Writer
from tests.daemon.raw import RawClient
from tests.daemon.tokens import open_session, slot_of

from keyway.cryptoki import Attribute, Mechanism, ObjectsRoom
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_EC_PARAMS,
    CKA_ID,
    CKA_LABEL,
    CKA_PRIVATE,
    CKA_TOKEN,
    CKM_EC_KEY_PAIR_GEN,
    CKO_PRIVATE_KEY,
    CKU_USER,
)

P256 = bytes.fromhex("06082a8648ce3d030107")


@pytest.fixture
def run(home):
    """Starts a daemon and an API at it; both must end well."""
    running = []

    class Gateway:
        def __init__(self, config):
            self.config = LOG + config + API
            self.daemon = RunningDaemon(home, self.config)
            self.api = RunningApi(home, home / "keyway.toml")
            running.append(self)

        def restart(self):
            assert self.daemon.stop() == 0
            self.daemon = RunningDaemon(home, self.config)

        def client(self, token):
            client = RawClient(self.daemon.socket)
            client.initialize()
            open_session(client, slot_of(client, token))
            client.good("C_Login", CKU_USER, PIN.encode(), target=1)
            return client

    yield Gateway
    for each in running:
        each.api.stop()
        each.daemon.stop()


def find(client, *attributes):
    client.good("C_FindObjectsInit", attributes, target=1)
    (found,) = client.good("C_FindObjects", ObjectsRoom(64, True, True), target=1)
    client.good("C_FindObjectsFinal", target=1)
    return found.data


def csr(api, label="a", token="losses"):
    return api.ask("POST", "/pkcs11/csr", compatible(label, token=token))


def test_a_daemon_that_comes_later_and_restarts(run, home):
    gateway = run(softhsm(home))
    api = gateway.api
    first = csr(api)
    assert first.status == 200

    assert gateway.daemon.stop() == 0
    for _ in range(2):
        refused = csr(api)
        assert (refused.code, refused.status) == ("backend-down", 503)
    assert api.ask("GET", "/v1/tokens").code == "backend-down"

    gateway.daemon = RunningDaemon(home, gateway.config)
    assert public_key(csr(api).text) == public_key(first.text)
    gateway.restart()
    # What is kept is stale, and nobody notices.
    assert public_key(csr(api).text) == public_key(first.text)


def test_hosts_that_are_killed(run, home):
    gateway = run(softhsm(home, spares=0))
    api, caller = gateway.api, Caller(gateway.api)
    path = caller.token("losses")
    before = caller.key(path, "a")["public_key_pem"]
    for _ in range(3):
        caller.csr(path, "a")
        for host in gateway.daemon.hosts():
            with contextlib.suppress(ProcessLookupError):
                os.kill(host, signal.SIGKILL)
        assert public_key(caller.csr(path, "a")) == before
    assert api.ask("DELETE", f"{path}/keys/a", Keyway_Pin=PIN).status == 204


def test_an_api_that_is_killed_while_it_makes_keys(run, home):
    """Whatever was made is found by a retry, and there is one pair in the end."""
    gateway = run(softhsm(home))
    Caller(gateway.api).token("losses")
    asked = compatible("a", token="losses", pair={"key_type": "rsa:2048"})
    for _ in range(3):

        def ask(api):
            with contextlib.suppress(OSError, http.client.HTTPException):
                api.ask("POST", "/pkcs11/csr", asked)

        caller = threading.Thread(target=ask, args=(gateway.api,))
        caller.start()
        until(gateway.daemon.contexts, "it has begun", SECONDS)
        gateway.api.kill()
        caller.join()
        gateway.api = RunningApi(home, home / "keyway.toml")
    made = gateway.api.ask("POST", "/pkcs11/csr", asked)
    assert made.status == 200, made.text
    keys = Caller(gateway.api).keys("/v1/tokens/losses")
    assert [each["label"] for each in keys] == ["a"]
    assert keys[0]["public_key_pem"] == public_key(made.text)


def test_what_a_module_leaves_that_dies_between_the_two_halves(run, home):
    gateway = run(softhsm(home))
    caller = Caller(gateway.api)
    path = caller.token("losses")
    shared = (Attribute(CKA_TOKEN, b"\1"), Attribute(CKA_LABEL, b"half"), Attribute(CKA_ID, b"\0\1"))
    with gateway.client("losses") as client:
        client.good(
            "C_GenerateKeyPair",
            Mechanism(CKM_EC_KEY_PAIR_GEN),
            (*shared, Attribute(CKA_EC_PARAMS, P256), Attribute(CKA_PRIVATE, b"\0")),
            (*shared, Attribute(CKA_PRIVATE, b"\1")),
            0,
            0,
            target=1,
        )
        (private,) = find(client, Attribute(CKA_LABEL, b"half"), Attribute(CKA_CLASS, CKO_PRIVATE_KEY))
        client.good("C_DestroyObject", private, target=1)
    request = csr(gateway.api, "half")
    assert request.status == 200, request.text
    keys = caller.keys(path)
    assert [(each["label"], each["public_key_pem"]) for each in keys] == [("half", public_key(request.text))]


def test_key_pairs_that_nobody_can_tell_apart(run, home):
    gateway = run(softhsm(home))
    caller = Caller(gateway.api)
    path = caller.token("losses")
    shared = (Attribute(CKA_TOKEN, b"\1"), Attribute(CKA_LABEL, b"twin"), Attribute(CKA_ID, b"\1"))
    with gateway.client("losses") as client:
        for _ in range(2):
            client.good(
                "C_GenerateKeyPair",
                Mechanism(CKM_EC_KEY_PAIR_GEN),
                (*shared, Attribute(CKA_EC_PARAMS, P256)),
                shared,
                0,
                0,
                target=1,
            )
    assert csr(gateway.api, "twin").code == "key-ambiguous"
    assert gateway.api.ask("DELETE", f"{path}/keys/twin", Keyway_Pin=PIN).code == "key-ambiguous"
    assert len(caller.keys(path)) == 2


class TestPools:
    def test_that_deny_changes(self, run, home):
        gateway = run(member(home, home, "a") + member(home, home, "b") + pool("a", "b", deadline=60))
        caller = Caller(gateway.api)
        path = "/v1/tokens/vault"
        assert sorted(each["label"] for each in caller.keys(path)) == ["ec", "rsa"]
        before = public_key(caller.csr(path, "rsa"))
        assert public_key(caller.csr(path, "rsa", padding="pss")) == before
        assert public_key(csr(gateway.api, "ec", "vault").text) == public_key(caller.csr(path, "ec"))

        asked = {"label": "new", "type": "EC:prime256v1", "pin": PIN}
        refused = gateway.api.ask("POST", f"{path}/keys", asked)
        assert refused.code == "write-protected", refused.text
        assert refused.json["rv"] in ("CKR_TOKEN_WRITE_PROTECTED", "CKR_SESSION_READ_ONLY")
        assert csr(gateway.api, "new", "vault").code == "write-protected"
        assert gateway.api.ask("DELETE", f"{path}/keys/rsa", Keyway_Pin=PIN).code == "write-protected"
        assert sorted(each["label"] for each in caller.keys(path)) == ["ec", "rsa"]
        assert SO_PIN not in gateway.daemon.log()

    def test_that_write_at_all_members(self, run, home):
        """What is made through the API is at each member, and so is what is not any more."""
        plain = "".join(f'[token.{name}]\nbackend = "{name}"\nlabel = "vault"\n' for name in "ab")
        written = pool("a", "b", name="pair", writes='"all"', wrapping_key=f'"{KEK}"', deadline=60)
        gateway = run(member(home, home, "a") + member(home, home, "b") + written + plain)
        members: Any = SimpleNamespace(daemon=gateway.daemon, members="ab")
        with Writer(members, 0) as writer:
            writer.kek()

        def numbers():
            with Alone(members, 1) as each:
                return each.has("new")

        caller, path = Caller(gateway.api), "/v1/tokens/pair"
        key = caller.key(path, "new")["public_key_pem"]
        assert numbers() == [2, 2]
        requests = [caller.csr(path, "new"), csr(gateway.api, "new", "pair").text]
        assert [public_key(each) for each in requests] == [key] * 2
        certificate = {"key": "new", "pem": Ca(home).sign(requests[0]), "pin": PIN}
        assert gateway.api.ask("POST", f"{path}/certificates", certificate).status == 201
        assert numbers() == [3, 3]
        assert [each["label"] for each in caller.certificates(path)] == ["new"]
        assert gateway.api.ask("DELETE", f"{path}/keys/new", Keyway_Pin=PIN).status == 204
        assert numbers() == [1, 1]

    def test_of_configured_tokens_only(self, run, home):
        """Where tokens are configured, none is shown that is not initialised."""
        gateway = run(softhsm(home) + '[token.demo]\nlabel = "demo"\n')
        refused = csr(gateway.api, "a", "demo")
        assert refused.code in ("no-free-slot", "backend-down"), refused.text
