"""`keyway trace` of a running daemon: what it shows, what it never shows, and what it costs nobody."""

import asyncio
import json
import os
import re
import signal
import subprocess
from contextlib import contextmanager, suppress
from functools import partial

from tests.daemon.harness import KEYWAY, freeze, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.test_contexts import host_of
from tests.daemon.tokens import PIN, generate_rsa, login, make, open_session, slot_of
from tests.front.client import MessageClient
from tests.front.conftest import listener

from keyway.cli.daemon import make_daemon
from keyway.config import load
from keyway.config.locate import host_binary, module_library
from keyway.cryptoki import RV, Attribute, Fill, Mechanism, Room, call_named
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_KEY_TYPE,
    CKA_SIGN,
    CKA_VALUE,
    CKK_GENERIC_SECRET,
    CKM_SHA256_HMAC,
    CKO_SECRET_KEY,
)
from keyway.daemon.control import TRACE
from keyway.wire import encode_fused
from keyway.wire.header import Flags

KEY = b"Kx7#qZ9!vW4@jY2%Kx7#qZ9!vW4@jY2%"
DATA = b"the message that is nobody's business"


class Tracer(RawClient):
    """A connection that is shown calls."""

    def __init__(self, path, context=None):
        super().__init__(path)
        self.send(TRACE, json.dumps({"context": context}).encode() if context else b"")
        first = self.receive()
        self.rv = first.header.rv
        self.contexts = [] if self.rv else json.loads(first.body)["contexts"]
        self.seen = []

    def until(self, name):
        """Read until a call is shown, and return all that was shown since the last time."""
        since = len(self.seen)
        while not self.seen[since:] or self.seen[-1].get("call") != name:
            self.seen.append(json.loads(self.receive().body))
        return self.seen[since:]

    def rest(self):
        """Return all that is shown until the daemon closes the connection."""
        shown = []
        with suppress(EOFError):
            while True:
                shown.append(json.loads(self.receive().body))
        return shown


def hidden(text):
    """Whether nothing that is secret in these tests is in a text, in no form."""
    secrets = (PIN.encode(), KEY, DATA)
    return not any(form in text for secret in secrets for form in (secret.decode(), secret.hex(), secret[:8].hex()))


def create_key(client, session):
    template = (
        Attribute(CKA_CLASS, CKO_SECRET_KEY),
        Attribute(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
        Attribute(CKA_SIGN, b"\1"),
        Attribute(CKA_VALUE, KEY),
    )
    (key,) = client.good("C_CreateObject", template, 0, target=session)
    return key


@contextmanager
def command(daemon, *options):
    """`keyway trace`, told to stop at the end; what it has printed is in the list then."""
    arguments = [*KEYWAY, "trace", "--socket", str(daemon.socket), *options]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline().startswith("tracing ")
        shown: list[str] = []
        try:
            yield shown
        finally:
            process.send_signal(signal.SIGINT)
            shown.append(process.stdout.read())
        assert process.wait() == 0


def pkcs11_tool(daemon, *arguments):
    subprocess.run(
        ["pkcs11-tool", "--module", str(module_library()), "--token-label", "demo", *arguments],
        env={**os.environ, "KEYWAY_ADDRESS": f"unix:{daemon.socket}"},
        check=True,
        capture_output=True,
    )


def test_calls_of_an_application_are_shown(daemon, home):
    (home / "key").write_bytes(KEY)
    with command(daemon) as trace, command(daemon, "--json") as machine:
        pkcs11_tool(daemon, "--login", "--pin", PIN, "--write-object", str(home / "key"), "--type", "secrkey")
        status = f"trace {daemon.status()['tracers']}"
        until(lambda: not daemon.contexts(), "the application has gone")
    assert status == "trace 2"
    calls = [json.loads(line) for line in machine[0].splitlines()]
    names = [each["call"] for each in calls]
    landmarks = ["C_Initialize", "C_GetSlotList", "C_OpenSession", "C_Login", "C_CreateObject", "C_Finalize"]
    assert [name for name in dict.fromkeys(names) if name in landmarks] == landmarks
    assert len({each["context"] for each in calls}) == 1
    assert all(each["application"].startswith("pkcs11-tool") for each in calls)
    assert all(each["rv"] == "CKR_OK" for each in calls if each["call"] in landmarks)
    assert all(each["us"] > 0 for each in calls if each["rv"] and each["call"] != "C_SignInit")
    assert re.search(
        r"^C_Login\n\[in\]  hSession = 0x1\n\[in\]  userType = CKU_USER\n\[in\]  pPin\[ulPinLen\] = \*\*\*\n"
        r"Returned CKR_OK after \d+ us\n",
        trace[0],
        re.MULTILINE,
    )
    assert "CKA_CLASS = CKO_SECRET_KEY" in trace[0]
    assert f"CKA_VALUE = {len(KEY)} bytes" in trace[0]
    assert hidden(trace[0])
    assert hidden(machine[0])


def test_an_error_is_shown(daemon):
    with Tracer(daemon.socket) as tracer, RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        assert client.call("C_DestroyObject", 77, target=1)[0] == RV.CKR_OBJECT_HANDLE_INVALID
        assert tracer.until("C_DestroyObject")[-1]["rv"] == "CKR_OBJECT_HANDLE_INVALID"
        assert client.call("C_Logout", target=99)[0] == RV.CKR_SESSION_HANDLE_INVALID
        assert tracer.until("C_Logout")[-1]["rv"] == "CKR_SESSION_HANDLE_INVALID"


def test_a_fused_frame_is_shown_as_two_calls(daemon):
    with Tracer(daemon.socket) as tracer, RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slot_of(client, "demo"))
        login(client, session)
        key = create_key(client, session)
        tracer.until("C_CreateObject")
        sign = call_named("C_Sign")
        object_, body = encode_fused(sign, (Mechanism(CKM_SHA256_HMAC), key), (DATA, Room(32, True)))
        client.send(sign.number, body, target=session, object_=object_, flags=Flags.FUSED)
        assert client.receive().header.rv == 0
        client.send_call("C_Logout", target=session, flags=Flags.POSTED)
        init, sign, logout = tracer.until("C_Logout")
        assert (init["call"], init["rv"], init["us"]) == ("C_SignInit", "CKR_OK", None)
        assert (sign["call"], sign["rv"], sign["out"]) == (
            "C_Sign",
            "CKR_OK",
            [["pSignature[pulSignatureLen]", "32 bytes"]],
        )
        assert (logout["rv"], logout["us"]) == (None, None)
        assert hidden(json.dumps(tracer.seen))


