"""A p11-kit client and a p11-kit server do not see that the bridge is between them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bridge.ends import SERVERS_SESSION, Joined
from tests.p11kit import strategies

from keyway.cryptoki import RV, Kind, Target, Unavailable
from keyway.cryptoki.constants import CKF_DONT_BLOCK
from keyway.p11kit import (
    DIALECTS,
    Dialect,
    Message,
    NotCarried,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
    reply_kinds,
)

PAIRS = [
    (dialect, message)
    for dialect in DIALECTS
    for message in strategies.messages(dialect)
    if message.name != "C_OpenSession"
]
RVS = st.integers(1, 2**64 - 1) | st.sampled_from([int(rv) for rv in RV if rv])


def joined(client: Dialect, server: Dialect, message: Message) -> tuple[Joined, int]:
    """Both halves, with an open session if the call is about one, and what the client is to name."""
    both = Joined(client, server)
    if message.call.target is not Target.SESSION:
        return both, 5
    both.open()
    return both, 1


def replies(message: Message, values: tuple[object, ...]) -> st.SearchStrategy[Reply]:
    """What a server may answer: results, or an RV."""
    good = strategies.results(message.call, values).map(lambda results: Reply(_fitting(message, results), results))
    return good | RVS.map(Reply)


def _fitting(message: Message, results: tuple[object, ...]) -> int:
    if Kind.TEMPLATE_OUT not in reply_kinds(message.call):
        return 0
    (entries,) = results
    assert isinstance(entries, tuple)
    is_lost = any(entry.value == Unavailable() for entry in entries)
    return int(RV.CKR_ATTRIBUTE_TYPE_INVALID) if is_lost else 0


@pytest.mark.parametrize(
    ("dialect", "message"), PAIRS, ids=lambda value: value.name if isinstance(value, Message) else str(value.version)
)
def test_each_call_between_ends_of_one_release(dialect: Dialect, message: Message) -> None:
    call = message.call

    @settings(max_examples=15, database=None)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        both, target = joined(dialect, dialect, message)
        values = data.draw(strategies.requests(dialect, call))
        if call.name == "C_WaitForSlotEvent":
            values = (values[0] | CKF_DONT_BLOCK, *values[1:])
        body = encode_request(dialect, call, target if call.target is not Target.NONE else 0, values)
        reply = data.draw(replies(message, values))
        alone = encode_reply(dialect, decode_request(dialect, body), reply)
        assert both.call(body, reply) == alone
        seen = both.seen[-1]
        assert (seen.call, seen.values) == (call, values)
        assert seen.target == {Target.NONE: 0, Target.SLOT: 5, Target.SESSION: SERVERS_SESSION}[call.target]
        assert (both.front.pending, both.back.pending, both.back.waiting) == (0, 0, 0)

    run()


@settings(max_examples=600)
@given(strategies.dialects, strategies.dialects, st.data())
def test_releases_that_do_not_understand_one_another(client: Dialect, server: Dialect, data: st.DataObject) -> None:
    message = data.draw(st.sampled_from([message for of, message in PAIRS if of is client]))
    call = message.call
    both, target = joined(client, server, message)
    values = data.draw(strategies.requests(client, call))
    if call.name == "C_WaitForSlotEvent":
        values = (values[0] | CKF_DONT_BLOCK, *values[1:])
    body = encode_request(client, call, target if call.target is not Target.NONE else 0, values)
    request = decode_request(client, body)
    reply = data.draw(replies(message, values))
    count = len(both.seen)
    came = both.call(body, reply)
    sent, refusal = _sent(server, request)
    if sent is None:
        assert came == encode_error(refusal)
        assert len(both.seen) == count
    else:
        assert both.seen[-1].values == sent.values
        passed = decode_reply(server, request, encode_reply(server, sent, reply))
        assert came == encode_reply(client, request, passed)


def _sent(server: Dialect, request: Request) -> tuple[Request | None, int]:
    try:
        return decode_request(server, encode_request(server, request.call, 0, request.values)), 0
    except NotCarried as error:
        return None, error.rv


def test_a_session_that_is_closed_is_not_asked_for_again() -> None:
    both = Joined(DIALECTS[2], DIALECTS[0])
    both.open()
    both.good("C_CloseSession", target=1)
    body = encode_request(DIALECTS[2], both.seen[-1].call, 1, ())
    assert both.call(body, Reply(0)) == encode_error(RV.CKR_SESSION_HANDLE_INVALID)
    assert [request.call.name for request in both.seen] == ["C_OpenSession", "C_CloseSession"]


def test_a_wait_that_would_block_the_server_is_not_sent() -> None:
    both = Joined(DIALECTS[2], DIALECTS[2])
    call = next(message.call for _, message in PAIRS if message.name == "C_WaitForSlotEvent")
    body = encode_request(DIALECTS[2], call, 0, (0, 0, False))
    assert both.call(body, Reply(0, (7,))) == encode_error(RV.CKR_FUNCTION_NOT_SUPPORTED)
    assert both.seen == []
