"""The short ways give byte by byte what the values give, for usual, unusual and damaged input; and the usual input takes them."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.bridge.ends import messages
from tests.p11kit import strategies
from tests.wire import strategies as wire

from keyway.bridge import Back, Front, Step
from keyway.bridge.express_back import WAYS
from keyway.bridge.express_front import REQUESTS
from keyway.cryptoki import (
    CALLS,
    RV,
    Attribute,
    Call,
    Fill,
    Kind,
    LengthAttributes,
    LengthNumbers,
    Mechanism,
    Null,
    NumberArray,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    RoomNumbers,
    Unavailable,
    Unchanged,
    call_named,
)
from keyway.p11kit import (
    DIALECTS,
    MAX_BODY,
    MAX_OUTPUT,
    MESSAGES,
    DecodeError,
    Dialect,
    EncodeError,
    Frame,
    Message,
    NotCarried,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
    pack,
    reply_kinds,
    request_kinds,
)
from keyway.wire import Flags, WireError, decode_fused, encode_fused
from keyway.wire import decode_reply as decode_native_reply
from keyway.wire import decode_request as decode_native
from keyway.wire import encode_reply as encode_native_reply
from keyway.wire import encode_request as encode_native
from keyway.wire.header import HEADER

HANDLE = 0x7700_0000_0000_0011
SHORT = sorted(int.from_bytes(id_, "big") for id_ in REQUESTS[2])
HOT = [
    *("C_Sign", "C_SignUpdate", "C_SignFinal", "C_Verify", "C_VerifyUpdate", "C_VerifyFinal", "C_Digest"),
    *("C_DigestUpdate", "C_DigestFinal", "C_Encrypt", "C_EncryptUpdate", "C_EncryptFinal", "C_Decrypt"),
    *("C_DecryptUpdate", "C_DecryptFinal", "C_SignInit", "C_VerifyInit", "C_EncryptInit", "C_DecryptInit"),
    *("C_DigestInit", "C_GenerateRandom", "C_FindObjects", "C_FindObjectsFinal"),
]


def usual(dialect: Dialect, name: str) -> SearchStrategy[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Values of a call that comes often, as it comes, and its results."""
    call = call_named(name)
    bare = st.sampled_from(sorted(dialect.bare)).map(Mechanism)

    def fitting(values: tuple[Any, ...]) -> SearchStrategy[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        return st.tuples(st.just(values), strategies.results(call, values))

    if name.endswith("Init"):
        arguments = [bare] if name == "C_DigestInit" else [bare, wire.u64]
        return st.tuples(st.tuples(*arguments), st.just((Unchanged(),)))
    unusual = (Room(0, True), Fill(True, 0))
    return (
        strategies.requests(dialect, call)
        .filter(lambda values: not any(isinstance(value, Null) or value in unusual for value in values))
        .flatmap(fitting)
    )


def front_by_values(dialect: Dialect, body: bytes) -> tuple[Request | None, bytes]:
    """What a message is by its values: the call and its native frame, or the answer."""
    try:
        request = decode_request(dialect, body)
    except DecodeError as error:
        return None, encode_error(error.rv)
    object_, values = encode_native(request.call, request.values)
    return request, HEADER.pack(len(values), request.call.number, 0, 1, request.target, object_) + values


def asked(front: Front, body: bytes) -> bytes:
    """What Front makes of a message: a frame, or the answer."""
    try:
        return front.request(1, body)
    except DecodeError as error:
        return encode_error(error.rv)


def reply_by_values(dialect: Dialect, request: Request, rv: int, body: bytes) -> bytes:
    """What a native reply is by its values."""
    try:
        return encode_reply(dialect, request, Reply(rv, decode_native_reply(request.call, body)))
    except (WireError, EncodeError):
        return encode_error(RV.CKR_DEVICE_ERROR)


@st.composite
def short_messages(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """Messages that have a short way: as they come, with every value that travels, or with damage."""
    message: Message = draw(st.sampled_from([message for message in MESSAGES if message.id in SHORT]))
    begin = message.id.to_bytes(4, "big") + len(message.request).to_bytes(4, "big") + message.request.encode()
    version = max(message.since, dialect.version)
    spoken = draw(st.sampled_from([DIALECTS[version], *DIALECTS[message.since :]]))
    body = encode_request(spoken, message.call, draw(wire.u64), draw(strategies.requests(spoken, message.call)))
    arguments = body[8 + len(message.request) :]
    return begin + draw(st.just(arguments) | strategies.damaged(arguments))


@settings(max_examples=800)
@given(strategies.dialects, st.data())
def test_requests_of_clients(dialect: Dialect, data: st.DataObject) -> None:
    body = data.draw(short_messages(dialect))
    front = Front(dialect)
    request, expected = front_by_values(dialect, body)
    frame = asked(front, body)
    assert frame == expected
    if request is None:
        return
    results = wire.replies(request.call).map(lambda results: encode_native_reply(request.call, results))
    likely = strategies.results(request.call, request.values).map(lambda r: encode_native_reply(request.call, r))
    answer = data.draw((likely | results).flatmap(strategies.damaged) | likely | st.binary(max_size=30))
    rv = data.draw(st.sampled_from([0, 0, 0, int(RV.CKR_BUFFER_TOO_SMALL), int(RV.CKR_GENERAL_ERROR)]))
    _, number, _, id_, target, _ = HEADER.unpack_from(frame)
    (came,) = messages(front.replies(HEADER.pack(len(answer), number, Flags.REPLY, id_, target, rv) + answer))
    assert came.body == reply_by_values(dialect, request, rv, answer)


SMALL: dict[str, Any] = {
    "C_Sign": Room(1, True),
    "C_SignFinal": Room(1, True),
    "C_GenerateRandom": Fill(True, 1),
    "C_FindObjects": ObjectsRoom(1, True, True),
}


def neighbours(body: bytes) -> Iterator[bytes]:
    """A body with each byte replaced in turn, cut at each place, and with bytes added."""
    for at, byte in enumerate(body):
        for other in {0, 1, 2, 3, 0xFF, byte ^ 1, (byte + 1) & 0xFF, (byte - 1) & 0xFF} - {byte}:
            yield body[:at] + bytes([other]) + body[at + 1 :]
        yield body[:at]
    for count in (1, 4, 8, 13):
        yield body + bytes(count)


# A call of each form, its values and its results.
FORMS: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
    ("C_Sign", (b"data", Room(9, True)), (Output(3, b"sig"),)),
    ("C_Sign", (b"", Room(0, False)), (Output(3, None),)),
    ("C_Sign", (b"data", Room(2, True)), (Output(3, b"sig"),)),
    ("C_SignFinal", (Room(9, True),), (Output(0, b""),)),
    ("C_SignUpdate", (b"data",), ()),
    ("C_Verify", (b"data", b"sig"), ()),
    ("C_SignInit", (Mechanism(1), 7), (Unchanged(),)),
    ("C_DigestInit", (Mechanism(0x250),), (Unchanged(),)),
    ("C_GenerateRandom", (Fill(True, 4),), (b"4444",)),
    ("C_FindObjects", (ObjectsRoom(3, True, True),), (Numbers(2, (7, 8)),)),
    ("C_FindObjects", (ObjectsRoom(1, True, True),), (Numbers(2, (7, 8)),)),
    ("C_FindObjectsFinal", (), ()),
    ("C_GetObjectSize", (7, 0), (9,)),
    (
        "C_GetAttributeValue",
        (7, tuple(Attribute(type_, RoomNumbers(1) if type_ == 0 else RoomBytes(9)) for type_ in (0, 0x102, 1))),
        ((Attribute(0, 3), Attribute(0x102, b"id"), Attribute(1, b"\1")),),
    ),
    (
        "C_GetAttributeValue",
        (7, tuple(Attribute(type_, Null()) for type_ in (0x100, 1, 3))),
        ((Attribute(0x100, LengthNumbers(1)), Attribute(1, Null(1)), Attribute(3, Null(5))),),
    ),
]
forms = pytest.mark.parametrize(("name", "values", "results"), FORMS)
versions = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.version))


