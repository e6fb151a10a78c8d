"""Sessions behind Back: any mix of calls reaches a server that gives handles again, each session's calls in order and in its own session."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.bridge.ends import messages, native

from keyway.bridge import Back, Step
from keyway.cryptoki import RV, Mechanism, Null, Output, Room, Unchanged, call_named, call_numbered
from keyway.p11kit import DIALECTS, Reply, Request, decode_request, encode_reply
from keyway.wire import Flags, Header, decode_reply, encode_fused, encode_request

DIALECT = DIALECTS[2]
SLOTS = st.integers(0, 1)


@dataclass
class Opened:
    """A session of the server: whose it is, where, the last call that was seen in it, and the key of an operation that must follow."""

    name: int
    slot: int
    last: int = 0
    key: int | None = None


class Sent(NamedTuple):
    """What the native side has asked."""

    call: str
    session: int


@dataclass
class Server:
    """Executes calls in the order in which they come, and gives the lowest free handle.

    Each call tells in its values whose session it means, and which of its calls it is.
    """

    sessions: dict[int, Opened] = field(default_factory=dict)

    def execute(self, request: Request, refuses: bool) -> Reply:
        name = request.call.name
        values: Any = request.values
        if name == "C_OpenSession":
            if refuses:
                return Reply(RV.CKR_SESSION_COUNT)
            handle = next(handle for handle in range(1, 99) if handle not in self.sessions)
            self.sessions[handle] = Opened(values[0], request.target)
            return Reply(0, (), handle)
        if name == "C_CloseAllSessions":
            if refuses:
                return Reply(RV.CKR_FUNCTION_FAILED)
            self.sessions = {h: session for h, session in self.sessions.items() if session.slot != request.target}
            return Reply(0)
        session = self.sessions.get(request.target)
        if session is None:
            return Reply(RV.CKR_SESSION_HANDLE_INVALID)
        if name == "C_CloseSession":
            assert session.key is None
            if refuses:
                return Reply(RV.CKR_FUNCTION_FAILED)
            del self.sessions[request.target]
            return Reply(0)
        return self._of_session(session, name, values, refuses)

    def _of_session(self, session: Opened, name: str, values: Any, refuses: bool) -> Reply:
        number = values[-1] if name == "C_SignInit" else int.from_bytes(values[0], "big")
        owner, serial = divmod(number, 1000)
        assert owner == session.name, "a call in another session than it was made for"
        if name == "C_Sign":
            assert (session.key, session.last) == (number, serial), "an operation without its init"
            session.key = None
            return Reply(RV.CKR_FUNCTION_FAILED) if refuses else Reply(0, (Output(1, b"s"),))
        assert session.key is None, "a call between an init and its operation"
        assert session.last < serial, "calls of a session in another order"
        session.last = serial
        if refuses:
            return Reply(RV.CKR_FUNCTION_FAILED)
        if name == "C_SignInit":
            session.key = number
            return Reply(0, (Unchanged(),))
        return Reply(0)


class Sessions(RuleBasedStateMachine):
    """The native side opens, closes and uses sessions; the server takes messages and sends its answers when it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.back = Back(DIALECT)
        self.server = Server()
        self.to_server: list[tuple[int, bytes]] = []
        self.to_back: list[tuple[int, bytes]] = []
        self.sent: dict[int, Sent] = {}
        self.ready: list[int] = []
        self.last_name = 0
        self.last_id = 0
        self.last_serial = 0

    def ask(self, call: str, target: int, body: bytes, object_: int = 0, flags: int = 0, session: int = 0) -> None:
        self.last_id += 1
        if not flags & Flags.POSTED:
            self.sent[self.last_id] = Sent(call, session)
        header = Header(len(body), call_named(call).number, flags, self.last_id, target, object_)
        self.take(self.back.request(header, body))

    def take(self, step: Step) -> None:
        self.to_server += [(frame.code, frame.body) for frame in messages(step.send)]
        for header, body in native(step.deliver):
            call, session = self.sent.pop(header.id)
            row = call_numbered(header.call)
            assert row is not None
            assert row.name == call
            assert header.is_reply
            decode_reply(call_named("C_SignInit") if header.flags & Flags.INIT else row, body)
            if header.rv == RV.CKR_SESSION_HANDLE_INVALID:
                assert session not in [opened.name for opened in self.server.sessions.values()]
            if call == "C_OpenSession" and header.rv == 0:
                self.ready.append(session)

    def number(self, session: int) -> int:
        self.last_serial += 1
        return session * 1000 + self.last_serial

    @rule(slot=SLOTS)
    def open(self, slot: int) -> None:
        self.last_name += 1
        _, body = encode_request(call_named("C_OpenSession"), (self.last_name, self.last_name))
        self.ask("C_OpenSession", slot, body, session=self.last_name)

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.ready))
        self.ask("C_CloseSession", session, b"", flags=data.draw(st.sampled_from([0, Flags.POSTED])), session=session)

    @rule(slot=SLOTS)
    def close_all(self, slot: int) -> None:
        self.ask("C_CloseAllSessions", slot, b"")

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), posted=st.booleans())
    def use(self, data: st.DataObject, posted: bool) -> None:
        session = data.draw(st.sampled_from(self.ready))
        _, body = encode_request(call_named("C_SeedRandom"), (self.number(session).to_bytes(8, "big"),))
        self.ask("C_SeedRandom", session, body, flags=Flags.POSTED if posted else 0, session=session)

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), posted=st.booleans())
    def sign(self, data: st.DataObject, posted: bool) -> None:
        session = data.draw(st.sampled_from(self.ready))
        number = self.number(session)
        values = number.to_bytes(8, "big"), Room(9, True)
        object_, body = encode_fused(call_named("C_Sign"), (Mechanism(1, Null()), number), values)
        flags = Flags.FUSED | (Flags.POSTED if posted else 0)
        self.ask("C_Sign", session, body, object_, flags, session)

    @precondition(lambda self: self.to_server)
    @rule(refuses=st.booleans(), count=st.integers(1, 3))
    def serve(self, refuses: bool, count: int) -> None:
        for code, body in self.to_server[:count]:
            request = decode_request(DIALECT, body)
            reply = self.server.execute(request, refuses)
            self.to_back.append((code, encode_reply(DIALECT, request, reply)))
        del self.to_server[:count]

    @precondition(lambda self: self.to_back)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        code, body = self.to_back.pop(self.chosen(data))
        self.take(self.back.reply(code, body))

    def chosen(self, data: st.DataObject) -> int:
        """Which of the server's answers arrives next."""
        return 0

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.back.pending == len(self.to_server) + len(self.to_back)
        assert self.back.waiting == 0 or self.back.pending

    def teardown(self) -> None:
        """In the end everything is answered."""
        while self.to_server or self.to_back:
            self.serve(False, len(self.to_server))
            while self.to_back:
                self.take(self.back.reply(*self.to_back.pop(0)))
        assert self.sent == {}
        assert (self.back.pending, self.back.waiting) == (0, 0)


class Unordered(Sessions):
    """A server whose answers overtake one another."""

    def chosen(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.to_back) - 1))


for machine in (Sessions, Unordered):
    machine.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestSessions = Sessions.TestCase
TestUnordered = Unordered.TestCase
