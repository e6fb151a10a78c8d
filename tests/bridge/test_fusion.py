"""A client behind `Fusion` gets what it would get without, and fewer frames pass."""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyway.bridge.fusion import Fusion
from keyway.cryptoki import RV, Attribute, Mechanism, Output, Room, Structured, Unchanged, call_named, call_numbered
from keyway.cryptoki import constants as c
from keyway.wire import Header, decode_fused, decode_request, encode_reply, encode_request
from keyway.wire.header import HEADER, HEADER_SIZE, Flags

PSS = Mechanism(c.CKM_RSA_PKCS_PSS, Structured(11, (c.CKM_SHA256, 1, 32)))
GCM = Mechanism(c.CKM_AES_GCM, Structured(42, (bytes(12), 96, b"", 128)))
SIGNATURE = b"a signature"
RESULTS = {"C_Sign": SIGNATURE, "C_Encrypt": b"encrypted", "C_Digest": b"digest", "C_SignFinal": SIGNATURE}


def _method(name: str) -> str:
    return "_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


@dataclass
class _Open:
    slot: int
    operations: dict[str, int] = field(default_factory=dict)
    made: list[int] = field(default_factory=list)


class Token:
    """A module of two slots that keeps sessions, operations, objects and logins, and has no surprises.

    It executes frames in the order in which they come.
    """

    def __init__(self, *, has_several: bool = False) -> None:
        self.has_several = has_several
        self.sessions: dict[int, _Open] = {}
        self.keys = {1: (0, True), 2: (0, True), 3: (1, False)}
        self.logged_in = {0: False, 1: False}
        self.frames: list[tuple[str, bool]] = []
        self.broken = 0

    def answer(self, data: bytes) -> bytes:
        header, body = Header(*HEADER.unpack_from(data)), data[HEADER_SIZE:]
        call = call_numbered(header.call)
        assert call is not None
        is_fused = bool(header.flags & Flags.FUSED)
        self.frames.append((call.name, is_fused))
        if is_fused:
            init = call_numbered(call.init)
            assert init is not None
            first, second = decode_fused(call, header.object, body)
            rv, _ = self.execute(init.name, header.target, first)
            if rv:
                return self._reply(header, rv, b"", Flags.INIT)
            rv, values = self.execute(call.name, header.target, second)
        else:
            rv, values = self.execute(call.name, header.target, decode_request(call, header.object, body))
        return self._reply(header, rv, encode_reply(call, values))

    def _reply(self, header: Header, rv: int, body: bytes, flags: int = 0) -> bytes:
        return HEADER.pack(len(body), header.call, flags | Flags.REPLY, header.id, header.target, rv) + body

    def execute(self, name: str, target: int, values: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
        if name == "C_OpenSession":
            self.sessions[values[-1]] = _Open(target)
            return RV.CKR_OK, ()
        if name in ("C_Initialize", "C_Finalize"):
            # What is answered to C_Finalize changes nothing.
            self.sessions = {}
            self.logged_in = {0: False, 1: False}
            return RV.CKR_GENERAL_ERROR, ()
        if name == "C_CloseAllSessions":
            self.sessions = {handle: each for handle, each in self.sessions.items() if each.slot != target}
            self.logged_in[target] = False
            return RV.CKR_OK, ()
        session = self.sessions.get(target)
        if session is None:
            return RV.CKR_SESSION_HANDLE_INVALID, ()
        if self.broken:
            self.broken -= 1
            return RV.CKR_DEVICE_ERROR, ()
        result: tuple[int, tuple[Any, ...]] = getattr(self, _method(name))(session, *values)
        return result

    def _c_close_session(self, session: _Open) -> tuple[int, tuple[Any, ...]]:
        self.sessions = {handle: each for handle, each in self.sessions.items() if each is not session}
        for key in session.made:
            self.keys.pop(key, None)
        if all(each.slot != session.slot for each in self.sessions.values()):
            self.logged_in[session.slot] = False
        return RV.CKR_OK, ()

    def _c_login(self, session: _Open, *_: object) -> tuple[int, tuple[Any, ...]]:
        if self.logged_in[session.slot]:
            return RV.CKR_USER_ALREADY_LOGGED_IN, ()
        self.logged_in[session.slot] = True
        return RV.CKR_OK, ()

    def _c_logout(self, session: _Open) -> tuple[int, tuple[Any, ...]]:
        self.logged_in[session.slot] = False
        # Whatever needed the login has ended.
        for each in self.sessions.values():
            if each.slot == session.slot:
                each.operations = {name: key for name, key in each.operations.items() if not key}
        return RV.CKR_OK, ()

    def _c_create_object(self, session: _Open, *_: object) -> tuple[int, tuple[Any, ...]]:
        new = max(self.keys, default=0) + 1
        self.keys[new] = session.slot, True
        session.made.append(new)
        return RV.CKR_OK, (new,)

    def _c_destroy_object(self, session: _Open, key: int) -> tuple[int, tuple[Any, ...]]:
        return (RV.CKR_OK if self.keys.pop(key, None) else RV.CKR_OBJECT_HANDLE_INVALID), ()

    def _c_set_attribute_value(self, session: _Open, key: int, template: Any) -> tuple[int, tuple[Any, ...]]:
        if key not in self.keys:
            return RV.CKR_OBJECT_HANDLE_INVALID, ()
        self.keys[key] = self.keys[key][0], template[0].value == b"\1"
        return RV.CKR_OK, ()

    def _c_get_session_info(self, session: _Open, *_: object) -> tuple[int, tuple[Any, ...]]:
        # In place of an info: what operations there are.
        return len(session.operations) + 0x8000_0000, ()

    def _init(self, session: _Open, operation: str, mechanism: Any, key: int = 0) -> tuple[int, tuple[Any, ...]]:
        if mechanism is None:
            session.operations.pop(operation, None)
            return RV.CKR_OK, (Unchanged(),)
        if session.operations and (operation in session.operations or not self.has_several):
            return RV.CKR_OPERATION_ACTIVE, (Unchanged(),)
        if key and self.keys.get(key, (None,))[0] != session.slot:
            return RV.CKR_KEY_HANDLE_INVALID, (Unchanged(),)
        if key and not self.keys[key][1]:
            return RV.CKR_KEY_FUNCTION_NOT_PERMITTED, (Unchanged(),)
        if key and not self.logged_in[session.slot]:
            return RV.CKR_USER_NOT_LOGGED_IN, (Unchanged(),)
        session.operations[operation] = key
        return RV.CKR_OK, (Unchanged(),)

    def _c_sign_init(self, session: _Open, mechanism: Any, key: int) -> tuple[int, tuple[Any, ...]]:
        return self._init(session, "sign", mechanism, key)

    def _c_encrypt_init(self, session: _Open, mechanism: Any, key: int) -> tuple[int, tuple[Any, ...]]:
        return self._init(session, "encrypt", mechanism, key)

    def _c_verify_init(self, session: _Open, mechanism: Any, key: int) -> tuple[int, tuple[Any, ...]]:
        return self._init(session, "verify", mechanism, key)

    def _c_digest_init(self, session: _Open, mechanism: Any) -> tuple[int, tuple[Any, ...]]:
        return self._init(session, "digest", mechanism)

    def _end(self, session: _Open, operation: str, room: Room, result: bytes) -> tuple[int, tuple[Any, ...]]:
        if operation not in session.operations:
            return RV.CKR_OPERATION_NOT_INITIALIZED, ()
        if not room.has_buffer:
            return RV.CKR_OK, (Output(len(result), None),)
        if room.length is not None and room.length < len(result):
            return RV.CKR_BUFFER_TOO_SMALL, (Output(len(result), None),)
        del session.operations[operation]
        return RV.CKR_OK, (Output(len(result), result),)

    def _c_sign(self, session: _Open, data: bytes, room: Room) -> tuple[int, tuple[Any, ...]]:
        if len(data) > 8 and "sign" in session.operations:
            del session.operations["sign"]
            return RV.CKR_DATA_LEN_RANGE, ()
        return self._end(session, "sign", room, RESULTS["C_Sign"])

    def _c_encrypt(self, session: _Open, data: bytes, room: Room) -> tuple[int, tuple[Any, ...]]:
        return self._end(session, "encrypt", room, RESULTS["C_Encrypt"])

    def _c_digest(self, session: _Open, data: bytes, room: Room) -> tuple[int, tuple[Any, ...]]:
        return self._end(session, "digest", room, RESULTS["C_Digest"])

    def _c_sign_final(self, session: _Open, room: Room) -> tuple[int, tuple[Any, ...]]:
        return self._end(session, "sign", room, RESULTS["C_SignFinal"])

    def _c_sign_update(self, session: _Open, data: bytes) -> tuple[int, tuple[Any, ...]]:
        return (RV.CKR_OK if "sign" in session.operations else RV.CKR_OPERATION_NOT_INITIALIZED), ()

    def _c_verify(self, session: _Open, data: bytes, signature: bytes) -> tuple[int, tuple[Any, ...]]:
        if session.operations.pop("verify", None) is None:
            return RV.CKR_OPERATION_NOT_INITIALIZED, ()
        return (RV.CKR_OK if signature == SIGNATURE else RV.CKR_SIGNATURE_INVALID), ()


class Client:
    """Makes calls of a token, through `Fusion` or not."""

    def __init__(self, token: Token, *, fuses: bool) -> None:
        self.token = token
        self.fusion = Fusion() if fuses else None
        self.to_token: deque[bytes] = deque()
        self.answers: dict[int, tuple[int, int, bytes]] = {}
        self._last_id = 0

    def send(self, name: str, *values: Any, target: int = 0) -> int:
        self._last_id += 1
        call = call_named(name)
        object_, body = encode_request(call, values)
        header = (len(body), call.number, 0, self._last_id, target, object_)
        data = HEADER.pack(*header) + body
        if self.fusion is None:
            self.to_token.append(data)
        else:
            passed = self.fusion.request(header, data)
            self.to_token += [frame for _, frame in passed.send]
            self._take(passed.answer)
        return self._last_id

    def pump(self) -> None:
        """Let the token answer all that was sent."""
        while self.to_token:
            reply = self.token.answer(self.to_token.popleft())
            if self.fusion is None:
                self._take(reply)
            else:
                passed = self.fusion.replies(reply)
                self.to_token += [frame for _, frame in passed.send]
                self._take(passed.answer)

    def call(self, name: str, *values: Any, target: int = 0) -> tuple[int, bytes]:
        id_ = self.send(name, *values, target=target)
        self.pump()
        _, rv, body = self.answers[id_]
        return rv, body

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            header = Header(*HEADER.unpack_from(data, at))
            end = at + HEADER_SIZE + header.length
            assert header.id not in self.answers
            assert header.is_reply
            assert header.flags == Flags.REPLY
            self.answers[header.id] = header.call, header.rv, data[at + HEADER_SIZE : end]
            at = end


RSA = Mechanism(c.CKM_SHA256_RSA_PKCS)
ROOM = Room(64, True)


@pytest.fixture
def client():
    client = Client(Token(), fuses=True)
    client.call("C_OpenSession", 6, 1, target=0)
    client.call("C_Login", 1, b"pin", target=1)
    return client


def sign(client: Client, session: int = 1, key: int = 1, mechanism: Mechanism = RSA) -> tuple[int, int]:
    """The RVs of a signature's two calls."""
    first, _ = client.call("C_SignInit", mechanism, key, target=session)
    second, _ = client.call("C_Sign", b"data", ROOM, target=session)
    return first, second


def frames(client: Client) -> list[tuple[str, bool]]:
    """What the token was sent since the last time."""
    seen, client.token.frames = client.token.frames, []
    return seen


FUSED = [("C_Sign", True)]
APART = [("C_SignInit", False), ("C_Sign", False)]


@pytest.mark.parametrize("mechanism", [RSA, PSS, Mechanism(c.CKM_VENDOR_DEFINED, b"flat")])
def test_the_second_signature_takes_one_frame(client, mechanism):
    frames(client)
    assert sign(client, mechanism=mechanism) == (0, 0)
    assert frames(client) == APART
    for _ in range(3):
        assert sign(client, mechanism=mechanism) == (0, 0)
        assert frames(client) == FUSED
    assert sign(client, key=2, mechanism=mechanism) == (0, 0)
    assert frames(client) == APART


def test_what_is_learned_in_one_session_holds_in_the_others(client):
    sign(client)
    client.call("C_OpenSession", 6, 2, target=0)
    frames(client)
    assert sign(client, session=2) == (0, 0)
    assert frames(client) == FUSED


def test_a_mechanism_that_the_token_may_write_to_is_not_deferred(client):
    for _ in range(3):
        client.call("C_EncryptInit", GCM, 1, target=1)
        client.call("C_Encrypt", b"data", ROOM, target=1)
    assert ("C_Encrypt", True) not in frames(client)


def test_the_length_is_asked_for_with_the_init_call(client):
    sign(client)
    frames(client)
    client.call("C_SignInit", RSA, 1, target=1)
    assert client.call("C_Sign", b"data", Room(0, False), target=1)[0] == 0
    assert client.call("C_Sign", b"data", Room(1, True), target=1)[0] == RV.CKR_BUFFER_TOO_SMALL
    assert client.call("C_Sign", b"data", ROOM, target=1)[0] == 0
    assert frames(client) == [*FUSED, ("C_Sign", False), ("C_Sign", False)]
    assert sign(client) == (0, 0)
    assert frames(client) == FUSED


def test_other_calls_of_the_session_send_it_first(client):
    sign(client)
    frames(client)
    client.call("C_SignInit", RSA, 1, target=1)
    client.call("C_SignUpdate", b"data", target=1)
    client.call("C_SignFinal", ROOM, target=1)
    assert frames(client) == [("C_SignInit", False), ("C_SignUpdate", False), ("C_SignFinal", False)]
    assert sign(client) == (0, 0)
    assert frames(client) == FUSED


def test_one_that_is_never_used_is_dropped_with_the_session(client):
    client.call("C_OpenSession", 6, 2, target=0)
    sign(client)
    client.call("C_SignInit", RSA, 1, target=1)
    frames(client)
    assert client.call("C_CloseSession", target=1) == (0, b"")
    assert frames(client) == [("C_CloseSession", False)]


def test_calls_that_change_the_token_wait_for_those_of_other_sessions(client):
    sign(client)
    client.call("C_OpenSession", 6, 2, target=0)
    client.call("C_SignInit", RSA, 1, target=1)
    frames(client)
    destroyed = client.send("C_DestroyObject", 1, target=2)
    behind = client.send("C_GetSessionInfo", True, target=2)
    assert client.fusion is not None
    assert client.fusion.is_waiting
    assert len(client.to_token) == 1
    client.pump()
    assert not client.fusion.is_waiting
    assert frames(client) == [("C_SignInit", False), ("C_DestroyObject", False), ("C_GetSessionInfo", False)]
    assert client.answers[destroyed][1] == 0
    assert client.answers[behind][1] == 0x8000_0000
    # It was begun while the key was there.
    assert client.call("C_Sign", b"data", ROOM, target=1)[0] == 0
    assert sign(client) == (RV.CKR_KEY_HANDLE_INVALID, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_nothing_is_deferred_while_the_token_changes(client):
    sign(client)
    client.call("C_OpenSession", 6, 2, target=0)
    frames(client)
    client.send("C_SetAttributeValue", 2, (Attribute(c.CKA_SIGN, b"\0"),), target=2)
    sign(client)
    assert frames(client) == [("C_SetAttributeValue", False), *APART]
    sign(client)
    assert frames(client) == FUSED


def test_an_error_that_nobody_could_know_of_is_told_by_the_next_call(client):
    sign(client)
    frames(client)
    client.token.keys[1] = (0, False)  # Another application's doing.
    assert sign(client) == (0, RV.CKR_KEY_FUNCTION_NOT_PERMITTED)
    assert sign(client) == (RV.CKR_KEY_FUNCTION_NOT_PERMITTED, RV.CKR_OPERATION_NOT_INITIALIZED)
    client.token.keys[1] = (0, True)
    sign(client)
    client.token.keys[1] = (0, False)
    client.call("C_SignInit", RSA, 1, target=1)
    assert client.call("C_SignUpdate", b"data", target=1)[0] == RV.CKR_KEY_FUNCTION_NOT_PERMITTED
    assert client.call("C_SignUpdate", b"data", target=1)[0] == RV.CKR_OPERATION_NOT_INITIALIZED


def test_a_device_that_failed_is_not_trusted(client):
    sign(client)
    client.token.broken = 1
    client.call("C_GetSessionInfo", True, target=1)
    frames(client)
    sign(client)
    assert frames(client) == APART


@pytest.mark.parametrize("room", [ROOM, Room(0, False)])
def test_only_a_signature_that_was_made_teaches(client, room):
    client.call("C_SignInit", RSA, 1, target=1)
    client.call("C_Sign", b"too much data" if room is ROOM else b"data", room, target=1)
    client.call("C_OpenSession", 6, 2, target=0)
    frames(client)
    sign(client, session=2)
    assert frames(client) == APART


def test_a_logout_makes_it_forget(client):
    sign(client)
    client.call("C_Logout", target=1)
    assert sign(client) == (RV.CKR_USER_NOT_LOGGED_IN, RV.CKR_OPERATION_NOT_INITIALIZED)


@pytest.mark.parametrize("pipelined", [False, True])
def test_so_does_the_end_of_the_last_session(client, pipelined):
    client.call("C_OpenSession", 6, 2, target=0)
    sign(client)
    for session in (1, 2):
        client.send("C_CloseSession", target=session)
        if not pipelined:
            client.pump()
    client.pump()
    client.call("C_OpenSession", 6, 3, target=0)
    assert sign(client, session=3) == (RV.CKR_USER_NOT_LOGGED_IN, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_so_does_the_end_of_the_context(client):
    sign(client)
    client.call("C_Finalize")
    client.call("C_Initialize", 0, b"", b"")
    client.call("C_OpenSession", 6, 2, target=0)
    assert sign(client, session=2) == (RV.CKR_USER_NOT_LOGGED_IN, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_what_was_made_in_a_session_ends_with_it(client):
    client.call("C_OpenSession", 6, 2, target=0)
    _, made = client.call("C_CreateObject", (), 0, target=2)
    key = int.from_bytes(made[-8:], "big")
    assert sign(client, key=key) == (0, 0)
    client.call("C_CloseSession", target=2)
    assert sign(client, key=key) == (RV.CKR_KEY_HANDLE_INVALID, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_a_token_with_several_operations_at_a_time(client):
    client.token.has_several = True
    for _ in range(2):
        client.call("C_DigestInit", RSA, target=1)
        client.call("C_Digest", b"data", ROOM, target=1)
    client.call("C_DigestInit", RSA, target=1)
    sign(client)
    assert client.call("C_DigestInit", RSA, target=1)[0] == RV.CKR_OPERATION_ACTIVE
    assert client.call("C_Digest", b"data", ROOM, target=1)[0] == 0
    sign(client)
    frames(client)
    sign(client)
    assert frames(client) == FUSED


def test_what_is_known_stays_small(client):
    for key in range(10, 1000):
        client.token.keys[key] = (0, True)
        sign(client, key=key)
        sign(client, key=10)
    frames(client)
    sign(client, key=10)
    assert frames(client) == FUSED
    sign(client, key=20)
    assert frames(client) == APART


SESSIONS = st.sampled_from([1, 1, 1, 2, 2, 3])
ROOMS = st.sampled_from([ROOM, Room(3, True), Room(0, False)])
MECHANISMS = st.sampled_from([RSA, RSA, PSS, GCM, None])
KEYS = st.sampled_from([1, 1, 1, 2, 3, 4, 5, 9])


def of_session(name: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, int, tuple[Any, ...]]]:
    return st.tuples(st.just(name), SESSIONS, st.tuples(*values))


SIGNING = st.one_of(
    of_session("C_SignInit", st.just(RSA), st.just(1)),
    of_session("C_Sign", st.just(b"data"), st.just(ROOM)),
)
OPERATIONS = st.one_of(
    of_session("C_SignInit", MECHANISMS, KEYS),
    of_session("C_Sign", st.sampled_from([b"data", b"too much data"]), ROOMS),
    of_session("C_SignUpdate", st.just(b"data")),
    of_session("C_SignFinal", ROOMS),
    of_session("C_VerifyInit", MECHANISMS, KEYS),
    of_session("C_Verify", st.just(b"data"), st.sampled_from([SIGNATURE, b"another"])),
    of_session("C_EncryptInit", MECHANISMS, KEYS),
    of_session("C_Encrypt", st.just(b"data"), ROOMS),
    of_session("C_DigestInit", MECHANISMS),
    of_session("C_Digest", st.just(b"data"), ROOMS),
)
CHANGES = st.one_of(
    of_session("C_GetSessionInfo", st.just(True)),
    of_session("C_Login", st.just(1), st.just(b"pin")),
    of_session("C_Logout"),
    of_session("C_CloseSession"),
    of_session("C_CreateObject", st.just(()), st.just(0)),
    of_session("C_DestroyObject", KEYS),
    of_session("C_SetAttributeValue", KEYS, st.sampled_from([b"\0", b"\1"]).map(lambda v: (Attribute(c.CKA_SIGN, v),))),
    st.tuples(st.just("C_CloseAllSessions"), st.integers(0, 1), st.just(())),
    st.tuples(st.just("C_OpenSession"), st.integers(0, 1), st.just((6, 0))),
)
STEPS = st.sampled_from([SIGNING] * 4 + [OPERATIONS] * 4 + [CHANGES]).flatmap(lambda steps: steps)


def run(client: Client, steps: list[tuple[str, int, tuple[Any, ...]]], pauses: list[bool]) -> list[Any]:
    """Make the calls, waiting for the answers where told; sessions 1 to 3 are the last three that were opened."""
    opened = [3, 2, 1]
    for session in opened:
        client.call("C_OpenSession", 6, session, target=session // 3)
    client.call("C_Login", 1, b"pin", target=1)
    for init, call in (("C_SignInit", "C_Sign"), ("C_EncryptInit", "C_Encrypt"), ("C_DigestInit", "C_Digest")):
        client.call(init, RSA, *([] if init == "C_DigestInit" else [1]), target=1)
        client.call(call, b"data", ROOM, target=1)
    for (name, target, values), pause in zip(steps, pauses, strict=True):
        if name == "C_OpenSession":
            opened.append(len(opened) + 1)
            client.send(name, 6, opened[-1], target=target)
        else:
            client.send(name, *values, target=opened[-target] if name != "C_CloseAllSessions" else target)
        if pause:
            client.pump()
    client.pump()
    return sorted(client.answers.items())


@settings(max_examples=500)
@given(st.lists(STEPS, min_size=10, max_size=80), st.booleans(), st.booleans(), st.data())
def test_nobody_sees_the_difference(steps, has_several, waits, data):
    """Every answer to an application that is alone on the token is the same, whether it waits for each answer or not."""
    pauses = (
        [True] * len(steps) if waits else data.draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))
    )
    tokens = [Token(has_several=has_several) for _ in range(2)]
    with_fusion, without = (Client(token, fuses=fuses) for token, fuses in zip(tokens, (True, False), strict=True))
    assert run(with_fusion, steps, pauses) == run(without, steps, pauses)
    # Not a frame more than there are calls.
    assert len(tokens[0].frames) <= len(tokens[1].frames)


@pytest.mark.parametrize("rv", [RV.CKR_SESSION_HANDLE_INVALID, RV.CKR_SESSION_CLOSED, RV.CKR_DEVICE_REMOVED])
@pytest.mark.parametrize("name", ["C_CloseSession", "C_GetSessionInfo"])
def test_a_session_that_is_lost_is_not_taken_for_an_open_one(client, rv, name):
    """The next session that is closed may be the last one, and end the login."""
    lost = client.send(name, *([] if name == "C_CloseSession" else [True]), target=1)
    client.to_token.clear()
    client.token.sessions.clear()
    client.token.logged_in[0] = False
    client.to_token.append(HEADER.pack(0, call_named(name).number, Flags.REPLY, lost, 1, rv))
    _pass_reply(client)
    client.call("C_OpenSession", 6, 2, target=0)
    client.call("C_Login", 1, b"pin", target=2)
    sign(client, session=2)
    client.call("C_CloseSession", target=2)
    client.call("C_OpenSession", 6, 3, target=0)
    assert sign(client, session=3) == (RV.CKR_USER_NOT_LOGGED_IN, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_a_token_that_is_lost_while_nobody_calls_is_known_no_more(client):
    sign(client)
    assert client.fusion is not None
    client.token.sessions.clear()
    client.token.logged_in[0] = False
    client.fusion.lose()
    client.call("C_OpenSession", 6, 2, target=0)
    assert sign(client, session=2) == (RV.CKR_USER_NOT_LOGGED_IN, RV.CKR_OPERATION_NOT_INITIALIZED)
    client.call("C_Login", 1, b"pin", target=2)
    sign(client, session=2)
    client.call("C_CloseSession", target=2)
    client.call("C_OpenSession", 6, 3, target=0)
    assert sign(client, session=3) == (RV.CKR_USER_NOT_LOGGED_IN, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_a_session_opened_while_all_are_closed_takes_its_objects_along(client):
    client.send("C_CloseAllSessions", target=0)
    client.send("C_OpenSession", 6, 2, target=0)
    client.pump()
    client.call("C_OpenSession", 6, 3, target=0)
    client.call("C_Login", 1, b"pin", target=3)
    client.call("C_CreateObject", (), 0, target=2)
    new = max(client.token.keys)
    sign(client, session=3, key=new)
    client.call("C_CloseSession", target=2)
    assert sign(client, session=3, key=new) == (RV.CKR_KEY_HANDLE_INVALID, RV.CKR_OPERATION_NOT_INITIALIZED)


def test_objects_made_while_their_session_is_being_closed_go_with_it(client):
    client.call("C_OpenSession", 6, 2, target=0)
    client.send("C_CreateObject", (), 0, target=2)
    client.send("C_CloseSession", target=2)
    made = client.token.answer(client.to_token.popleft())
    close = client.to_token.popleft()
    assert client.fusion is not None
    client.fusion.replies(made)
    new = max(client.token.keys)
    assert sign(client, key=new) == (0, 0)
    client.to_token.append(close)
    client.pump()
    assert sign(client, key=new) == (RV.CKR_KEY_HANDLE_INVALID, RV.CKR_OPERATION_NOT_INITIALIZED)


def _pass_reply(client: Client) -> None:
    """Let the client get a reply that the token has not made."""
    assert client.fusion is not None
    client.fusion.replies(client.to_token.popleft())