@forms
@versions
def test_the_neighbours_of_messages(
    dialect: Dialect, name: str, values: tuple[Any, ...], results: tuple[Any, ...]
) -> None:
    call = call_named(name)
    body = encode_request(dialect, call, 1, values)
    for neighbour in neighbours(body):
        assert asked(Front(dialect), neighbour) == front_by_values(dialect, neighbour)[1]
    request = decode_request(dialect, body)
    front = Front(dialect)
    for id_, neighbour in enumerate(neighbours(encode_native_reply(call, results)), 1):
        front.request(1, body)
        header = HEADER.pack(len(neighbour), call.number, Flags.REPLY, id_, 1, 0)
        (came,) = messages(front.replies(header + neighbour))
        assert came.body == reply_by_values(dialect, request, 0, neighbour)


@forms
@versions
def test_the_neighbours_of_native_frames(
    dialect: Dialect, name: str, values: tuple[Any, ...], results: tuple[Any, ...]
) -> None:
    call = call_named(name)
    object_, body = encode_native(call, values)
    for neighbour in neighbours(body):
        _, expected, rv = back_by_values(dialect, call, object_, neighbour)
        answered = HEADER.pack(0, call.number, Flags.REPLY, 9, 1, rv)
        step = opened(dialect).request((len(neighbour), call.number, 0, 9, 1, object_), neighbour)
        assert step == (Step(b"", answered) if expected is None else Step(pack(Frame(2, expected))))
    back = opened(dialect)
    request = decode_request(dialect, encode_request(dialect, call, HANDLE, values))
    for code, neighbour in enumerate(neighbours(encode_reply(dialect, request, Reply(0, results))), 2):
        back.request((len(body), call.number, 0, 9, 1, object_), body)
        rv, native = answer_by_values(dialect, call, values, neighbour)
        frame = HEADER.pack(len(native), call.number, Flags.REPLY, 9, 1, rv) + native
        assert back.reply(code, neighbour) == Step(b"", frame)


