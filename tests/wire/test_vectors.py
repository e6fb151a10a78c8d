"""The Python codec against the shared vectors."""

from typing import Any

import pytest
from tests.vectors import compose
from tests.wire import vectors

from keyway.cryptoki import CALLS, SHAPES, MemberKind, Value, call_named
from keyway.wire import (
    Header,
    WireError,
    decode_fused,
    decode_reply,
    decode_request,
    encode_fused,
    encode_reply,
    encode_request,
    reply_kinds,
    request_kinds,
)

Vector = dict[str, Any]

COMPOSED = vectors.load("calls.json") + vectors.load("shapes.json")


def named(vector: Vector) -> str:
    return str(vector.get("name") or vector["why"])


def decode(vector: Vector, body: bytes) -> tuple[Value, ...]:
    call = call_named(vector["call"])
    if vector["direction"] == "request":
        return decode_request(call, vector.get("object", 0), body)
    return decode_reply(call, body)


def test_composed_files_are_fresh() -> None:
    for name, text in compose.composed().items():
        assert (vectors.FOLDER / name).read_text() == text, f"{name}: run python tests/vectors/compose.py"


def test_every_call_has_vectors() -> None:
    found = {(vector["call"], vector["direction"]) for vector in COMPOSED}
    assert found == {(call.name, direction) for call in CALLS if not call.local for direction in ("request", "reply")}


def test_every_kind_has_vectors() -> None:
    found = {(entry["kind"], entry["direction"]) for entry in vectors.load("kinds.json")}
    sent = [call for call in CALLS if not call.local]
    asked = {(kind.value, "request") for call in sent for kind in request_kinds(call)}
    answered = {(kind.value, "reply") for call in sent for kind in reply_kinds(call)}
    assert found == asked | answered


def test_every_kind_of_member_has_vectors() -> None:
    found = {entry["kind"] for entry in vectors.load("members.json")}
    made_by_compose = {MemberKind.BYTES, MemberKind.ULONGS, MemberKind.STRUCT, MemberKind.POINTER, MemberKind.ARRAY}
    kinds = {member.kind for shape in SHAPES.values() for member in shape.members}
    assert kinds - made_by_compose - {MemberKind.LENGTH} <= found


@pytest.mark.parametrize("vector", COMPOSED, ids=named)
def test_body(vector: Vector) -> None:
    call, body, values = call_named(vector["call"]), vectors.body(vector["body"]), vectors.values(vector["values"])
    assert decode(vector, body) == values
    if vector["direction"] == "request":
        assert encode_request(call, values) == (vector["object"], body)
    else:
        assert encode_reply(call, values) == body


@pytest.mark.parametrize("vector", vectors.load("fused.json"), ids=named)
def test_fused_body(vector: Vector) -> None:
    call, body = call_named(vector["call"]), vectors.body(vector["body"])
    init_values, values = vectors.values(vector["init_values"]), vectors.values(vector["values"])
    assert decode_fused(call, vector["object"], body) == (init_values, values)
    assert encode_fused(call, init_values, values) == (vector["object"], body)


@pytest.mark.parametrize("vector", vectors.load("headers.json"), ids=named)
def test_header(vector: Vector) -> None:
    header = Header(**vector["header"])
    assert Header.unpack(bytes.fromhex(vector["bytes"])) == header
    assert header.pack() == bytes.fromhex(vector["bytes"])


@pytest.mark.parametrize("vector", vectors.load("malformed.json"), ids=named)
def test_malformed_body(vector: Vector) -> None:
    with pytest.raises(WireError):
        decode(vector, vectors.body(vector["body"]))


def test_vectors_cut_short_are_malformed() -> None:
    """No value is a prefix of another, so each proper prefix of a body is malformed, but for the empty reply."""
    for vector in COMPOSED:
        body = vectors.body(vector["body"])
        for length in range(vector["direction"] == "reply", len(body)):
            with pytest.raises(WireError):
                decode(vector, body[:length])
