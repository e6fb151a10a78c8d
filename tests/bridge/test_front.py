"""What Front does beside translating: numbers, damage, and what the known attacks on stock servers come to."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bridge.ends import messages, native
from tests.p11kit import strategies
from tests.wire import strategies as wire

from keyway.bridge import Front
from keyway.cryptoki import (
    CALLS,
    RV,
    Attribute,
    Fill,
    Mechanism,
    Null,
    Numbers,
    Output,
    Room,
    RoomBytes,
    Unchanged,
    call_named,
)
from keyway.p11kit import (
    DIALECTS,
    MAX_OUTPUT,
    DecodeError,
    Dialect,
    Reply,
    Request,
    decode_reply,
    encode_error,
    encode_request,
)
from keyway.wire import Flags, Header, WireError, decode_request, encode_reply, pack

NEWEST = DIALECTS[2]


def asked(front: Front, name: str, target: int, *values: Any, code: int = 1) -> tuple[Header, bytes]:
    ((header, body),) = native(front.request(code, encode_request(NEWEST, call_named(name), target, values)))
    return header, body


def replied(header: Header, *values: Any, rv: int = 0) -> bytes:
    body = encode_reply(CALLS[header.call - 1], values)
    return pack(header.reply(rv), body)


def start(id_: int, letters: bytes) -> bytes:
    return id_.to_bytes(4, "big") + len(letters).to_bytes(4, "big") + letters


def test_replies_find_their_requests_in_any_order() -> None:
    front = Front(NEWEST)
    first, _ = asked(front, "C_Sign", 1, b"a", Room(9, True), code=5)
    second, _ = asked(front, "C_Sign", 2, b"b", Room(9, True), code=5)
    assert (first.id, second.id, first.target, second.target, front.pending) == (1, 2, 1, 2, 2)
    came = messages(front.replies(replied(second, Output(1, b"B")) + replied(first, Output(1, b"A"))))
    assert [(frame.code, frame.body[-1:]) for frame in came] == [(5, b"B"), (5, b"A")]
    assert front.pending == 0


def test_what_the_daemon_says_unasked_is_not_passed_on() -> None:
    front = Front(NEWEST)
    unasked = pack(Header(0, 0x3002, Flags.REPLY | Flags.POSTED, 0, 0, 0), b"anything")
    header, _ = asked(front, "C_Logout", 1)
    assert front.replies(unasked) == b""
    (frame,) = messages(front.replies(unasked + replied(header) + unasked))
    assert frame.body == start(19, b"")


@pytest.mark.parametrize("damage", ["id", "again", "header", "body", "id 0"])
def test_a_reply_to_nothing_is_the_daemons_mistake(damage: str) -> None:
    front = Front(NEWEST)
    header, _ = asked(front, "C_Sign", 1, b"a", Room(9, True))
    good = replied(header, Output(1, b"A"))
    if damage == "again":
        front.replies(good)
    data = {
        "id": replied(header._replace(id=9), Output(1, b"A")),
        "again": good,
        "header": good[:31],
        "body": good[:-1],
        "id 0": pack(Header(0, 43, Flags.REPLY, 0, 0, 0)),
    }[damage]
    with pytest.raises(WireError):
        front.replies(data)


def test_sessions_are_numbered_and_the_client_is_named() -> None:
    front = Front(NEWEST, b"p11tool")
    header, body = asked(front, "C_Initialize", 0, 0, b"reserved", b"")
    assert decode_request(call_named("C_Initialize"), header.object, body)[1:] == (b"reserved", b"p11tool")
    chosen = []
    for rv in (0, RV.CKR_SESSION_COUNT, 0):
        header, body = asked(front, "C_OpenSession", 7, 4, 0)
        flags, session = decode_request(call_named("C_OpenSession"), header.object, body)
        assert flags == 4
        assert isinstance(session, int)
        chosen.append(session)
        (frame,) = messages(front.replies(replied(header, rv=rv)))
        assert frame.body == (encode_error(rv) if rv else start(10, b"u") + session.to_bytes(8, "big"))
    assert chosen == [1, 2, 3]


def test_nothing_but_the_mechanism_is_kept_of_a_call() -> None:
    front = Front(NEWEST)
    asked(front, "C_Login", 1, 1, b"a PIN")
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for _ in range(20):
            asked(front, "C_Sign", 1, bytes(1_000_000), Room(9, True))
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    assert sum(change.size_diff for change in after.compare_to(before, "filename")) < 1_000_000
    assert front.pending == 21


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.version))
def test_hidden_mechanisms_are_named_and_the_list_is_whole(dialect: Dialect) -> None:
    front = Front(dialect)
    call = call_named("C_GetMechanismList")
    types = (0x1, 0x1082, 0x1087, 0x1057, 0x8000_0001)
    for room, results in ((Room(0, False), Numbers(5, None)), (Room(5, True), Numbers(5, types))):
        ((header, _),) = native(front.request(1, encode_request(dialect, call, 7, (room,))))
        (frame,) = messages(front.replies(replied(header, results)))
        request = Request(call, 7, (room,))
        assert decode_reply(dialect, request, frame.body) == Reply(0, (results,))
    assert front.hidden == frozenset(types[3:] if dialect.version else types[1:])


@pytest.mark.parametrize(
    ("body", "rv"),
    [
        (b"", RV.CKR_ARGUMENTS_BAD),
        (bytes(4), RV.CKR_FUNCTION_NOT_SUPPORTED),
        (start(0, b"u") + bytes(8), RV.CKR_FUNCTION_NOT_SUPPORTED),
        (start(90, b""), RV.CKR_FUNCTION_NOT_SUPPORTED),
        (start(0xFFFF_FFFF, b""), RV.CKR_FUNCTION_NOT_SUPPORTED),
        (start(43, b"uay"), RV.CKR_ARGUMENTS_BAD),
        (start(43, b"uayfy\0"), RV.CKR_ARGUMENTS_BAD),
        (start(43, b"uayfy")[:-1], RV.CKR_ARGUMENTS_BAD),
        (start(43, b"uayfy"), RV.CKR_ARGUMENTS_BAD),
        (start(43, b"uayfy") + bytes(8) + b"\1\x7f\xff\xff\xff", RV.CKR_ARGUMENTS_BAD),
        (start(43, b"uayfy") + bytes(8) + b"\2" + bytes(8), RV.CKR_ARGUMENTS_BAD),
        (start(26, b"uaA") + bytes(8) + b"\x7f\xff\xff\xff", RV.CKR_ARGUMENTS_BAD),
        (start(26, b"uaA") + bytes(8) + b"\0\0\0\1\x40\0\2\x11\1\0\0\0\x18" * 9 + bytes(4), RV.CKR_ARGUMENTS_BAD),
        (
            start(24, b"uufA") + bytes(16) + b"\0\0\0\1\x40\0\2\x11\0\0\0\x18" * 500 + bytes(4),
            RV.CKR_ARGUMENTS_BAD,
        ),
        (start(69, b"uayayayfy") + bytes(8) + b"\1\0\0\0\x08" + bytes(8), RV.CKR_MECHANISM_PARAM_INVALID),
        (start(79, b"uayayfy") + bytes(8) + b"\1\0\0\0\x30" + bytes(48), RV.CKR_MECHANISM_PARAM_INVALID),
        (start(42, b"uMu") + bytes(8) + b"\0\0\x10\x57\1\0\0\0\x20" + bytes(40), RV.CKR_MECHANISM_PARAM_INVALID),
        (start(1, b"ayyay") + b"\1\0\0\0\0\0\1\0\0\0\0", RV.CKR_GENERAL_ERROR),
        (start(64, b"ufy") + bytes(8) + b"\x7f\xff\xff\xff", RV.CKR_HOST_MEMORY),
    ],
)
def test_what_ends_a_stock_server_is_refused(body: bytes, rv: RV) -> None:
    front = Front(NEWEST)
    with pytest.raises(DecodeError) as refused:
        front.request(3, body)
    assert refused.value.rv == rv
    assert messages(front.error(3, rv)) == [(3, encode_error(rv), b"")]
    assert front.pending == 0


def test_code_0_is_no_code() -> None:
    with pytest.raises(DecodeError):
        Front(NEWEST).request(0, start(3, b""))


@pytest.mark.parametrize(
    ("id_", "letters", "name"), [(41, b"ufy", "C_DigestFinal"), (16, b"ufy", "C_GetOperationState")]
)
def test_an_order_of_two_gigabytes_is_lowered_to_what_a_reply_may_hold(id_: int, letters: bytes, name: str) -> None:
    for dialect in DIALECTS:
        ((header, body),) = native(Front(dialect).request(1, start(id_, letters) + bytes(8) + b"\x7f\xff\xff\xff"))
        assert decode_request(call_named(name), header.object, body) == (Room(MAX_OUTPUT, True),)


def test_a_client_that_speaks_an_old_version_may_order_an_empty_buffer() -> None:
    for dialect, fill in zip(DIALECTS, (Fill(True, 0), Fill(False, 0), Fill(False, 0)), strict=True):
        ((header, body),) = native(Front(dialect).request(1, start(64, b"ufy") + bytes(12)))
        assert decode_request(call_named("C_GenerateRandom"), header.object, body) == (fill,)


def test_values_that_need_more_bytes_there_than_here(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(NEWEST)
    body = encode_request(NEWEST, call_named("C_Login"), 1, (1, bytes(100)))
    monkeypatch.setattr("keyway.wire.codec.MAX_BODY", 100)
    with pytest.raises(DecodeError) as refused:
        front.request(1, body)
    assert refused.value.rv == RV.CKR_HOST_MEMORY
    assert front.pending == 0


@settings(max_examples=1000)
@given(strategies.dialects, st.data())
def test_any_message_is_a_frame_or_an_error(dialect: Dialect, data: st.DataObject) -> None:
    front = Front(dialect)
    body = data.draw(strategies.bodies(dialect) | st.binary(max_size=100))
    try:
        frame = front.request(1, body)
    except DecodeError:
        assert front.pending == 0
        return
    ((header, values),) = native(frame)
    call = CALLS[header.call - 1]
    assert not call.local
    decode_request(call, header.object, values)
    # Whatever the other side answers, the client gets one message.
    answer = data.draw(st.binary(max_size=60) | wire.replies(call).map(lambda results: encode_reply(call, results)))
    rv = data.draw(st.just(0) | st.sampled_from([int(rv) for rv in RV]) | wire.u64)
    (came,) = messages(front.replies(pack(header.reply(rv), answer)))
    assert came.code == 1
    assert front.pending == 0


@pytest.mark.parametrize(
    ("name", "values", "results", "rv"),
    [
        ("C_GetOperationState", (Room(9, True),), (Output(None, b"x"),), RV.CKR_BUFFER_TOO_SMALL),
        ("C_GenerateRandom", (Fill(True, 8),), (Null(2**64 - 1),), RV.CKR_OK),
        ("C_DeriveKey", (Mechanism(0x1059), 7, (), 0), (Unchanged(), None), RV.CKR_OK),
        ("C_GetSessionInfo", (True,), (None,), RV.CKR_OK),
        (
            "C_GetAttributeValue",
            (7, (Attribute(0x4000_0211, (Attribute(0, RoomBytes(9)),)),)),
            ((Attribute(0x4000_0211, (Attribute(2**32, b"x"),)),),),
            RV.CKR_OK,
        ),
    ],
)
def test_results_that_no_reply_can_hold_are_an_error_of_that_call(
    name: str, values: tuple[Any, ...], results: tuple[Any, ...], rv: RV
) -> None:
    front = Front(NEWEST)
    header, _ = asked(front, name, 1, *values)
    (frame,) = messages(front.replies(replied(header, *results, rv=rv)))
    assert frame.body == encode_error(RV.CKR_DEVICE_ERROR)