@pytest.mark.parametrize(("name", "values", "results"), FORMS[-2:])
@versions
def test_usual_queries_take_the_short_way(
    dialect: Dialect, name: str, values: tuple[Any, ...], results: tuple[Any, ...]
) -> None:
    body = encode_request(dialect, call_named(name), 1, values)
    way = REQUESTS[dialect.version][body[:4]]
    assert way.take(body, 1) == front_by_values(dialect, body)[1]
    native = encode_native_reply(call_named(name), results)
    message = way.give(native, 0, len(native), 7)
    assert message is not None
    (came,) = messages(message)
    assert came == (7, reply_by_values(dialect, decode_request(dialect, body), 0, native), b"")


@pytest.mark.parametrize("type_", [0, 1, 3, 0x110, 0x4000_0211, 0x4000_0213, 0x4000_0600, 0x8001_0005, 0x800D_0009])
@pytest.mark.parametrize("size", [0, 1, 4, 7, 8, 16, 24, 2**23, 2**23 + 8, MAX_OUTPUT, MAX_OUTPUT + 8, 2**32 - 1])
@versions
def test_queries_of_every_form(dialect: Dialect, size: int, type_: int) -> None:
    begin = encode_request(dialect, call_named("C_GetAttributeValue"), 1, (7, ()))
    entry = type_.to_bytes(4, "big") + size.to_bytes(4, "big")
    for nested in (b"", bytes(4)):
        body = begin[:-4] + (1).to_bytes(4, "big") + entry + nested
        front = Front(dialect)
        request, expected = front_by_values(dialect, body)
        assert asked(front, body) == expected
        if request is None:
            continue
        values: tuple[Any, ...] = (
            Null(8),
            b"",
            b"8 bytes.",
            8,
            LengthNumbers(1),
            LengthAttributes(1),
            Unavailable(),
            NumberArray((8,)),
            (),
        )
        for id_, value in enumerate(values, 1):
            native = encode_native_reply(request.call, ((Attribute(type_, value),),))
            (came,) = messages(front.replies(HEADER.pack(len(native), request.call.number, 1, id_, 1, 0) + native))
            assert came.body == reply_by_values(dialect, request, 0, native)
            front.request(1, body)