def test_p11_kit_clients_are_shown_too(start, home):
    daemon = start(softhsm(home) + listener(home))
    make(daemon, "demo")
    with Tracer(daemon.socket) as tracer, MessageClient(home / "front") as client:
        session = client.start()
        client.login(session, PIN)
        client.good("C_GenerateRandom", Fill(True, 4), target=session)
        shown = tracer.until("C_GenerateRandom")
        names = [each["call"] for each in shown]
        assert names[0] == "C_Initialize"
        assert names[-3:] == ["C_OpenSession", "C_Login", "C_GenerateRandom"]
        assert shown[-1]["out"] == [["RandomData[ulRandomLen]", "4 bytes"]]
        key = create_key(client, session)
        tracer.until("C_CreateObject")
        for _ in range(3):
            client.good("C_SignInit", Mechanism(CKM_SHA256_HMAC), key, target=session)
            client.good("C_Sign", DATA, Room(32, True), target=session)
            # Also where they reach the host in one frame.
            assert [(each["call"], each["rv"]) for each in tracer.until("C_Sign")] == [
                ("C_SignInit", "CKR_OK"),
                ("C_Sign", "CKR_OK"),
            ]
        assert hidden(json.dumps(tracer.seen))
        tracer.socket.close()
        until(lambda: not daemon.status()["tracers"], "the trace has ended")
        client.good("C_GenerateRandom", Fill(True, 4), target=session)


def test_one_context_alone(daemon):
    with RawClient(daemon.socket) as other, RawClient(daemon.socket) as client:
        other.initialize()
        client.initialize()
        _, name = sorted((each["context"] for each in daemon.contexts()), key=lambda name: int(name.partition("-")[2]))
        with Tracer(daemon.socket, name) as one, Tracer(daemon.socket) as all_:
            assert one.contexts == [name]
            assert len(all_.contexts) == 2
            for each in (other, client, other):
                each.good("C_GetInfo", True)
            client.good("C_Finalize")
            client.socket.close()
            # The trace ends with its context.
            calls = one.rest()
            assert [(each["context"], each["call"]) for each in calls] == [(name, "C_GetInfo"), (name, "C_Finalize")]
            assert [each["call"] for each in all_.until("C_Finalize")] == ["C_GetInfo"] * 3 + ["C_Finalize"]


