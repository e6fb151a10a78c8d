"""What monitoring asks a running daemon over HTTP, and what it can't do to it."""

import asyncio
import contextlib
import http.client
import json
import shutil
import signal
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.daemon.harness import DEADLINE, backend, softhsm, until
from tests.daemon.pool.tokens import member, pool
from tests.daemon.raw import RawClient
from tests.daemon.tokens import make, open_session, slot_of, slots
from tests.observe.receiver import receiving

from keyway.address import Tcp
from keyway.config import parse
from keyway.config.locate import softhsm_module
from keyway.cryptoki import Fill
from keyway.cryptoki.constants import CKF_SERIAL_SESSION
from keyway.daemon import http as monitoring
from keyway.daemon.http import CONNECTIONS, LINE, Monitor, unserved

METRICS = '[metrics]\naddress = "tcp://127.0.0.1:0"\n'


def port_of(daemon):
    (port,) = (
        int(each["address"].rpartition(":")[2]) for each in daemon.events("listening") if each["protocol"] == "http"
    )
    return port


def ask(port, path, method="GET", **headers):
    """Return status and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def metric(port, name, **labels):
    status, text = ask(port, "/metrics")
    assert status == 200
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def connect(port):
    return socket.create_connection(("127.0.0.1", port), DEADLINE)


def left(connection):
    """Return what still comes until the daemon closes the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def answer_to(connection, request):
    """Return what comes back before the daemon closes the connection, which may be before all is sent."""
    with contextlib.suppress(OSError):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
    return left(connection)


@pytest.fixture
def monitored(start, home):
    """A daemon with metrics, over one SoftHSM with a token called demo."""
    daemon = start(softhsm(home) + METRICS)
    make(daemon, "demo")
    return daemon


class TestOfADaemon:
    def test_metrics(self, monitored):
        port = port_of(monitored)
        with RawClient(monitored.socket) as client:
            client.initialize()
            open_session(client, slot_of(client, "demo"))
            until(lambda: metric(port, "keyway_contexts") == 1, "the context is counted")
            assert metric(port, "keyway_sessions") == 1
            assert metric(port, "keyway_backend_hosts", backend="softhsm") >= 1
            assert metric(port, "keyway_backend_crashes_total", backend="softhsm") == 0
            opened = {"backend": "softhsm", "call": "C_OpenSession", "rv": "CKR_OK"}
            before = metric(port, "keyway_backend_calls_total", **opened)
            for handle in (2, 3, 4):
                open_session(client, slot_of(client, "demo"), handle)
            until(lambda: metric(port, "keyway_backend_calls_total", **opened) == before + 3, "calls are counted")
        until(lambda: metric(port, "keyway_contexts") == 0, "the context is over")

    def test_metrics_of_a_pool(self, start, home):
        daemon = start(member(home, home, "a") + member(home, home, "b") + pool("a", "b", deadline=60) + METRICS)
        port = port_of(daemon)
        states = [{"token": "vault", "member": name, "state": "up"} for name in "ab"]
        until(lambda: all(metric(port, "keyway_member_state", **state) == 1 for state in states), "both serve")
        assert ask(port, "/ready")[0] == 200
        with RawClient(daemon.socket) as client:
            client.initialize()
            client.good("C_OpenSession", CKF_SERIAL_SESSION, 1, target=slots(client)[0])
            client.good("C_GenerateRandom", Fill(True, 8), target=1)
            drawn = {"call": "C_GenerateRandom", "token": "vault", "member": "a", "class": "done"}
            until(lambda: metric(port, "keyway_calls_total", **drawn) == 1, "the call is counted")
        assert metric(port, "keyway_call_seconds_count", token="vault", member="a") >= 1
        (a, b) = daemon.status()["pools"]["vault"]["members"]
        assert a["calls"] >= 1
        assert a["seconds"] > 0
        assert b["member"] == "b"

    def test_lost_spans(self, start, home):
        with receiving() as receiver:
            receiver.status = 403
            daemon = start(softhsm(home) + METRICS + f'[traces]\nendpoint = "{receiver.url}"\n')
            port = port_of(daemon)
            assert metric(port, "keyway_spans_lost_total") == 0
            with RawClient(daemon.socket) as client:
                client.initialize()
                client.good("C_Finalize")
            until(lambda: metric(port, "keyway_spans_lost_total") == 3, "the context and its calls are lost")
            assert metric(port, "keyway_spans_sent_total") == 0

    def test_calls_are_in_the_status(self, monitored):
        before = monitored.status()["backends"]["softhsm"]["calls"]
        with RawClient(monitored.socket) as client:
            client.initialize()
            client.good("C_GetInfo", True)
            assert monitored.status()["backends"]["softhsm"]["calls"] >= before + 2

    def test_health(self, monitored):
        assert ask(port_of(monitored), "/health") == (200, "ok\n")

    def test_what_is_not_there(self, monitored):
        port = port_of(monitored)
        assert ask(port, "/")[0] == 404
        assert ask(port, "/metrics/")[0] == 404
        assert ask(port, "/metrics", "POST")[0] == 405
        assert ask(port, "/metrics", "HEAD") == (200, "")

    def test_ready_again_when_a_module_is_back(self, start, home):
        module = home / "m.so"
        daemon = start(backend("b", module) + '[token.t]\nlabel = "demo"\n' + METRICS)
        port = port_of(daemon)
        until(lambda: ask(port, "/ready")[0] == 503, "the module is missed")
        assert json.loads(ask(port, "/ready")[1]) == {
            "ready": False,
            "draining": False,
            "tokens": ["t"],
            "backends": ["b"],
        }
        shutil.copy(softhsm_module(), home / "copy.so")
        (home / "copy.so").rename(module)
        until(lambda: ask(port, "/ready")[0] == 200, "the module was tried again", 60.0)
        assert json.loads(ask(port, "/ready")[1]) == {"ready": True, "draining": False, "tokens": [], "backends": []}

    def test_not_ready_while_clients_are_let_end(self, start, home):
        daemon = start(softhsm(home) + METRICS + "[limits]\ndrain = 300\n")
        port = port_of(daemon)
        with RawClient(daemon.socket) as client:
            client.initialize()
            assert ask(port, "/ready")[0] == 200
            daemon.process.send_signal(signal.SIGTERM)
            until(lambda: ask(port, "/ready")[0] == 503, "the daemon is draining")
            assert json.loads(ask(port, "/ready")[1])["draining"]
            assert ask(port, "/health")[0] == 200
        assert daemon.process.wait(DEADLINE) == 0

    def test_a_port_that_is_taken(self, start, home):
        with socket.create_server(("127.0.0.1", 0)) as other:
            metrics = METRICS.replace(":0", f":{other.getsockname()[1]}")
            with pytest.raises(AssertionError, match=r"tcp://127.0.0.1:\d+: Address already in use"):
                start(softhsm(home) + metrics)
        assert not (home / "k.sock").exists()