@pytest.mark.parametrize("size", [MAX_OUTPUT, MAX_OUTPUT + 1, 2**31 - 1, 2**32 - 2, 2**32 - 1, 2**32, 2**64 - 1])
@versions
def test_rooms_at_the_limits(dialect: Dialect, size: int) -> None:
    for name, values in (
        ("C_Sign", (b"data", Room(size, True))),
        ("C_Sign", (b"data", Room(size, False))),
        ("C_SignFinal", (Room(size, True),)),
        ("C_GenerateRandom", (Fill(True, size),)),
        ("C_FindObjects", (ObjectsRoom(size, True, True),)),
    ):
        call = call_named(name)
        object_, body = encode_native(call, values)
        _, expected, rv = back_by_values(dialect, call, object_, body)
        answered = HEADER.pack(0, call.number, Flags.REPLY, 9, 1, rv)
        step = opened(dialect).request((len(body), call.number, 0, 9, 1, object_), body)
        assert step == (Step(b"", answered) if expected is None else Step(pack(Frame(2, expected))))
        if size < 2**32:
            usual_body = encode_request(dialect, call, 1, (*values[:-1], SMALL[name]))
            message = usual_body[:-4] + size.to_bytes(4, "big")
            assert asked(Front(dialect), message) == front_by_values(dialect, message)[1]


@versions
def test_more_attributes_than_a_query_may_hold(dialect: Dialect) -> None:
    begin = encode_request(dialect, call_named("C_GetAttributeValue"), 1, (7, ()))
    for count in (4096, 4097):
        body = begin[:-4] + count.to_bytes(4, "big") + bytes(8) * count
        assert asked(Front(dialect), body) == front_by_values(dialect, body)[1]


def test_results_at_the_limits() -> None:
    """What fits a native frame may be too long for a message."""
    dialect = DIALECTS[2]
    for name, values, body in (
        ("C_SignFinal", (Room(9, True),), b"\3" + bytes(8) + (MAX_BODY - 13).to_bytes(4, "big") + bytes(MAX_BODY - 13)),
        ("C_GenerateRandom", (Fill(True, 9),), (MAX_BODY - 4).to_bytes(4, "big") + bytes(MAX_BODY - 4)),
        (
            "C_FindObjects",
            (ObjectsRoom(9, True, True),),
            b"\3" + bytes(8) + (2**20 + 1).to_bytes(4, "big") + bytes(2**23 + 8),
        ),
        (
            "C_GetAttributeValue",
            (7, (Attribute(3, RoomBytes(9)),)),
            (1).to_bytes(4, "big")
            + (3).to_bytes(8, "big")
            + b"\1"
            + (MAX_BODY - 17).to_bytes(4, "big")
            + bytes(MAX_BODY - 17),
        ),
        (
            "C_GetAttributeValue",
            (7, (Attribute(3, RoomBytes(9)),)),
            (4097).to_bytes(4, "big") + ((3).to_bytes(8, "big") + b"\1" + bytes(4)) * 4097,
        ),
    ):
        call = call_named(name)
        front = Front(dialect)
        front.request(1, encode_request(dialect, call, 1, values))
        (came,) = messages(front.replies(HEADER.pack(len(body), call.number, Flags.REPLY, 1, 1, 0) + body))
        assert came.body == encode_error(RV.CKR_DEVICE_ERROR)