def test_the_command_takes_the_number_of_a_context(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        (context,) = daemon.contexts()
        with command(daemon, "--context", context["context"].partition("-")[2]):
            client.good("C_GetInfo", True)
    failed = subprocess.run(
        [*KEYWAY, "trace", "--socket", str(daemon.socket), "--context", "777"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (failed.returncode, failed.stderr) == (1, "Error: no context 777\n")


def test_what_a_tracer_may_ask(daemon):
    with Tracer(daemon.socket, "nobody") as tracer:
        assert tracer.rv == RV.CKR_ARGUMENTS_BAD
        for body in (b"{", b"[]", b'{"context": 5}', b'{"context": []}', b"[" * 100_000, b"\xff"):
            tracer.send(TRACE, body)
            assert tracer.receive().header.rv == RV.CKR_ARGUMENTS_BAD
        tracer.send(TRACE)
        assert tracer.receive().header.rv == 0
        tracer.send(TRACE)
        assert tracer.receive().header.rv == RV.CKR_OPERATION_ACTIVE


def test_a_tracer_that_does_not_read_slows_nobody_and_is_told_what_it_missed(daemon):
    with Tracer(daemon.socket) as tracer, RawClient(daemon.socket) as client:
        client.initialize()
        slot = slot_of(client, "demo")
        calls = 1500
        for _ in range(calls):
            client.good("C_GetMechanismList", Room(100, True), target=slot)
        shown: list[dict] = []
        while not any("lost" in each for each in shown):
            shown.append(json.loads(tracer.receive().body))
        lost = shown[-1]["lost"]
        listed = [each for each in shown if each.get("call") == "C_GetMechanismList"]
        assert (len(listed) + lost, lost > 0) == (calls, True)
        client.good("C_Finalize")
        assert tracer.until("C_Finalize")[-1]["rv"] == "CKR_OK"


def test_a_call_that_takes_long_is_shown_before_it_returns(start, home):
    daemon = start("[limits]\ngreeting = 1\n" + softhsm(home))
    make(daemon, "demo")
    with Tracer(daemon.socket) as tracer, RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slot_of(client, "demo"))
        host = host_of(daemon)
        tracer.until("C_OpenSession")
        freeze(host)
        client.send_call("C_GenerateRandom", Fill(True, 4), target=session)
        (waits,) = tracer.until("C_GenerateRandom")
        assert waits["rv"] is None
        assert waits["us"] >= 1_000_000
        os.kill(host, signal.SIGKILL)
        assert client.receive().header.rv == RV.CKR_DEVICE_ERROR
        assert tracer.until("C_GenerateRandom")[-1]["rv"] == "CKR_DEVICE_ERROR"


def test_a_call_that_was_under_way_before_is_shown(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slot_of(client, "demo"))
        host = host_of(daemon)
        freeze(host)
        client.send_call("C_GenerateRandom", Fill(True, 4), target=session)
        until(lambda: sum(each["in_flight"] for each in daemon.contexts()), "the call is under way")
        with Tracer(daemon.socket) as tracer:
            (waits,) = tracer.until("C_GenerateRandom")
            assert (waits["rv"], waits["in"]) == (None, [["hSession", hex(session)]])
            assert waits["note"] == "was under way before the trace began"
            os.kill(host, signal.SIGKILL)
            assert tracer.until("C_GenerateRandom")[-1]["rv"] == "CKR_DEVICE_ERROR"


def test_calls_of_a_client_that_goes_are_shown(daemon):
    with Tracer(daemon.socket) as tracer:
        with RawClient(daemon.socket) as client:
            client.initialize()
            session = open_session(client, slot_of(client, "demo"))
            login(client, session)
            tracer.until("C_Login")
            host = host_of(daemon)
            freeze(host)
            generate_rsa(client, session)
            until(lambda: sum(each["in_flight"] for each in daemon.contexts()), "the call is under way")
        os.kill(host, signal.SIGKILL)
        shown = tracer.until("C_GenerateKeyPair")
        assert shown[-1]["rv"] is None


def test_a_tracer_does_not_keep_the_daemon_from_its_end(daemon):
    with Tracer(daemon.socket) as tracer:
        assert daemon.stop() == 0
        assert tracer.is_closed()


def test_what_is_not_traced_goes_the_short_way(home):
    """Nothing on the short way knows of traces: the table that opens it is another while a context is traced."""
    path = home / "keyway.toml"
    path.write_text(f'[listen]\nsocket = "{home}/k.sock"\n' + softhsm(home))
    asyncio.run(_short_way(path, home / "k.sock"))


def _traces(daemon, count):
    return len(daemon.tracing) == count


async def _short_way(config, socket):
    daemon = make_daemon(load(config), host_binary())
    await daemon.start()
    try:
        client = await asyncio.to_thread(RawClient, socket)
        await asyncio.to_thread(client.initialize)
        (connection,) = daemon.clients
        short_way = connection.service.plain
        write = connection.write
        assert short_way
        assert write == connection.transport.write

        tracers = [await asyncio.to_thread(Tracer, socket) for _ in range(2)]
        assert connection.service.plain == frozenset()
        assert connection.write != write
        for ended, tracer in enumerate(tracers):
            assert connection.service.tap is not None
            tracer.socket.close()
            await asyncio.to_thread(client.good, "C_GetInfo", True)
            await asyncio.to_thread(until, partial(_traces, daemon, 1 - ended), "the trace has ended")
        assert connection.service.tap is None
        assert connection.service.plain is short_way
        assert connection.write == write
        client.socket.close()
    finally:
        await daemon.stop(5)
