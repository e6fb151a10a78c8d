"""What was counted, and the daemon's status, as Prometheus reads it (text format 0.0.4)."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from keyway.cryptoki import call_numbered, rv_name
from keyway.observe.metrics import BOUNDS, OTHER, Counters
from keyway.wire.ahead import READ_AHEAD

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_STATES: Final = ("up", "suspect", "down", "probing")
"""The states of a member; each is a sample, 1 for the one that it is in."""


def metrics_text(status: Mapping[str, Any], counters: Counters) -> bytes:
    """Return all metrics.

    Args:
        status: What the daemon tells of itself; what is missing there is not shown.
        counters: What it has counted.
    """
    return generate_latest(
        _Collected([*_of_gateway(status), *_of_backends(status, counters), *_of_pools(status, counters)])
    )


class _Collected(Collector):
    """Metrics that were made already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_gateway(status: Mapping[str, Any]) -> Iterator[Metric]:
    contexts = status.get("contexts", [])
    yield GaugeMetricFamily("keyway_contexts", "Contexts: clients that have called C_Initialize.", len(contexts))
    sessions = sum(each.get("sessions", 0) for each in contexts)
    yield GaugeMetricFamily("keyway_sessions", "Sessions that clients have open.", sessions)
    if (audit := status.get("audit")) is not None:
        yield CounterMetricFamily(
            "keyway_audit_records", "Records that were written to the audit log.", audit["records"]
        )
        yield CounterMetricFamily("keyway_audit_dropped", "Records for which there was no room.", audit["dropped"])
        yield GaugeMetricFamily("keyway_audit_failing", "1 while the audit log can't be written.", bool(audit["error"]))
    if (traces := status.get("traces")) is not None:
        yield CounterMetricFamily("keyway_spans_sent", "Spans that the receiver has taken.", traces["sent"])
        yield CounterMetricFamily(
            "keyway_spans_lost", "Spans for which there was no room, or that the receiver did not take.", traces["lost"]
        )


def _of_backends(status: Mapping[str, Any], counters: Counters) -> Iterator[Metric]:
    hosts = GaugeMetricFamily(
        "keyway_backend_hosts", "Module hosts of a backend, or its connections, spares included.", labels=("backend",)
    )
    crashes = CounterMetricFamily(
        "keyway_backend_crashes", "Hosts or connections that ended while a client had them.", labels=("backend",)
    )
    for name, backend in status.get("backends", {}).items():
        hosts.add_metric((name,), backend.get("hosts", 0))
        crashes.add_metric((name,), backend.get("crashes", 0))
    answers = CounterMetricFamily(
        "keyway_backend_calls",
        "Calls that a backend has answered to clients, and to the gateway itself.",
        labels=("backend", "call", "rv"),
    )
    for name, answered in counters.answered.items():
        for (call, rv), times in answered.items():
            answers.add_metric((name, _call_name(call), "other" if rv == OTHER else rv_name(rv)), times)
    yield from (hosts, crashes, answers)


def _of_pools(status: Mapping[str, Any], counters: Counters) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "keyway_calls",
        "Calls of pools, by the member that they went to and the class of what came back.",
        labels=("call", "token", "member", "class"),
    )
    for (call, token, member, rv_class), times in counters.calls.items():
        calls.add_metric((_call_name(call), token, member, rv_class), times)
    seconds = HistogramMetricFamily(
        "keyway_call_seconds", "How long calls of pools took, member by member.", labels=("token", "member")
    )
    for of, took in counters.times.items():
        sums = accumulate(took.buckets)
        names = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")
        seconds.add_metric(of, list(zip(names, sums, strict=True)), took.seconds)
    failovers = CounterMetricFamily(
        "keyway_failovers", "How often calls left a member for another.", labels=("token", "member", "why")
    )
    for key, times in counters.failovers.items():
        failovers.add_metric(key, times)
    yield from (calls, seconds, failovers, *_of_members(status))


def _of_members(status: Mapping[str, Any]) -> Iterator[Metric]:
    member_labels = ("token", "member")
    states = GaugeMetricFamily(
        "keyway_member_state", "1 for the state that a member is in, else 0.", labels=(*member_labels, "state")
    )
    drained = GaugeMetricFamily("keyway_member_drained", "1 for a member that was drained.", labels=member_labels)
    parked = GaugeMetricFamily(
        "keyway_member_parked", "1 for a member that waits for somebody to see to it.", labels=member_labels
    )
    outstanding = GaugeMetricFamily(
        "keyway_member_outstanding", "Calls that a member has not answered yet.", labels=member_labels
    )
    disagreements = GaugeMetricFamily(
        "keyway_pool_disagreements", "Objects of a pool that are not the same on all members.", labels=("token",)
    )
    for token, pool in status.get("pools", {}).items():
        if "disagreements" in pool:
            disagreements.add_metric((token,), pool["disagreements"])
        for member in pool.get("members", ()):
            labels = (token, member.get("member", ""))
            for state in _STATES:
                states.add_metric((*labels, state), member.get("state") == state)
            drained.add_metric(labels, bool(member.get("drained")))
            parked.add_metric(labels, bool(member.get("parked")))
            outstanding.add_metric(labels, member.get("outstanding", 0))
    yield from (states, drained, parked, outstanding, disagreements)


def _call_name(number: int) -> str:
    call = call_numbered(number)
    if call is not None:
        return call.name
    return "READ_AHEAD" if number == READ_AHEAD else f"0x{number:x}"