class TestHostileRequests:
    @pytest.fixture
    def client(self, monitored):
        """A client that must not notice anything."""
        with RawClient(monitored.socket) as client:
            client.initialize()
            open_session(client, slot_of(client, "demo"))
            yield client
            client.good("C_GetSessionInfo", True, target=1)
            assert ask(port_of(monitored), "/health")[0] == 200

    @pytest.mark.parametrize(
        "request_",
        [
            b"\x00\xff\x16\x03\x01 garbage \r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /metrics HTTP/9.9\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n",
            b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /%zz?\xff HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 100_000 + b"\r\n",
            b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            b"POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        ],
    )
    def test_nonsense(self, monitored, client, request_):
        with connect(port_of(monitored)) as connection:
            answer = answer_to(connection, request_)
        assert not answer or answer.startswith(b"HTTP/1."), answer

    @pytest.mark.parametrize(
        "beginning", [b"GET /", b"GET /health HTTP/1.1\r\nHost: a\r\nX: ", b"GET /health HTTP/1.1\r\nHost: a\r\nX"]
    )
    def test_a_line_without_end(self, monitored, client, beginning):
        with connect(port_of(monitored)) as connection:
            answer = answer_to(connection, beginning + b"a" * 100 * LINE)
        assert not answer or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), answer

    def test_the_oldest_of_many_silent_connections_goes(self, monitored, client):
        port = port_of(monitored)
        silent = [connect(port) for _ in range(CONNECTIONS + 3)]
        try:
            for connection in silent[5::2]:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: ")
            assert ask(port, "/health") == (200, "ok\n")
            assert [left(each) for each in silent[:3]] == [b""] * 3
        finally:
            for connection in silent:
                connection.close()

    def test_many_requests_on_one_connection_are_one(self, monitored, client):
        with connect(port_of(monitored)) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" * 50)
            assert left(connection).count(b"HTTP/1.1 200 OK") == 1


