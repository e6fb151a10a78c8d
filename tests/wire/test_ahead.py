"""Reading ahead: the codec against its vectors, on arbitrary values and on damaged bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire import vectors
from tests.wire.strategies import data, u64

from keyway.cryptoki import Attribute, LengthAttributes, LengthNumbers, Null, RoomBytes, RoomNumbers, Unavailable
from keyway.cryptoki.constants import CKA_CLASS, CKA_ID, CKA_LABEL
from keyway.wire import EncodeError, Header, WireError
from keyway.wire.ahead import (
    MAX_AHEAD,
    MAX_QUERIES,
    NEWS,
    OBJECTS_CHANGED,
    Finding,
    Found,
    Query,
    ReadAhead,
    decode_findings,
    decode_read_ahead,
    encode_findings,
    encode_read_ahead,
    following,
)

Vector = dict[str, Any]

ALL = vectors.load("ahead.json")
GOOD = [vector for vector in ALL if "meaning" in vector]
MALFORMED = [vector for vector in ALL if "why" in vector]

queries = st.builds(Query, st.booleans(), data)
founds = st.builds(Found, u64, data)
finding = st.builds(Finding, founds, st.none() | founds)


def named(vector: Vector) -> str:
    return str(vector.get("name") or vector["why"])


def request(meaning: Vector) -> ReadAhead:
    asked = tuple(Query(query["follow"], bytes.fromhex(query["body"])) for query in meaning["queries"])
    return ReadAhead(meaning["room"], asked, tuple(meaning["objects"]))


def findings(meaning: Vector) -> tuple[tuple[Finding, ...], ...]:
    def found(of: Vector) -> Found:
        return Found(of["rv"], bytes.fromhex(of["body"]))

    def one(of: Vector) -> Finding:
        return Finding(found(of), of["followed"] and found(of["followed"]))

    return tuple(tuple(map(one, of_object)) for of_object in meaning["findings"])


def decode(vector: Vector, body: bytes) -> object:
    return decode_read_ahead(body) if vector["direction"] == "request" else decode_findings(body)


@pytest.mark.parametrize("vector", GOOD, ids=named)
def test_vector(vector: Vector) -> None:
    body, meaning = vectors.body(vector["body"]), vector["meaning"]
    if vector["direction"] == "request":
        assert decode_read_ahead(body) == request(meaning)
        assert encode_read_ahead(request(meaning)) == body
    else:
        assert decode_findings(body) == findings(meaning)
        assert encode_findings(findings(meaning), meaning["queries"]) == body


@pytest.mark.parametrize("vector", MALFORMED, ids=named)
def test_malformed(vector: Vector) -> None:
    with pytest.raises(WireError):
        decode(vector, vectors.body(vector["body"]))


@pytest.mark.parametrize("vector", GOOD, ids=named)
def test_cut_short(vector: Vector) -> None:
    body = vectors.body(vector["body"])
    for length in range(len(body)):
        with pytest.raises(WireError):
            decode(vector, body[:length])


@given(st.builds(ReadAhead, st.integers(0, 2**32 - 1), st.lists(queries).map(tuple), st.lists(u64).map(tuple)))
def test_requests(asked: ReadAhead) -> None:
    assert decode_read_ahead(encode_read_ahead(asked)) == asked


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(finding, min_size=width, max_size=width).map(tuple), max_size=4).map(tuple)
    )
)
def test_replies(told: tuple[tuple[Finding, ...], ...]) -> None:
    assert decode_findings(encode_findings(told, len(told[0]) if told else 3)) == told


@given(st.sampled_from(GOOD), st.data())
def test_damaged(vector: Vector, draw: st.DataObject) -> None:
    """Values that encode to the very same bytes, or the decoder's own error."""
    body = bytearray(vectors.body(vector["body"]))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(body)))
        width = draw.draw(st.sampled_from([0, 1, 4]))
        body[at : at + width] = draw.draw(st.binary(max_size=4))
    damaged = bytes(body)
    try:
        if vector["direction"] == "request":
            assert encode_read_ahead(decode_read_ahead(damaged)) == damaged
        else:
            told = decode_findings(damaged)
            assert encode_findings(told, int.from_bytes(damaged[4:8])) == damaged
    except WireError:
        pass


@pytest.mark.parametrize(
    "encode",
    [
        lambda: encode_read_ahead(ReadAhead(0, (Query(False, b""),) * (MAX_QUERIES + 1), ())),
        lambda: encode_read_ahead(ReadAhead(0, (), (1,) * (MAX_AHEAD + 1))),
        lambda: encode_read_ahead(ReadAhead(2**32, (), ())),
        lambda: encode_findings(((),), 0),
        lambda: encode_findings(((),), 1),
        lambda: encode_findings(((Finding(Found(-1, b"")),),), 1),
    ],
)
def test_what_does_not_fit_is_not_encoded(encode: Any) -> None:
    with pytest.raises(EncodeError):
        encode()


def test_values_follow_lengths_and_nothing_else() -> None:
    lengths = (Attribute(CKA_ID, Null(3)), Attribute(CKA_CLASS, LengthNumbers(1)))
    assert following(lengths) == (Attribute(CKA_ID, RoomBytes(3)), Attribute(CKA_CLASS, RoomNumbers(1)))
    for other in (Unavailable(), b"x", 7, LengthAttributes(1)):
        assert following((lengths[0], Attribute(CKA_LABEL, other))) is None
    assert following(()) is None
    assert following(Null(2)) is None


def test_the_news_is_a_frame_that_answers_nothing() -> None:
    header = Header.unpack(NEWS)
    assert (header.call, header.id, header.length, header.is_reply) == (OBJECTS_CHANGED, 0, 0, True)
