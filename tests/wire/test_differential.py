"""Python and Rust decode the same bytes and must agree: an error, or the same values and the same bytes when encoded again."""

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire import vectors
from tests.wire.strategies import bodies, fusable, requests, u64

from keyway.cryptoki import Call
from keyway.wire import (
    WireError,
    decode_fused,
    decode_reply,
    decode_request,
    encode_fused,
    encode_reply,
    encode_request,
)

ROOT = Path(__file__).parents[2]
OBJECT = 0x2A7
BULK = 40_000

Answer = dict[str, Any] | None


class RustDecoder:
    """crates/keyway-wire/examples/decode.rs as a process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def decode(self, kind: str, call: Call, object_: int, body: bytes) -> Answer:
        """Return its answer: None for an error, else the values and what they are encoded to."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{kind} {call.number} {object_} {body.hex() or '-'}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the Rust decoder ended on {kind} {call.name} {body.hex()}"
        answer = json.loads(line)
        if answer is None:
            return None
        return {"values": [vectors.values(part) for part in answer["values"]], "body": bytes.fromhex(answer["body"])}


@pytest.fixture(scope="module")
def rust() -> Iterator[RustDecoder]:
    build = ["cargo", "build", "--quiet", "-p", "keyway-wire", "--example", "decode", "--message-format=json"]
    built = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = map(json.loads, built.stdout.splitlines())
    program = next(message["executable"] for message in messages if message.get("executable"))
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield RustDecoder(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def python(kind: str, call: Call, object_: int, body: bytes) -> Answer:
    """What the Python codec makes of a body, in the same form."""
    try:
        if kind == "fused":
            first, second = decode_fused(call, object_, body)
            return {"values": [first, second], "body": encode_fused(call, first, second).body}
        if kind == "request":
            values = decode_request(call, object_, body)
            return {"values": [values], "body": encode_request(call, values).body}
        values = decode_reply(call, body)
        return {"values": [values], "body": encode_reply(call, values)}
    except WireError:
        return None


@settings(max_examples=1500)
@given(sample=bodies())
def test_bodies(rust: RustDecoder, sample: tuple[str, Call, bytes]) -> None:
    kind, call, body = sample
    assert rust.decode(kind, call, OBJECT, body) == python(kind, call, OBJECT, body)


@settings(max_examples=300)
@given(call=fusable, data=st.data(), object_=u64, damage=st.binary(max_size=3))
def test_fused_bodies(rust: RustDecoder, call: Call, data: st.DataObject, object_: int, damage: bytes) -> None:
    init = vectors.init_of(call)
    body = encode_fused(call, data.draw(requests(init)), data.draw(requests(call))).body + damage
    assert rust.decode("fused", call, object_, body) == python("fused", call, object_, body)


def test_malformed_vectors(rust: RustDecoder) -> None:
    for vector in vectors.load("malformed.json"):
        body = vectors.body(vector["body"])
        assert rust.decode(vector["direction"], vectors.named_call(vector), 0, body) is None, vector["why"]


def test_many_mutated_vectors(rust: RustDecoder) -> None:
    """More bodies than Hypothesis gets through, the same ones in every run."""
    corpus = [vector for name in ("calls.json", "shapes.json") for vector in vectors.load(name)]
    source = random.Random(1)
    decoded = 0
    for _ in range(BULK):
        vector = source.choice(corpus)
        body = bytearray(vectors.body(vector["body"]))
        for _ in range(source.randint(1, 3)):
            at = source.randint(0, len(body))
            width = source.choice([0, 1, 1, 1, 4, 8])
            piece = source.choice(
                [b"", source.randbytes(1), bytes(width), b"\xff" * width, bytes([0, 0, 0, source.randrange(5)])]
            )
            body[at : at + width] = piece
        kind, call = vector["direction"], vectors.named_call(vector)
        answer = python(kind, call, OBJECT, bytes(body))
        assert rust.decode(kind, call, OBJECT, bytes(body)) == answer, f"{kind} {call.name} {body.hex()}"
        decoded += answer is not None
    assert BULK // 20 < decoded < BULK