class TestTime:
    """A server that gives its connections next to no time."""

    @staticmethod
    async def serve(monkeypatch, work):
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(monitoring, "SECONDS", 0.05)
        monkeypatch.setattr(monitoring, "status", lambda daemon: {})
        monkeypatch.setattr(monitoring, "metrics_text", lambda status, counters: bytes(1 << 26))
        daemon: Any = SimpleNamespace(now=loop.time, counters=None)
        monitor = Monitor(daemon, Tcp("127.0.0.1", 0))
        await monitor.start()
        try:
            async with asyncio.timeout(60):
                return await work(monitor)
        finally:
            await monitor.close()

    @pytest.mark.parametrize(
        "sent", [b"", b"GET /health HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"]
    )
    def test_whoever_is_slow_to_write_is_cut_off(self, monkeypatch, sent):
        async def work(monitor):
            reader, writer = await asyncio.open_connection("127.0.0.1", monitor.address.port)
            writer.write(sent)
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

        answer = asyncio.run(self.serve(monkeypatch, work))
        assert not answer or answer.startswith(b"HTTP/1.1 404")

    def test_whoever_is_slow_to_read_is_cut_off(self, monkeypatch):
        async def work(monitor):
            reader, writer = await asyncio.open_connection("127.0.0.1", monitor.address.port, limit=1)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            received = len(await reader.readexactly(1))
            await asyncio.to_thread(until, lambda: not monitor.connections, "the connection is cut off")
            with contextlib.suppress(ConnectionResetError):
                while data := await reader.read(65536):
                    received += len(data)
            writer.close()
            return received

        assert asyncio.run(self.serve(monkeypatch, work)) < 1 << 26


BACKENDS = '[backend.a]\nmodule = "/m"\n[backend.b]\nmodule = "/m"\n[backend.c]\nmodule = "/m"\n'
TOKENS = """
[token.one]
backend = "a"
label = "x"
[token.pool]
members = ["pkcs11:?backend=b", "pkcs11:?backend=c"]
[token.two]
backend = "b"
label = "y"
"""


def told(*failed, members=("up", "up"), **facts):
    backends = {name: {"error": "it is gone" if name in failed else ""} for name in "abc"}
    pool = {"members": [{"member": name, "state": state, **facts} for name, state in zip("bc", members, strict=True)]}
    return {"backends": backends, "pools": {"pool": pool}}


class TestUnserved:
    @pytest.mark.parametrize(
        ("told", "tokens", "backends"),
        [
            (told(), [], []),
            (told("a"), ["one"], ["a"]),
            (told("a", "b"), ["one", "two"], ["a", "b"]),
            (told("c"), [], []),
            (told(members=("down", "up")), [], []),
            (told(members=("down", "suspect")), [], []),
            (told(members=("down", "probing")), ["pool"], []),
            (told("b", members=("down", "probing")), ["pool", "two"], ["b"]),
            (told(drained=True), ["pool"], []),
            (told(parked="PIN"), ["pool"], []),
            (told() | {"pools": {}}, ["pool"], []),
        ],
    )
    def test_configured_tokens(self, told, tokens, backends):
        assert unserved(parse(BACKENDS + TOKENS), told) == {"tokens": tokens, "backends": backends}

    @pytest.mark.parametrize(
        ("told", "tokens", "backends"),
        [
            (told(), [], []),
            (told("a"), [], ["a"]),
            (told("a", members=("down", "down")), ["many", "pool"], ["a"]),
            (told("b", "c", members=("down", "down")), ["pool"], []),
        ],
    )
    def test_views(self, told, tokens, backends):
        pool = TOKENS[TOKENS.index("[token.pool]") :].split("[token.", 2)[1]
        views = """
[identity.x]
anyone = true
roles = ["x"]
[role.x]
tokens = ["pkcs11:"]
[token.many]
views = ["one", "two"]
[view.one]
token = "pkcs11:token=x?backend=a"
select = "/one"
[view.two]
token = "pool"
select = "/two"
"""
        config = parse(f"{BACKENDS}{views}[token.{pool}")
        assert unserved(config, told) == {"tokens": tokens, "backends": backends}

    def test_all_tokens_of_all_backends(self):
        assert unserved(parse(BACKENDS), told("a", "c")) == {"tokens": [], "backends": ["a", "c"]}
