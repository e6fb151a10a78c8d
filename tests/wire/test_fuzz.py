"""Arbitrary bytes: the decoder gives values or its own error, in memory that the body's length bounds."""

import tracemalloc

import pytest
from hypothesis import given, settings
from tests.wire import vectors
from tests.wire.strategies import bodies

from keyway.cryptoki import Call, call_named
from keyway.wire import WireError, decode_fused, decode_reply, decode_request, encode_reply, encode_request


@settings(max_examples=3000)
@given(bodies())
def test_values_or_an_error(sample: tuple[str, Call, bytes]) -> None:
    direction, call, body = sample
    if direction == "reply":
        try:
            values = decode_reply(call, body)
        except WireError:
            return
        assert encode_reply(call, values) == body
        return
    try:
        values = decode_request(call, 7, body)
    except WireError:
        return
    assert encode_request(call, values).body == body


@settings(max_examples=500)
@given(bodies())
def test_values_or_an_error_when_fused(sample: tuple[str, Call, bytes]) -> None:
    _, call, body = sample
    try:
        decode_fused(call, 7, body)
    except WireError:
        return


@pytest.mark.parametrize(
    ("name", "direction", "body"),
    [
        ("C_FindObjects", "reply", "02 00100000"),
        ("C_FindObjectsInit", "request", "00001000"),
        ("C_FindObjectsInit", "request", "00000001 0000000040000600 03 00100000"),
        ("C_SeedRandom", "request", "fffffffe"),
        ("C_DigestFinal", "reply", "02 7fffffff"),
    ],
)
def test_a_count_alone_reserves_nothing(name: str, direction: str, body: str) -> None:
    data = vectors.body(body)
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode_reply(call_named(name), data) if direction == "reply" else decode_request(call_named(name), 0, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
