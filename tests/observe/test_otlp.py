"""Spans that wait to be sent, and what becomes of them."""

import logging
import sys
import threading
from types import SimpleNamespace

import pytest
from tests.daemon.harness import until
from tests.observe.receiver import receiving

from keyway.config import TracesOptions
from keyway.observe import otlp
from keyway.observe.otlp import BACKLOG, BATCH, SpanQueue, SpansError, exporter
from keyway.observe.spans import Span


def span(number=1, **options):
    return Span("C_Sign", 5, number, 3, 1_000, 2_000, {"pkcs11.rv": "CKR_OK", "pkcs11.slot": 1}, **options)


class Gate:
    """Takes what it is given when it is open, or refuses it."""

    def __init__(self, *, takes=True):
        self.takes = takes
        self.taken = []
        self.open = threading.Event()
        self.under_way = threading.Event()
        self.stopped = False

    def send(self, spans):
        self.under_way.set()
        self.open.wait()
        self.taken += spans
        return self.takes

    def stop(self):
        self.stopped = True
        self.open.set()


@pytest.fixture
def lines(monkeypatch):
    """What the log says of lost spans."""
    told = []
    monkeypatch.setattr(otlp, "event", lambda level, message, **facts: told.append((level, message, facts)))
    return told


def test_spans_are_sent_in_order_and_the_last_ones_at_the_end(lines):
    gate = Gate()
    gate.open.set()
    queue = SpanQueue(gate)
    spans = [span(number) for number in range(1, 2 * BATCH)]
    for each in spans:
        queue.take(each)
    queue.close(60)
    assert gate.taken == spans
    assert gate.stopped
    assert queue.status() == {"sent": len(spans), "lost": 0, "waiting": 0}
    assert lines == []


def test_a_receiver_that_hangs_holds_up_nobody(lines):
    gate = Gate()
    queue = SpanQueue(gate)
    queue.take(span())
    gate.under_way.wait()
    for _ in range(BACKLOG + 9):
        queue.take(span())
    assert queue.status() == {"sent": 0, "lost": 10, "waiting": BACKLOG}
    queue.close(0)
    assert lines == [(logging.WARNING, "spans lost", {"spans": BACKLOG + 10})]


def test_loss_is_told_once_a_minute(lines, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(otlp, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(otlp, "DELAY", 0.001)
    gate = Gate(takes=False)
    gate.open.set()
    queue = SpanQueue(gate)

    def lose(lost):
        queue.take(span())
        until(lambda: queue.lost == lost and not queue.status()["waiting"], "it is lost")

    lose(1)
    until(lambda: lines, "it is told")
    lose(2)
    lose(3)
    now[0] += 59.0
    lose(4)
    assert [facts for _, _, facts in lines] == [{"spans": 1}]
    now[0] += 1.0
    until(lambda: len(lines) == 2, "the others are told")
    assert lines[1] == (logging.WARNING, "spans lost", {"spans": 3})
    queue.close(60)
    assert len(lines) == 2


def test_what_is_sent_is_what_opentelemetry_expects():
    with receiving() as receiver:
        export = exporter(TracesOptions(endpoint=receiver.url, service="gateway"), "1.2.3")
        assert export.send([span(), span(2, error="CKR_PIN_INCORRECT")])
        (request,) = receiver.requests()
        (resource,) = request.resource_spans
        said = {each.key: each.value.string_value for each in resource.resource.attributes}
        assert (said["service.name"], said["service.version"]) == ("gateway", "1.2.3")
        first, second = receiver.spans()
        assert first == {
            "name": "C_Sign",
            "trace": (5).to_bytes(16),
            "id": (1).to_bytes(8),
            "parent": (3).to_bytes(8),
            "start": 1_000,
            "end": 2_000,
            "error": "",
            "pkcs11.rv": "CKR_OK",
            "pkcs11.slot": 1,
        }
        assert second["error"] == "CKR_PIN_INCORRECT"
        receiver.status = 400
        assert not export.send([span()])
        export.stop()


def test_a_receiver_that_is_not_there_takes_nothing(monkeypatch):
    monkeypatch.setattr(otlp, "TIMEOUT", 0.5)
    with receiving() as receiver:
        url = receiver.url
    export = exporter(TracesOptions(endpoint=url), "1.2.3")
    assert not export.send([span()])
    export.stop()


def test_what_is_missing_is_told(monkeypatch, tmp_path):
    gone = tmp_path / "ca.pem"
    with pytest.raises(SpansError, match=f"traces: {gone}: no such file"):
        exporter(TracesOptions(endpoint="https://h/v1/traces", ca=gone), "1")
    gone.write_text("no certificate")
    export = exporter(TracesOptions(endpoint="https://127.0.0.1:1/v1/traces", ca=gone), "1")
    assert not export.send([span()])
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(SpansError, match=r"pip install 'keyway\[traces\]'"):
        exporter(TracesOptions(endpoint="http://127.0.0.1/v1/traces"), "1")
