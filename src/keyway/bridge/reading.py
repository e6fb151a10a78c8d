"""READ_AHEAD (docs/wire.md, section 7) in front of a server that does not know it: its queries as calls of their own."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from keyway.cryptoki import RV, Null, RoomBytes, RoomNumbers, Template, call_named
from keyway.wire import decode_reply, decode_request
from keyway.wire.ahead import Finding, Found, decode_read_ahead, encode_findings, following

__all__ = ["QUERY", "Part", "Reading"]

QUERY: Final = call_named("C_GetAttributeValue")

MOST: Final = 256
"""Calls that are sent one behind the other, but for those that follow them."""
LARGEST: Final = 65_536
"""Bytes of values that are fetched unasked by one query."""
LONGEST: Final = 1_048_576
"""Bytes that the body of a reply may have, whatever room there is."""


class Part(NamedTuple):
    """A query of an object.

    Attributes:
        place: Which of the objects and which of the queries.
        object: The object.
        template: The query.
        is_second: Whether it follows another.
    """

    place: tuple[int, int]
    object: int
    template: Template
    is_second: bool = False


class Reading:
    """One request to read ahead, from its frame to its reply's body."""

    def __init__(self, body: bytes) -> None:
        """Args: body: The request's.

        Raises:
            WireError: It can't be decoded.
        """
        asked = decode_read_ahead(body)
        templates = [_template(query.body) for query in asked.queries]
        self._room = min(asked.room, LONGEST)
        self._follow = [query.follow for query in asked.queries]
        self._parts = [
            Part((at, number), handle, template)
            for at, handle in enumerate(asked.objects[: MOST // max(1, len(templates))])
            for number, template in enumerate(templates)
        ]
        self._left = len(self._parts)
        self._found: dict[tuple[int, int], Finding] = {}

    def __iter__(self) -> Iterator[Part]:
        """The queries that are known at the beginning."""
        return iter(self._parts)

    @property
    def is_over(self) -> bool:
        """Whether everything is answered."""
        return not self._left

    def note(self, part: Part, rv: int, body: bytes) -> Part | None:
        """Note an answer, and return the query that may follow. It is waited for only if it is told to be `asked`.

        Args:
            part: The query.
            rv: The RV.
            body: The body of the native reply.
        """
        self._left -= 1
        found = Found(rv, body)
        if part.is_second:
            self._found[part.place] = self._found[part.place]._replace(followed=found)
            return None
        self._found[part.place] = Finding(found)
        if not self._follow[part.place[1]] or rv != RV.CKR_OK:
            return None
        rooms = _rooms(body)
        return None if rooms is None else Part(part.place, part.object, rooms, True)

    def asked(self) -> None:
        """Note that the query which may follow is made."""
        self._left += 1

    def body(self) -> bytes:
        """Return the body of the reply, with as many objects as there is room for."""
        queries = len(self._follow)
        findings: list[list[Finding]] = []
        length = 8
        for at in range(len(self._parts) // max(1, queries)):
            of_object = [self._found[at, number] for number in range(queries)]
            length += sum(map(_length, of_object))
            if length > self._room:
                break
            findings.append(of_object)
        return encode_findings(findings, queries)


def _template(body: bytes) -> Template:
    _, template = decode_request(QUERY, 0, body)
    assert isinstance(template, tuple | Null)
    return template


def _rooms(body: bytes) -> Template | None:
    """The query for the values whose lengths a reply tells, if they are not too long."""
    values = decode_reply(QUERY, body)
    rooms = following(values[0]) if values and isinstance(values[0], tuple) else None
    if not isinstance(rooms, tuple):
        return None
    length = 0
    for room in rooms:
        match room.value:
            case RoomBytes(capacity):
                length += capacity
            case RoomNumbers(capacity):
                length += capacity * 8
    return rooms if length <= LARGEST else None


def _length(finding: Finding) -> int:
    followed = finding.followed
    return 13 + len(finding.answer.body) + (12 + len(followed.body) if followed else 0)
