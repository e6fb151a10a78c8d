"""What Back does beside translating: refusals, fused and posted calls, sessions whose handles come again, and damage."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bridge.ends import messages, native
from tests.p11kit import strategies
from tests.wire import strategies as wire

from keyway.bridge import Back, Step
from keyway.cryptoki import CALLS, RV, Mechanism, Null, Output, Room, Structured, Target, Unchanged, call_named
from keyway.p11kit import DIALECTS, DecodeError, Dialect, Reply, Request, decode_request, encode_error, encode_reply
from keyway.wire import Flags, Header, decode_reply, encode_fused, encode_request

NEWEST = DIALECTS[2]
SIGN_INIT = call_named("C_SignInit")
SIGN = call_named("C_Sign")
SEED = call_named("C_SeedRandom")
BARE = Mechanism(1)
ROOM = Room(9, True)


class Native:
    """The native side of a Back: asks, and sees what comes."""

    def __init__(self, dialect: Dialect = NEWEST) -> None:
        self.dialect = dialect
        self.back = Back(dialect)
        self.codes: list[int] = []
        self.asked: list[Request] = []
        self.answers: list[tuple[int, int, int]] = []
        self._id = 0

    def ask(self, name: str, target: int, *values: Any, flags: int = 0) -> int:
        object_, body = encode_request(call_named(name), values)
        return self.send(call_named(name).number, target, body, object_, flags)

    def fused(self, target: int, mechanism: Any = BARE, room: Any = ROOM, flags: int = 0) -> int:
        object_, body = encode_fused(SIGN, (mechanism, 7), (b"data", room))
        return self.send(SIGN.number, target, body, object_, flags | Flags.FUSED)

    def send(self, number: int, target: int, body: bytes = b"", object_: int = 0, flags: int = 0) -> int:
        self._id += 1
        self._take(self.back.request(Header(len(body), number, flags, self._id, target, object_), body))
        return self._id

    def answer(self, index: int, *values: Any, rv: int = 0, session: int = 0) -> None:
        """Let the server answer one of its calls; they are counted from 0."""
        body = encode_reply(self.dialect, self.asked[index], Reply(rv, values, session))
        self._take(self.back.reply(self.codes[index], body))

    def open(self, session: int, handle: int, slot: int = 0) -> None:
        self.ask("C_OpenSession", slot, 4, session)
        self.answer(-1, session=handle)

    @property
    def names(self) -> list[str]:
        """The calls that the server got, with their targets."""
        return [f"{request.call.name} {request.target}" for request in self.asked]

    def _take(self, step: Step) -> None:
        for frame in messages(step.send):
            self.codes.append(frame.code)
            self.asked.append(decode_request(self.dialect, frame.body))
        for header, body in native(step.deliver):
            if body:
                decode_reply(SIGN_INIT if header.flags & Flags.INIT else CALLS[header.call - 1], body)
            self.answers.append((header.id, header.flags, header.rv))


@pytest.mark.parametrize(
    ("number", "flags", "rv"),
    [
        (0, 0, RV.CKR_FUNCTION_NOT_SUPPORTED),
        (4, 0, RV.CKR_FUNCTION_NOT_SUPPORTED),
        (105, 0, RV.CKR_FUNCTION_NOT_SUPPORTED),
        (0x3001, 0, RV.CKR_ARGUMENTS_BAD),
        (0x3001, Flags.FUSED, RV.CKR_ARGUMENTS_BAD),
        (0x3002, 0, RV.CKR_FUNCTION_NOT_SUPPORTED),
        (0x4000, 0, RV.CKR_FUNCTION_NOT_SUPPORTED),
        (SEED.number, Flags.FUSED, RV.CKR_ARGUMENTS_BAD),
        (SEED.number, Flags.REPLY, RV.CKR_ARGUMENTS_BAD),
        (SEED.number, 0x10, RV.CKR_ARGUMENTS_BAD),
        (SEED.number, 0, RV.CKR_ARGUMENTS_BAD),
        (SIGN.number, Flags.FUSED, RV.CKR_ARGUMENTS_BAD),
    ],
)
def test_what_is_refused_is_not_sent(number: int, flags: int, rv: int) -> None:
    side = Native()
    side.open(1, 10)
    id_ = side.send(number, 1, b"\0", flags=flags)
    header = Header(1, number, flags | Flags.POSTED, 99, 1, 0)
    assert side.back.request(header, b"\0") == Step()
    assert side.answers[1:] == [(id_, Flags.REPLY, rv)]
    assert len(side.asked) == 1


@pytest.mark.parametrize("name", ["C_GetFunctionStatus", "C_CancelFunction"])
def test_functions_of_the_past_are_answered_as_by_the_stock_client(name: str) -> None:
    side = Native()
    side.open(1, 10)
    side.ask(name, 1)
    assert side.answers[-1][2] == RV.CKR_FUNCTION_NOT_PARALLEL


def test_calls_that_an_old_server_does_not_have() -> None:
    side = Native(DIALECTS[0])
    side.open(1, 10)
    side.ask("C_SessionCancel", 1, 0)
    side.ask("C_EncapsulateKey", 1, Mechanism(1), 7, (), Room(9, True), 0)
    assert [rv for _, _, rv in side.answers[1:]] == [RV.CKR_FUNCTION_NOT_SUPPORTED] * 2


def test_a_session_that_nobody_opened() -> None:
    side = Native()
    side.ask("C_GetSessionInfo", 1, True)
    assert side.answers == [(1, Flags.REPLY, RV.CKR_SESSION_HANDLE_INVALID)]
    assert side.asked == []


@pytest.mark.parametrize("handle", [None, 0, 1, 2])
def test_handles_that_can_not_be_chosen(handle: int | None) -> None:
    side = Native()
    side.open(1, 10)
    side.ask("C_OpenSession", 0, 4, 2)
    side.ask("C_OpenSession", 0, 4, handle)
    assert side.answers[-1] == (3, Flags.REPLY, RV.CKR_ARGUMENTS_BAD)
    assert len(side.asked) == 2


def test_a_handle_may_be_chosen_again_when_the_server_refused() -> None:
    side = Native()
    side.ask("C_OpenSession", 0, 4, 1)
    side.answer(-1, rv=RV.CKR_SESSION_COUNT)
    side.open(1, 10)
    assert [rv for _, _, rv in side.answers] == [RV.CKR_SESSION_COUNT, 0]


def test_a_fused_pair_is_two_messages_and_others_wait() -> None:
    side = Native()
    side.open(1, 10)
    side.open(2, 20)
    sign = side.fused(1)
    after = side.ask("C_SeedRandom", 1, b"later")
    side.ask("C_SeedRandom", 2, b"now")
    assert side.back.waiting
    assert side.names[2:] == ["C_SignInit 10", "C_SeedRandom 20"]
    side.answer(2, Unchanged())
    assert side.names[4:] == ["C_Sign 10", "C_SeedRandom 10"]
    assert side.back.waiting == 0
    side.answer(5)
    side.answer(4, Output(1, b"s"))
    assert side.answers[2:] == [(after, Flags.REPLY, 0), (sign, Flags.REPLY, 0)]


def test_waiting_calls_without_a_body_count_too() -> None:
    side = Native()
    side.open(1, 10)
    side.fused(1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            side.ask("C_FindObjectsFinal", 1, flags=Flags.POSTED)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < side.back.waiting
    side.answer(1, rv=RV.CKR_KEY_HANDLE_INVALID)
    assert side.back.waiting == 0


def test_an_init_that_fails_ends_its_pair() -> None:
    side = Native()
    side.open(1, 10)
    sign = side.fused(1)
    again = side.fused(1)
    side.answer(1, rv=RV.CKR_KEY_HANDLE_INVALID)
    assert side.answers[1:] == [(sign, Flags.REPLY | Flags.INIT, RV.CKR_KEY_HANDLE_INVALID)]
    assert side.names[1:] == ["C_SignInit 10", "C_SignInit 10"]
    side.answer(2, Unchanged())
    side.answer(3, rv=RV.CKR_DATA_LEN_RANGE)
    assert side.answers[2:] == [(again, Flags.REPLY, RV.CKR_DATA_LEN_RANGE)]


def test_pairs_of_which_one_half_can_not_be_carried() -> None:
    side = Native()
    side.open(1, 10)
    pointers = Mechanism(0x1057, Structured(42, (b"iv", 0, b"", 0)))
    side.fused(1, pointers)
    side.fused(1, room=Room(None, True))
    assert side.answers[1:] == [
        (2, Flags.REPLY | Flags.INIT, RV.CKR_MECHANISM_PARAM_INVALID),
        (3, Flags.REPLY, RV.CKR_ARGUMENTS_BAD),
    ]
    assert len(side.asked) == 1


def test_posted_calls_are_made_and_not_answered() -> None:
    side = Native()
    side.open(1, 10)
    side.ask("C_SeedRandom", 1, b"seed", flags=Flags.POSTED)
    side.fused(1, flags=Flags.POSTED)
    side.answer(1)
    side.answer(2, rv=RV.CKR_KEY_HANDLE_INVALID)
    side.ask("C_CloseSession", 1, flags=Flags.POSTED)
    side.answer(3)
    side.ask("C_SeedRandom", 1, b"seed")
    assert side.answers[1:] == [(5, Flags.REPLY, RV.CKR_SESSION_HANDLE_INVALID)]
    assert side.back.pending == 0


def test_nothing_is_sent_behind_the_end_of_a_session() -> None:
    side = Native()
    side.open(1, 10)
    side.ask("C_CloseSession", 1)
    side.ask("C_SeedRandom", 1, b"too late")
    # The server gives the handle again before it says that the session is closed.
    side.ask("C_OpenSession", 0, 4, 2)
    side.answer(2, session=10)
    side.answer(1)
    assert side.answers[1:] == [
        (4, Flags.REPLY, 0),
        (3, Flags.REPLY, RV.CKR_SESSION_HANDLE_INVALID),
        (2, Flags.REPLY, 0),
    ]
    side.ask("C_SeedRandom", 2, b"seed")
    assert side.names[3:] == ["C_SeedRandom 10"]


def test_what_waited_is_sent_when_a_session_stays_open() -> None:
    side = Native()
    side.open(1, 10)
    side.ask("C_CloseSession", 1)
    side.ask("C_SeedRandom", 1, b"seed")
    side.answer(1, rv=RV.CKR_FUNCTION_FAILED)
    assert side.names[2:] == ["C_SeedRandom 10"]


def test_an_operation_does_not_follow_its_init_into_a_closed_session() -> None:
    side = Native()
    side.open(1, 10)
    side.fused(1)
    side.ask("C_CloseAllSessions", 0)
    side.answer(2)
    side.answer(1, Unchanged())
    assert side.answers[1:] == [(3, Flags.REPLY, 0), (2, Flags.REPLY, RV.CKR_SESSION_HANDLE_INVALID)]
    assert side.names[3:] == []


def test_an_operation_waits_until_its_session_is_known_to_stay() -> None:
    side = Native()
    side.open(1, 10)
    side.fused(1)
    side.ask("C_CloseAllSessions", 0)
    side.ask("C_SeedRandom", 1, b"seed")
    side.answer(1, Unchanged())
    assert side.names[3:] == []
    side.answer(2, rv=RV.CKR_FUNCTION_FAILED)
    assert side.names[3:] == ["C_Sign 10", "C_SeedRandom 10"]


def test_all_sessions_of_a_slot_are_those_that_were_asked_for_before() -> None:
    side = Native()
    side.open(1, 10)
    side.open(2, 20, slot=5)
    side.ask("C_OpenSession", 0, 4, 3)
    side.ask("C_CloseAllSessions", 0)
    side.ask("C_OpenSession", 0, 4, 4)
    side.answer(4, session=40)
    side.answer(2, session=30)
    side.answer(3)
    for session in (1, 2, 3, 4):
        side.ask("C_SeedRandom", session, b"seed")
    assert side.names[5:] == ["C_SeedRandom 20", "C_SeedRandom 40"]


@pytest.mark.parametrize("order", [(3, 1, 2), (3, 2, 1), (2, 3, 1), (2, 1, 3), (1, 3, 2), (1, 2, 3)])
def test_a_handle_that_comes_again_is_that_of_the_younger_session(order: tuple[int, ...]) -> None:
    """The server answers an opening, the end of all, and another opening, in whatever order."""
    side = Native()
    side.open(9, 90, slot=5)
    side.ask("C_OpenSession", 0, 4, 1)
    side.ask("C_CloseAllSessions", 0)
    side.ask("C_OpenSession", 0, 4, 2)
    for index in order:
        side.answer(index, session=10)
    side.ask("C_SeedRandom", 1, b"old")
    side.ask("C_SeedRandom", 2, b"new")
    (seed,) = side.asked[4:]
    assert (seed.target, seed.values) == (10, (b"new",))


def test_a_module_that_is_finalized_has_no_sessions() -> None:
    side = Native()
    side.open(1, 10)
    side.ask("C_Finalize", 0)
    side.answer(1)
    side.ask("C_SeedRandom", 1, b"seed")
    assert side.answers[-1][2] == RV.CKR_SESSION_HANDLE_INVALID


def test_an_answer_to_nothing_breaks_the_connection() -> None:
    side = Native()
    side.ask("C_GetInfo", 0, True)
    for code in (0, side.codes[0] + 1):
        with pytest.raises(DecodeError):
            side.back.reply(code, encode_error(RV.CKR_GENERAL_ERROR))
    side.back.reply(side.codes[0], encode_error(RV.CKR_GENERAL_ERROR))
    with pytest.raises(DecodeError):
        side.back.reply(side.codes[0], encode_error(RV.CKR_GENERAL_ERROR))


@pytest.mark.parametrize("body", [b"", bytes(8), encode_error(1)[:-1], encode_error(1)[:-8] + bytes(8), bytes(100)])
def test_an_answer_that_is_none_fails_its_call_alone(body: bytes) -> None:
    side = Native()
    side.open(1, 10)
    side.ask("C_GetObjectSize", 1, 7, 0)
    side.fused(1)
    for code in side.codes[1:]:
        side._take(side.back.reply(code, body))
    assert side.answers[1:] == [
        (2, Flags.REPLY, RV.CKR_DEVICE_ERROR),
        (3, Flags.REPLY | Flags.INIT, RV.CKR_DEVICE_ERROR),
    ]
    side.ask("C_SeedRandom", 1, b"seed")
    assert side.names[3:] == ["C_SeedRandom 10"]


def test_more_than_there_was_room_for_is_the_length_alone() -> None:
    side = Native()
    side.open(1, 10)
    object_, body = encode_request(SIGN, (b"data", Room(3, True)))
    header = Header(len(body), SIGN.number, 0, 9, 1, object_)
    (frame,) = messages(side.back.request(header, body).send)
    answer = encode_reply(NEWEST, decode_request(NEWEST, frame.body), Reply(0, (Output(4, b"four"),)))
    ((came, values),) = native(side.back.reply(frame.code, answer).deliver)
    assert came.rv == RV.CKR_BUFFER_TOO_SMALL
    assert decode_reply(SIGN, values) == (Output(4, None),)


def test_neither_data_nor_pins_are_kept() -> None:
    side = Native()
    side.open(1, 10)
    object_, body = encode_request(SIGN, (bytes(1_000_000), Room(9, True)))
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for id_ in range(20):
            side.back.request(Header(len(body), SIGN.number, 0, 100 + id_, 1, object_), body)
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    assert sum(change.size_diff for change in after.compare_to(before, "filename")) < 1_000_000
    assert side.back.pending == 20


@settings(max_examples=1000)
@given(strategies.dialects, st.data())
def test_any_request_is_sent_or_answered(dialect: Dialect, data: st.DataObject) -> None:
    side = Native(dialect)
    side.open(1, 10)
    call = data.draw(wire.calls)
    object_, body = encode_request(call, data.draw(wire.requests(call)))
    number = data.draw(st.just(call.number) | st.integers(0, 0xFFFF))
    body = data.draw(st.just(body) | strategies.damaged(body) | st.binary(max_size=60))
    flags = data.draw(st.sampled_from([0, 0, 0, Flags.FUSED, Flags.POSTED, Flags.FUSED | Flags.POSTED, Flags.INIT]))
    target = 1 if call.target is Target.SESSION else data.draw(st.integers(0, 2))
    step = side.back.request(Header(len(body), number, flags, 9, target, object_), body)
    sent = messages(step.send)
    answers = native(step.deliver)
    assert len(sent) + len(answers) == (1 if sent or not flags & Flags.POSTED else 0)
    # Whatever the server answers, the native side gets one frame.
    while sent:
        (frame,) = sent
        decode_request(dialect, frame.body)
        answer = data.draw(st.binary(max_size=60) | strategies.damaged(frame.body) | st.just(encode_error(5)))
        step = side.back.reply(frame.code, answer)
        sent = messages(step.send)
        answers += native(step.deliver)
    assert side.back.pending == 0
    assert len(answers) == (0 if flags & Flags.POSTED else 1)
    for header, values in answers:
        assert (header.id, header.target, header.call) == (9, target, number)
        if values:
            decode_reply(CALLS[number - 1], values)


@settings(max_examples=1000)
@given(strategies.dialects, st.data())
def test_answers_with_damage(dialect: Dialect, data: st.DataObject) -> None:
    side = Native(dialect)
    side.open(1, 10)
    message = data.draw(st.sampled_from(strategies.messages(dialect)))
    if message.name == "C_OpenSession":
        return
    values = data.draw(strategies.requests(dialect, message.call))
    object_, body = encode_request(message.call, values)
    header = Header(len(body), message.call.number, 0, 9, 1, object_)
    for frame in messages(side.back.request(header, body).send):
        reply = Reply(0, data.draw(strategies.results(message.call, values)))
        answer = data.draw(strategies.damaged(encode_reply(dialect, decode_request(dialect, frame.body), reply)))
        ((came, results),) = native(side.back.reply(frame.code, answer).deliver)
        assert came.id == 9
        decode_reply(message.call, results)


def test_a_null_pointer_where_stock_clients_look() -> None:
    side = Native()
    side.open(1, 10)
    side.ask("C_Sign", 1, Null(5), Room(9, True))
    assert side.asked[-1].values == (Null(5), Room(9, True))
    side.ask("C_GetSessionInfo", 1, False)
    assert side.answers[-1][2] == RV.CKR_ARGUMENTS_BAD
