"""What is counted, and how Prometheus reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from keyway.cryptoki import RV, call_named
from keyway.observe.metrics import BOUNDS, MAX_ANSWERS, MAX_REASONS, OTHER, Answered, Counters, counted
from keyway.observe.metrics_text import metrics_text
from keyway.wire.ahead import READ_AHEAD

SIGN = call_named("C_Sign").number


def member(name, **facts):
    return {"member": name, "state": "up", "drained": False, "parked": "", "outstanding": 0, **facts}


def status(**facts):
    return {"contexts": [], "backends": {}, **facts}


def samples(told, counters=None):
    """What the text says, as Prometheus's own parser reads it: values by name and labels."""
    text = metrics_text(told, counters or Counters()).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found, name, **labels):
    return found.get((name, *sorted(labels.items())))


def test_contexts_and_sessions():
    found = samples(status(contexts=[{"sessions": 2}, {"sessions": 3}]))
    assert value(found, "keyway_contexts") == 2
    assert value(found, "keyway_sessions") == 5


def test_the_audit_log():
    assert value(samples(status()), "keyway_audit_records_total") is None
    found = samples(status(audit={"records": 7, "dropped": 2, "error": "file: No space left on device"}))
    assert value(found, "keyway_audit_records_total") == 7
    assert value(found, "keyway_audit_dropped_total") == 2
    assert value(found, "keyway_audit_failing") == 1


def test_spans():
    assert value(samples(status()), "keyway_spans_lost_total") is None
    found = samples(status(traces={"sent": 40, "lost": 3, "waiting": 5}))
    assert value(found, "keyway_spans_sent_total") == 40
    assert value(found, "keyway_spans_lost_total") == 3


def test_backends():
    counters = Counters()
    counters.answered["a"] = answered = Answered()
    answered.add(SIGN, 0)
    answered[SIGN, 0] += 1
    answered.add(SIGN, RV.CKR_PIN_INCORRECT)
    answered.add(READ_AHEAD, 0x80000383)
    answered.add(0x3FFF, OTHER)
    found = samples(status(backends={"a": {"hosts": 3, "crashes": 1}}), counters)
    assert value(found, "keyway_backend_hosts", backend="a") == 3
    assert value(found, "keyway_backend_crashes_total", backend="a") == 1
    calls = {key[1:]: found[key] for key in found if key[0] == "keyway_backend_calls_total"}
    assert calls == {
        (("backend", "a"), ("call", call), ("rv", rv)): times
        for call, rv, times in (
            ("C_Sign", "CKR_OK", 2),
            ("C_Sign", "CKR_PIN_INCORRECT", 1),
            ("READ_AHEAD", "CKR_VENDOR_DEFINED+0x383", 1),
            ("0x3fff", "other", 1),
        )
    }


def test_calls_of_a_pool():
    counters = Counters()
    for seconds in (0.0001, 0.0005, 0.0006, 11.0):
        counters.note(SIGN, "vault", "hsm1", "done", seconds)
    counters.note(SIGN, "vault", "hsm2", "lost", 2.0)
    found = samples(status(), counters)
    assert value(found, "keyway_calls_total", call="C_Sign", token="vault", member="hsm1", **{"class": "done"}) == 4
    assert value(found, "keyway_calls_total", call="C_Sign", token="vault", member="hsm2", **{"class": "lost"}) == 1
    of = {"token": "vault", "member": "hsm1"}
    assert value(found, "keyway_call_seconds_bucket", le="0.0005", **of) == 2
    assert value(found, "keyway_call_seconds_bucket", le="0.001", **of) == 3
    assert value(found, "keyway_call_seconds_bucket", le="10", **of) == 3
    assert value(found, "keyway_call_seconds_bucket", le="+Inf", **of) == 4
    assert value(found, "keyway_call_seconds_count", **of) == 4
    assert value(found, "keyway_call_seconds_sum", **of) == pytest.approx(11.0012)


@given(st.lists(st.floats(0, 100), max_size=50))
def test_buckets_hold_what_they_say(times):
    counters = Counters()
    for seconds in times:
        counters.note(SIGN, "t", "m", "done", seconds)
    found = samples(status(), counters)
    for bound in BOUNDS if times else ():
        told = value(found, "keyway_call_seconds_bucket", le=f"{bound:g}", token="t", member="m")
        assert told == sum(seconds <= bound for seconds in times)
    assert value(found, "keyway_call_seconds_count", token="t", member="m") == (len(times) or None)


def test_failovers():
    counters = Counters()
    counters.failover("vault", "hsm1", "deadline")
    counters.failover("vault", "hsm1", "deadline")
    counters.failover("vault", "hsm2", "host ended")
    found = samples(status(), counters)
    assert value(found, "keyway_failovers_total", token="vault", member="hsm1", why="deadline") == 2
    assert value(found, "keyway_failovers_total", token="vault", member="hsm2", why="host ended") == 1


def test_members():
    pool = {
        "members": [member("a", outstanding=4), member("b", state="probing", drained=True, parked="PIN")],
        "disagreements": 7,
    }
    found = samples(status(pools={"vault": pool}))
    for name, state in (("a", "up"), ("b", "probing")):
        told = {
            each: value(found, "keyway_member_state", token="vault", member=name, state=each)
            for each in ("up", "suspect", "down", "probing")
        }
        assert told == {each: float(each == state) for each in told}
    for name, expected in (("a", 0), ("b", 1)):
        assert value(found, "keyway_member_drained", token="vault", member=name) == expected
        assert value(found, "keyway_member_parked", token="vault", member=name) == expected
    assert value(found, "keyway_member_outstanding", token="vault", member="a") == 4
    assert value(found, "keyway_pool_disagreements", token="vault") == 7


def test_nothing_is_told_of_what_is_not_there():
    assert samples({}) == {("keyway_contexts",): 0, ("keyway_sessions",): 0}
    assert samples(status(pools={"vault": {}})) == {("keyway_contexts",): 0, ("keyway_sessions",): 0}


def test_a_backend_gone_mad_takes_little_room():
    answered = Answered()
    for rv in range(3 * MAX_ANSWERS):
        answered.add(SIGN, rv)
    assert len(answered) == MAX_ANSWERS + 1
    assert sum(answered.values()) == 3 * MAX_ANSWERS
    assert answered[SIGN, OTHER] == 2 * MAX_ANSWERS


def test_reasons_take_little_room():
    counters = Counters()
    for number in range(3 * MAX_REASONS):
        counters.failover("t", "m", f"reason {number}")
        counters.failover("t", "n", "always the same")
    assert len(counters.failovers) == MAX_REASONS + 2
    assert counters.failovers["t", "m", "other"] == 2 * MAX_REASONS
    assert counters.failovers["t", "n", "always the same"] == 3 * MAX_REASONS


def test_a_status_with_counts():
    counters = Counters()
    counters.answered["a"] = Answered({(SIGN, 0): 2, (SIGN, 5): 1})
    counters.note(SIGN, "vault", "hsm1", "done", 0.25)
    counters.note(SIGN, "vault", "hsm1", "lost", 0.5)
    told = status(
        version="1",
        backends={"a": {"hosts": 1}, "b": {}},
        pools={"vault": {"policy": "failover", "members": [member("hsm1"), member("hsm2")]}},
    )
    assert counted(told, counters) == {
        "version": "1",
        "contexts": [],
        "backends": {"a": {"hosts": 1, "calls": 3}, "b": {}},
        "pools": {
            "vault": {
                "policy": "failover",
                "members": [member("hsm1", calls=2, seconds=0.75), member("hsm2", calls=0, seconds=0.0)],
            }
        },
    }