@pytest.mark.parametrize("name", HOT)
@versions
def test_what_a_client_sends_often_takes_the_short_way(dialect: Dialect, name: str) -> None:
    call = call_named(name)

    @settings(max_examples=10, database=None)
    @given(usual(dialect, name))
    def run(drawn: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
        values, results = drawn
        body = encode_request(dialect, call, 1, values)
        way = REQUESTS[dialect.version][body[:4]]
        assert way.take(body, 1) == front_by_values(dialect, body)[1]
        answer = encode_native_reply(call, results)
        message = way.give(answer, 0, len(answer), 7)
        assert message is not None
        (came,) = messages(message)
        assert came == (7, reply_by_values(dialect, decode_request(dialect, body), 0, answer), b"")

    run()


@pytest.mark.parametrize("body", [bytes(12), b"\3" + bytes(12), b"", b"\3", b"\1" + bytes(7)])
def test_replies_are_not_read_behind_their_end(body: bytes) -> None:
    """What follows in the same piece of the stream is another reply's."""
    for name, values in (("C_Sign", (b"data", Room(9, True))), ("C_FindObjects", (ObjectsRoom(9, True, True),))):
        front = Front(DIALECTS[2])
        call = call_named(name)
        request = encode_request(DIALECTS[2], call, 1, values)
        front.request(1, request)
        front.request(2, request)
        good = encode_native_reply(call, (Output(1, b"x") if name == "C_Sign" else Numbers(1, (7,)),))
        header = HEADER.pack(len(body), call.number, Flags.REPLY, 1, 1, 0)
        other = HEADER.pack(len(good), call.number, Flags.REPLY, 2, 1, 0)
        first, second = messages(front.replies(header + body + other + good))
        decoded = decode_request(DIALECTS[2], request)
        assert first.body == reply_by_values(DIALECTS[2], decoded, 0, body)
        assert second.body == reply_by_values(DIALECTS[2], decoded, 0, good)


def back_by_values(
    dialect: Dialect, call: Call, object_: int, body: bytes
) -> tuple[tuple[Any, ...], bytes | None, int]:
    """What a native request is by its values: them, the message and, if there is none, the RV of the answer."""
    try:
        values = decode_native(call, object_, body)
        return values, encode_request(dialect, call, HANDLE, values), 0
    except WireError:
        return (), None, int(RV.CKR_ARGUMENTS_BAD)
    except NotCarried as error:
        return (), None, error.rv


def answer_by_values(dialect: Dialect, call: Call, values: tuple[Any, ...], body: bytes) -> tuple[int, bytes]:
    """What a server's message is by its values: the RV and the body of a native reply."""
    try:
        reply = decode_reply(dialect, Request(call, HANDLE, values), body)
    except DecodeError as error:
        return error.rv, b""
    return reply.rv, encode_native_reply(call, reply.values)


def opened(dialect: Dialect) -> Back:
    """A Back with session 1."""
    back = Back(dialect)
    call = call_named("C_OpenSession")
    object_, body = encode_native(call, (4, 1))
    (frame,) = messages(back.request((len(body), call.number, 0, 1, 5, object_), body).send)
    answer = encode_reply(dialect, decode_request(dialect, frame.body), Reply(0, (), HANDLE))
    back.reply(frame.code, answer)
    return back


@settings(max_examples=1000)
@given(strategies.dialects, st.data())
def test_requests_to_servers(dialect: Dialect, data: st.DataObject) -> None:
    way = WAYS[dialect.version][data.draw(st.sampled_from(sorted(WAYS[dialect.version])))]
    call = way.call
    likely, any_values = strategies.requests(dialect, call), wire.requests(call)
    object_, body = encode_native(call, data.draw(likely | any_values))
    body = data.draw(st.just(body) | strategies.damaged(body))
    values, expected, rv = back_by_values(dialect, call, object_, body)
    back = opened(dialect)
    header = (len(body), call.number, 0, 9, 1, object_)
    step = back.request(header, body)
    if expected is None:
        assert step == Step(b"", HEADER.pack(0, call.number, Flags.REPLY, 9, 1, rv))
        return
    assert step == Step(pack(Frame(2, expected)))
    request = decode_request(dialect, expected)
    good = strategies.results(call, request.values).map(lambda results: Reply(0, results))
    short = good.map(lambda reply: reply._replace(rv=int(RV.CKR_BUFFER_TOO_SMALL)))
    reply = data.draw(good | good | short | st.just(Reply(int(RV.CKR_GENERAL_ERROR))))
    answer = encode_reply(dialect, request, reply)
    answer = data.draw(st.just(answer) | strategies.damaged(answer) | st.binary(max_size=30))
    rv, results = answer_by_values(dialect, call, values, answer)
    frame = HEADER.pack(len(results), call.number, Flags.REPLY, 9, 1, rv) + results
    assert back.reply(2, answer) == Step(b"", frame)


@settings(max_examples=500)
@given(strategies.dialects, st.sampled_from([call for call in CALLS if call.init]), st.data())
def test_fused_requests_to_servers(dialect: Dialect, call: Call, data: st.DataObject) -> None:
    init = CALLS[call.init - 1]
    bare = st.sampled_from(sorted(dialect.bare)).map(Mechanism)
    arguments: dict[Kind, SearchStrategy[Any]] = {
        Kind.MECHANISM: bare | strategies.mechanisms(dialect),
        Kind.OBJECT: wire.u64,
        Kind.TEMPLATE: st.just(()),
        Kind.BYTES: strategies.data,
    }
    init_values = data.draw(st.tuples(*(arguments[kind] for kind in request_kinds(init))))
    object_, body = encode_fused(call, init_values, data.draw(strategies.requests(dialect, call) | wire.requests(call)))
    body = data.draw(st.just(body) | st.just(body) | strategies.damaged(body))
    header = (len(body), call.number, Flags.FUSED, 9, 1, object_)
    step = opened(dialect).request(header, body)
    refusal = Flags.REPLY, int(RV.CKR_ARGUMENTS_BAD)
    try:
        init_values, values = decode_fused(call, object_, body)
        refusal = Flags.REPLY | Flags.INIT, 0
        first = encode_request(dialect, init, HANDLE, init_values)
        refusal = Flags.REPLY, 0
        second = encode_request(dialect, call, HANDLE, values)
    except (WireError, NotCarried) as error:
        flags, rv = refusal
        rv = error.rv if isinstance(error, NotCarried) else rv
        assert step == Step(b"", HEADER.pack(0, call.number, flags, 9, 1, rv))
        return
    assert step == Step(pack(Frame(2, first)))
    back = opened(dialect)
    back.request(header, body)
    answer = encode_reply(
        dialect, decode_request(dialect, first), Reply(0, tuple(Unchanged() for _ in reply_kinds(init)))
    )
    answer = data.draw(st.just(answer) | strategies.damaged(answer) | st.just(encode_error(RV.CKR_GENERAL_ERROR)))
    rv, results = answer_by_values(dialect, init, init_values, answer)
    if rv:
        frame = HEADER.pack(len(results), call.number, Flags.REPLY | Flags.INIT, 9, 1, rv) + results
        assert back.reply(2, answer) == Step(b"", frame)
        return
    assert back.reply(2, answer) == Step(pack(Frame(3, second)))
    answer = encode_reply(dialect, decode_request(dialect, second), Reply(int(RV.CKR_GENERAL_ERROR)))
    rv, results = answer_by_values(dialect, call, values, answer)
    frame = HEADER.pack(len(results), call.number, Flags.REPLY, 9, 1, rv) + results
    assert back.reply(3, answer) == Step(b"", frame)


@pytest.mark.parametrize("name", HOT)
@versions
def test_what_a_server_is_asked_often_takes_the_short_way(dialect: Dialect, name: str) -> None:
    call = call_named(name)
    way = WAYS[dialect.version][call.number]

    @settings(max_examples=10, database=None)
    @given(usual(dialect, name))
    def run(drawn: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
        values, results = drawn
        object_, body = encode_native(call, values)
        asked = way.ask(HANDLE, object_, body)
        assert asked is not None
        message, room = asked
        assert message == encode_request(dialect, call, HANDLE, values)
        answer = encode_reply(dialect, decode_request(dialect, message), Reply(0, results))
        native = encode_native_reply(call, results)
        header = (len(body), call.number, 0, 9, 1, object_)
        frame = way.answer(header, room, answer)
        assert frame == HEADER.pack(len(native), call.number, Flags.REPLY, 9, 1, 0) + native

    run()
