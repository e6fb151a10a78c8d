"""Traces of a running gateway: what a receiver of OTLP gets, and what one that does not take them costs nobody."""

import os
import subprocess
import sys

import pytest
from tests.daemon.harness import KEYWAY, softhsm, until
from tests.daemon.pool import tokens
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, login, make, open_session, slot_of
from tests.observe.receiver import receiving

from keyway.config.locate import module_library
from keyway.cryptoki import RV, Fill, Null

KEY = b"Kx7#qZ9!vW4@jY2%Kx7#qZ9!vW4@jY2%"
DATA = b"the message that is nobody's business"


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


def section(receiver, *lines):
    return "\n".join(["[traces]", f'endpoint = "{receiver.url}"', *lines, ""])


def pkcs11_tool(daemon, label, *arguments):
    command = ["pkcs11-tool", "--module", str(module_library()), "--token-label", label, "--login", "--pin", PIN]
    environment = {**os.environ, "KEYWAY_ADDRESS": f"unix:{daemon.socket}"}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def contexts(receiver):
    """The spans of contexts that have ended, each with those of its calls in the order of their starts."""
    spans = receiver.spans()
    return [
        (each, sorted((other for other in spans if other["parent"] == each["id"]), key=lambda other: other["start"]))
        for each in spans
        if each["name"] == "context"
    ]


def test_an_application_is_a_trace(start, home, receiver):
    """With an identity and a pool, since these say most."""
    tokens.original(home)
    pool = tokens.pool("pkcs11:token=vault?name=left", writes='"first"', deadline=60)
    roles = '[role.all]\ntokens = ["pkcs11:"]\nexport = true\n[identity.tester]\nanyone = true\nroles = ["all"]\n'
    daemon = start(tokens.member(home, home, "hsm") + pool + roles + section(receiver, 'service = "gateway"'))
    (home / "key").write_bytes(KEY)
    (home / "data").write_bytes(DATA)
    pkcs11_tool(daemon, "vault", "--write-object", str(home / "key"), "--type", "secrkey")
    pkcs11_tool(
        daemon, "vault", "--sign", "-m", "RSA-PKCS", "--id", "01",
        "--input-file", str(home / "data"), "--output-file", str(home / "signature"),
    )  # fmt: skip
    assert daemon.stop() == 0
    (_, writing), (context, calls) = sorted(contexts(receiver), key=lambda each: each[0]["start"])
    assert "C_CreateObject" in [each["name"] for each in writing]
    assert (context["parent"], context["error"], context["keyway.identity"]) == (b"", "", "tester")
    assert context["keyway.application"].startswith("pkcs11-tool")
    assert context["keyway.transport"] == "unix"
    names = [each["name"] for each in calls]
    assert (names[0], names[-1]) == ("C_Initialize", "C_Finalize")
    assert {each["trace"] for each in calls} == {context["trace"]}
    assert {each["keyway.context"] for each in calls if "keyway.context" in each} == {context["keyway.context"]}
    assert all(context["start"] <= each["start"] <= each["end"] <= context["end"] for each in calls)
    assert len({each["id"] for each in receiver.spans()}) == len(receiver.spans())
    sign = next(each for each in calls if each["name"] == "C_Sign" and each["pkcs11.rv"] == "CKR_OK")
    assert sign["pkcs11.mechanism"] == "CKM_RSA_PKCS"
    assert sign["pkcs11.bytes_in"] == len(DATA)
    assert (sign["pkcs11.token"], sign["pkcs11.slot"], sign["pkcs11.session"]) == ("vault", 0, 1)
    assert (sign["keyway.pool"], sign["keyway.member"], sign["keyway.identity"]) == ("vault", "left", "tester")
    login = next(each for each in calls if each["name"] == "C_Login")
    assert not {"pkcs11.bytes_in", "pkcs11.bytes_out"} & set(login)
    assert all(bool(each["error"]) == (each.get("pkcs11.rv", "CKR_OK") != "CKR_OK") for each in calls)
    for body in receiver.bodies:
        for secret in (PIN.encode(), KEY, DATA, (home / "signature").read_bytes()):
            assert secret not in body
            assert secret[:8] not in body
            assert secret.hex().encode() not in body


