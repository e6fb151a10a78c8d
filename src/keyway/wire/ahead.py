"""Reading ahead (docs/wire.md, section 7): queries for attributes that an application is expected to make, and their answers.

The queries and answers in it are bodies of C_GetAttributeValue, which is what they stand for; nobody looks into them here.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from keyway.cryptoki.values import Attribute, LengthNumbers, Null, RoomBytes, RoomNumbers, Template
from keyway.wire import basic
from keyway.wire.cursor import Reader, Writer, wrong
from keyway.wire.errors import EncodeError, WireError
from keyway.wire.header import HEADER, MAX_BODY, Flags

__all__ = [
    "MAX_AHEAD",
    "MAX_QUERIES",
    "NEWS",
    "OBJECTS_CHANGED",
    "READ_AHEAD",
    "Finding",
    "Found",
    "Query",
    "ReadAhead",
    "decode_findings",
    "decode_read_ahead",
    "encode_findings",
    "encode_read_ahead",
    "following",
]

READ_AHEAD: Final = 0x3001
"""Call number of a request to read ahead."""
OBJECTS_CHANGED: Final = 0x3002
"""Call number of the news that objects may have changed."""

NEWS: Final = HEADER.pack(0, OBJECTS_CHANGED, Flags.REPLY | Flags.POSTED, 0, 0, 0)
"""The whole frame of that news."""

MAX_QUERIES: Final = 256
MAX_AHEAD: Final = 256


class Query(NamedTuple):
    """One query.

    Attributes:
        follow: Whether a query for lengths that succeeds is to be followed by one for the values.
        body: The body of the request.
    """

    follow: bool
    body: bytes


class ReadAhead(NamedTuple):
    """What READ_AHEAD asks: each query of each object.

    Attributes:
        room: How many bytes the body of the reply may have.
        queries: The queries, in the order in which they are made.
        objects: The objects, in the order in which they are asked.
    """

    room: int
    queries: tuple[Query, ...]
    objects: tuple[int, ...]


class Found(NamedTuple):
    """An answer to C_GetAttributeValue.

    Attributes:
        rv: The RV.
        body: The body of the reply.
    """

    rv: int
    body: bytes


class Finding(NamedTuple):
    """What came of one query of one object.

    Attributes:
        answer: The answer to the query.
        followed: The answer to the query that followed; None if none did.
    """

    answer: Found
    followed: Found | None = None


def encode_read_ahead(request: ReadAhead) -> bytes:
    """Encode the body of a request.

    Raises:
        EncodeError: Something is not what it must be, or above a limit.
    """
    w = Writer()
    w.u32(request.room)
    w.count(len(request.queries), MAX_QUERIES)
    for query in request.queries:
        if not isinstance(query.follow, bool):
            raise wrong("a bool", query.follow)
        w.present(query.follow)
        basic.put_data(w, query.body)
    w.count(len(request.objects), MAX_AHEAD)
    w.numbers(request.objects)
    return bytes(w.body)


def decode_read_ahead(body: bytes | bytearray | memoryview) -> ReadAhead:
    """Decode the body of a request whole.

    Raises:
        WireError: The body is malformed.
    """
    r = Reader(body)
    room = r.u32()
    queries = tuple([Query(r.is_present(), _data(r)) for _ in range(r.count(r.u32(), MAX_QUERIES))])
    objects = r.numbers(r.count(r.u32(), MAX_AHEAD))
    r.finish()
    return ReadAhead(room, queries, objects)


def encode_findings(findings: Sequence[Sequence[Finding]], queries: int) -> bytes:
    """Encode the body of a reply.

    Args:
        findings: For each object what came of each query.
        queries: How many queries there were; without any there is nothing to tell of an object.

    Raises:
        EncodeError: Something is not what it must be, or above a limit.
    """
    w = Writer()
    w.count(len(findings), MAX_AHEAD if queries else 0)
    w.count(queries, MAX_QUERIES)
    for of_object in findings:
        if len(of_object) != queries:
            raise EncodeError(f"{len(of_object)} answers for {queries} queries")
        for finding in of_object:
            _put_found(w, finding.answer)
            w.present(finding.followed is not None)
            if finding.followed is not None:
                _put_found(w, finding.followed)
    return bytes(w.body)


def decode_findings(body: bytes | bytearray | memoryview) -> tuple[tuple[Finding, ...], ...]:
    """Decode the body of a reply whole: for each object what came of each query. There may be fewer objects than were asked about.

    Raises:
        WireError: The body is malformed.
    """
    r = Reader(body)
    objects = r.count(r.u32(), MAX_AHEAD)
    queries = r.count(r.u32(), MAX_QUERIES)
    if objects and not queries:
        raise WireError("objects were asked about without queries")
    # Lists that grow with what is there: a count alone reserves nothing.
    findings = tuple([tuple([_finding(r) for _ in range(queries)]) for _ in range(objects)])
    r.finish()
    return findings


def following(answer: Template) -> Template | None:
    """Return the query for the values whose lengths an answer tells; None unless it tells nothing but lengths."""
    if isinstance(answer, Null) or not answer:
        return None
    rooms: list[Attribute] = []
    for type_, value in ((attribute.type, attribute.value) for attribute in answer):
        match value:
            case Null(length):
                rooms.append(Attribute(type_, RoomBytes(length)))
            case LengthNumbers(count):
                rooms.append(Attribute(type_, RoomNumbers(count)))
            case _:
                return None
    return tuple(rooms)


def _finding(r: Reader) -> Finding:
    answer = _found(r)
    return Finding(answer, _found(r) if r.is_present() else None)


def _found(r: Reader) -> Found:
    return Found(r.u64(), _data(r))


def _put_found(w: Writer, found: Found) -> None:
    w.u64(found.rv)
    basic.put_data(w, found.body)


def _data(r: Reader) -> bytes:
    length = r.count(r.u32(), MAX_BODY)
    return r.take(length)
