"""READ_AHEAD in front of a p11-kit server: queries one behind the other, and one reply."""

import itertools
from typing import Any

import pytest
from tests.bridge.ends import native
from tests.bridge.test_back import Native

from keyway.bridge import Step
from keyway.bridge.reading import MOST, QUERY
from keyway.cryptoki import RV, Attribute, Null, RoomBytes, RoomNumbers, Template, Unavailable
from keyway.cryptoki.constants import CKA_CLASS, CKA_ID, CKA_LABEL, CKA_WRAP_TEMPLATE
from keyway.wire import decode_reply, encode_request
from keyway.wire.ahead import READ_AHEAD, Finding, Query, ReadAhead, decode_findings, encode_read_ahead

LABEL: Template = (Attribute(CKA_LABEL, Null(0)),)
CLASS: Template = (Attribute(CKA_CLASS, RoomNumbers(1)),)


def query(template: Template, *, follow: bool = False) -> Query:
    return Query(follow, encode_request(QUERY, (0, template)).body)


class Reader(Native):
    """A native side that keeps what it is told of its readings."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[tuple[Finding, ...], ...]] = []
        self.open(1, 10)

    def read(self, objects: tuple[int, ...], *queries: Query, room: int = 100_000) -> int:
        return self.send(READ_AHEAD, 1, encode_read_ahead(ReadAhead(room, queries, objects)))

    def _take(self, step: Step) -> None:
        others = []
        for header, body in native(step.deliver):
            if header.call == READ_AHEAD and header.rv == 0:
                self.found.append(decode_findings(body))
                body = b""
            others.append(header._replace(length=len(body)).pack() + body)
        super()._take(Step(step.send, b"".join(others)))

    def queries(self, start: int = 1) -> list[Any]:
        """The object and the template of each query that the server got."""
        return [(request.values[0], request.values[1]) for request in self.asked[start:] if request.call is QUERY]


def told(finding: Finding) -> tuple[object, ...]:
    """The values of an answer and of the one that followed."""
    answers = [finding.answer, *([finding.followed] if finding.followed else [])]
    return tuple((answer.rv, decode_reply(QUERY, answer.body)) for answer in answers)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_queries_go_out_at_once_and_are_answered_in_any_order(order: tuple[int, ...]) -> None:
    side = Reader()
    side.read((7, 8), query(LABEL, follow=True), query(CLASS))
    assert side.queries() == [(7, LABEL), (7, CLASS), (8, LABEL), (8, CLASS)]
    answers = ((CKA_LABEL, Null(3)), (CKA_CLASS, 3), (CKA_LABEL, Null(5)), (CKA_CLASS, 2))
    for index in order:
        side.answer(1 + index, (Attribute(*answers[index]),))
    rooms = {(7, (Attribute(CKA_LABEL, RoomBytes(3)),)), (8, (Attribute(CKA_LABEL, RoomBytes(5)),))}
    assert set(side.queries(5)) == rooms
    assert not side.found
    for index, (object_, _) in enumerate(side.queries(5)):
        side.answer(5 + index, (Attribute(CKA_LABEL, b"abc" if object_ == 7 else b"abcde"),))
    ((first, second),) = side.found
    for of_object, label, kind in ((first, b"abc", 3), (second, b"abcde", 2)):
        assert told(of_object[0]) == (
            (0, ((Attribute(CKA_LABEL, Null(len(label))),),)),
            (0, ((Attribute(CKA_LABEL, label),),)),
        )
        assert told(of_object[1]) == ((0, ((Attribute(CKA_CLASS, kind),),)),)


def test_a_failed_query_is_not_followed() -> None:
    side = Reader()
    side.read((7,), query(LABEL, follow=True))
    side.answer(1, (Attribute(CKA_LABEL, Unavailable()),), rv=RV.CKR_ATTRIBUTE_TYPE_INVALID)
    (((finding,),),) = side.found
    assert (finding.answer.rv, finding.followed) == (RV.CKR_ATTRIBUTE_TYPE_INVALID, None)


def test_the_sessions_next_call_waits_for_the_whole() -> None:
    side = Reader()
    side.read((7,), query(LABEL, follow=True))
    side.ask("C_SeedRandom", 1, b"x")
    side.ask("C_SetAttributeValue", 1, 7, ())
    side.answer(1, (Attribute(CKA_LABEL, Null(3)),))
    assert side.names[-1] == "C_GetAttributeValue 10"
    side.answer(2, (Attribute(CKA_LABEL, b"abc"),))
    assert side.names[3:] == ["C_SeedRandom 10", "C_SetAttributeValue 10"]
    assert len(side.found) == 1


def test_nothing_follows_behind_what_may_close_the_session() -> None:
    side = Reader()
    side.read((7,), query(LABEL, follow=True))
    side.ask("C_CloseAllSessions", 0)
    side.answer(1, (Attribute(CKA_LABEL, Null(3)),))
    (((finding,),),) = side.found
    assert (finding.answer.rv, finding.followed) == (0, None)
    assert len(side.asked) == 3


def test_what_is_too_much_is_left_out() -> None:
    side = Reader()
    objects = tuple(range(1, 201))
    side.read(objects, *[query(CLASS)] * 2)
    assert len(side.asked) == 1 + MOST
    for index in range(MOST):
        side.answer(1 + index, (Attribute(CKA_CLASS, 3),))
    assert len(side.found[0]) == MOST // 2
    side.read(objects[:9], query(CLASS), room=100)
    for index in range(9):
        side.answer(1 + MOST + index, (Attribute(CKA_CLASS, 3),))
    assert len(side.found[1]) == 2
    side.read(objects[:1], query(LABEL, follow=True))
    side.answer(10 + MOST, (Attribute(CKA_LABEL, Null(1 << 20)),))
    assert side.found[2][0][0].followed is None


def test_nothing_to_ask() -> None:
    side = Reader()
    side.read((1, 2))
    side.read((), query(LABEL))
    assert side.found == [(), ()]
    assert len(side.asked) == 1


def test_a_query_that_the_protocol_can_not_carry() -> None:
    side = Reader()
    nested: Template = (Attribute(CKA_WRAP_TEMPLATE, (Attribute(CKA_ID, RoomBytes(4)),)),)
    side.read((7,), query(nested), query(CLASS))
    sent = side.queries()
    for index, (_, template) in enumerate(sent):
        values = tuple(Attribute(each.type, 3 if each.type == CKA_CLASS else Unavailable()) for each in template)
        side.answer(1 + index, values)
    assert len(side.found[0][0]) == 2


@pytest.mark.parametrize(
    "body",
    [b"", bytes(11), encode_read_ahead(ReadAhead(9, (Query(False, b"\0"),), (1,)))],
    ids=["empty", "short", "query"],
)
def test_what_is_malformed(body: bytes) -> None:
    side = Reader()
    id_ = side.send(READ_AHEAD, 1, body)
    assert side.answers[-1][0::2] == (id_, RV.CKR_ARGUMENTS_BAD)
    side.ask("C_SeedRandom", 1, b"x")
    assert side.names[-1] == "C_SeedRandom 10"


def test_no_session() -> None:
    side = Reader()
    side.send(READ_AHEAD, 5, encode_read_ahead(ReadAhead(9, (query(CLASS),), (1,))))
    assert side.answers[-1][2] == RV.CKR_SESSION_HANDLE_INVALID