def test_contexts_one_after_the_other_and_calls_that_fail(start, home, receiver):
    daemon = start(softhsm(home) + section(receiver))
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        assert client.call("C_GetInfo", True)[0] == RV.CKR_CRYPTOKI_NOT_INITIALIZED
        for _ in range(2):
            client.initialize()
            assert client.call("C_Initialize", 0, Null(), b"again")[0] == RV.CKR_CRYPTOKI_ALREADY_INITIALIZED
            session = open_session(client, slot_of(client, "demo"))
            login(client, session)
            assert client.call("C_GenerateRandom", Fill(True, 4), target=99)[0] == RV.CKR_SESSION_HANDLE_INVALID
            client.good("C_GenerateRandom", Fill(True, 4), target=session)
            client.good("C_Finalize")
        client.initialize()
    until(lambda: not daemon.contexts(), "the client has gone")
    status = daemon.status()["traces"]
    assert status["lost"] == 0
    assert status["sent"] + status["waiting"] > 0
    assert daemon.stop() == 0
    found = [each for each in contexts(receiver) if each[0]["keyway.application"] == "test"]
    first, second, last = found
    assert first[0]["trace"] != second[0]["trace"]
    assert first[0]["keyway.context"] != second[0]["keyway.context"]
    for _, calls in (first, second):
        random = [each for each in calls if each["name"] == "C_GenerateRandom"]
        assert [each["error"] for each in random] == ["CKR_SESSION_HANDLE_INVALID", ""]
        assert random[1]["pkcs11.bytes_out"] == 4
        assert random[1]["keyway.backend"] == "softhsm"
        assert "keyway.member" not in random[1]
    assert [each["name"] for each in last[1]] == ["C_Initialize"]


@pytest.mark.parametrize("misbehaves", ["hangs", "refuses", "is not there"])
def test_a_receiver_that_takes_nothing_holds_up_nobody(start, home, receiver, misbehaves):
    if misbehaves == "hangs":
        receiver.silence.clear()
    elif misbehaves == "refuses":
        receiver.status = 403
    else:
        receiver.shutdown()
        receiver.server_close()
    daemon = start(softhsm(home) + section(receiver))
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slot_of(client, "demo"))
        client.good("C_GenerateRandom", Fill(True, 4), target=session)
        if misbehaves == "hangs":
            until(lambda: receiver.bodies, "something is sent")
        client.good("C_GenerateRandom", Fill(True, 4), target=session)
        client.good("C_Finalize")
    # The end is not held up either: the receiver still takes nothing.
    assert daemon.stop() == 0
    assert sum(each["spans"] for each in daemon.events("spans lost")) > 0
    assert daemon.log().count("opentelemetry") == 0


def test_contexts_that_are_not_chosen_go_the_short_way(start, home, receiver):
    daemon = start(softhsm(home) + section(receiver, "share = 0"))
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        client.initialize()
    assert daemon.status()["traces"] == {"sent": 0, "lost": 0, "waiting": 0}
    assert daemon.stop() == 0
    assert receiver.bodies == []


def test_without_the_packages_the_daemon_says_what_to_install(home):
    config = home / "keyway.toml"
    config.write_text(
        f'[listen]\nsocket = "{home}/k.sock"\n{softhsm(home)}[traces]\nendpoint = "http://127.0.0.1:1/v1/traces"\n'
    )
    hidden = "import sys; sys.modules['opentelemetry'] = None; from keyway.cli import main; main()"
    for command in (["check", str(config)], ["serve", "-c", str(config)]):
        done = subprocess.run([sys.executable, "-c", hidden, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "pip install 'keyway[traces]'" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (home / "k.sock").exists()
    assert subprocess.run([*KEYWAY, "check", str(config)], capture_output=True, check=False).returncode == 0


def test_a_reload_says_that_traces_need_a_restart(start, home, receiver):
    daemon = start(softhsm(home) + section(receiver))
    config = home / "keyway.toml"
    config.write_text(config.read_text() + "share = 0.5\n")
    done = subprocess.run(
        [*KEYWAY, "reload", "--socket", str(daemon.socket)], capture_output=True, text=True, check=True
    )
    assert "traces: needs a restart" in done.stderr
