import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keyway.cryptoki import RV
from keyway.cryptoki.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION
from keyway.gateway.context import Context
from keyway.gateway.decisions import Answer, Relay
from keyway.gateway.routes import Route
from keyway.gateway.slots import BackendSlot, OwnSlots

CALLS_OF_SESSIONS = [Route.SESSION, Route.SESSION_INFO, Route.CLOSE_SESSION]


class TwoBackends:
    """Slot 0 is slot 10 of `one`, slot 1 is slot 11 of `two`, slot 2 is a token that is not there."""

    def resolve(self, slot: int) -> BackendSlot | RV:
        known: dict[int, BackendSlot | RV] = {
            0: BackendSlot("one", 10),
            1: BackendSlot("two", 11),
            2: RV.CKR_TOKEN_NOT_PRESENT,
        }
        return known.get(slot, RV.CKR_SLOT_ID_INVALID)

    def is_protected(self, slot: int) -> bool:
        return slot == 1


@pytest.fixture
def context():
    return Context(("one", "two"), TwoBackends(), max_sessions=3)


def opened(context, handle, slot, backend):
    assert context.opening(handle) is None
    context.opened(handle, slot, backend)


def test_a_slot_is_translated(context):
    assert context.decide(Route.SLOT, 1) == Relay("two", 11)
    assert context.decide(Route.OPEN_SESSION, 0) == Relay("one", 10)


@pytest.mark.parametrize("route", [Route.SLOT, Route.SLOT_INFO, Route.OPEN_SESSION])
def test_slots_that_mean_nothing(context, route):
    assert context.decide(route, 2) == Answer(RV.CKR_TOKEN_NOT_PRESENT)
    assert context.decide(route, 3) == Answer(RV.CKR_SLOT_ID_INVALID)


def test_closing_all_sessions_of_an_absent_token_is_good(context):
    assert context.decide(Route.CLOSE_ALL_SESSIONS, 2) == Answer(RV.CKR_OK)
    assert context.decide(Route.CLOSE_ALL_SESSIONS, 3) == Answer(RV.CKR_SLOT_ID_INVALID)


def test_own_slots_are_not_judged():
    context = Context(("one",), OwnSlots("one"), max_sessions=1)
    assert context.decide(Route.SLOT, 1 << 63) == Relay("one", 1 << 63)


@pytest.mark.parametrize(
    ("route", "slot", "flags", "is_refused"),
    [
        (Route.INIT_TOKEN, 1, 0, True),
        (Route.OPEN_SESSION, 1, CKF_RW_SESSION | CKF_SERIAL_SESSION, True),
        (Route.OPEN_SESSION, 1, CKF_SERIAL_SESSION, False),
        (Route.INIT_TOKEN, 0, 0, False),
        (Route.OPEN_SESSION, 0, CKF_RW_SESSION | CKF_SERIAL_SESSION, False),
    ],
)
def test_a_protected_token_can_t_be_changed(context, route, slot, flags, is_refused):
    assert context.writing(route, slot, flags) == (Answer(RV.CKR_TOKEN_WRITE_PROTECTED) if is_refused else None)


def test_a_session_is_bound_to_its_backend(context):
    opened(context, 7, 1, "two")
    for route in CALLS_OF_SESSIONS:
        assert context.decide(route, 7) == Relay("two", 7)


def test_a_module_judges_unknown_sessions(context):
    for route in CALLS_OF_SESSIONS:
        assert context.decide(route, 99) == Relay("one", 99)


@pytest.mark.parametrize("handle", [0, 7])
def test_a_handle_that_is_taken_or_none_is_refused(context, handle):
    opened(context, 7, 0, "one")
    assert context.opening(handle) == Answer(RV.CKR_ARGUMENTS_BAD)


def test_a_handle_that_is_being_opened_is_taken(context):
    assert context.opening(7) is None
    assert context.opening(7) == Answer(RV.CKR_ARGUMENTS_BAD)
    context.not_opened(7)
    assert context.opening(7) is None


def test_sessions_are_limited_and_lost_ones_count(context):
    opened(context, 1, 0, "one")
    opened(context, 2, 0, "one")
    context.lose("one")
    assert context.opening(3) is None
    assert context.opening(4) == Answer(RV.CKR_HOST_MEMORY)


def test_lost_sessions_answer_so_until_they_are_closed(context):
    opened(context, 1, 0, "one")
    opened(context, 2, 1, "two")
    assert context.lose("one") == 1
    assert context.decide(Route.SESSION, 1) == Answer(RV.CKR_DEVICE_REMOVED)
    assert context.decide(Route.SESSION, 2) == Relay("two", 2)
    assert context.decide(Route.CLOSE_SESSION, 1) == Answer(RV.CKR_OK)
    assert context.decide(Route.SESSION, 1) == Relay("one", 1)


def test_closing_all_sessions_closes_the_lost_ones_of_the_slot(context):
    opened(context, 1, 0, "one")
    context.lose("one")
    assert context.decide(Route.CLOSE_ALL_SESSIONS, 1) == Relay("two", 11)
    assert context.lost
    assert context.decide(Route.CLOSE_ALL_SESSIONS, 0) == Relay("one", 10)
    assert not context.lost


class Sessions(RuleBasedStateMachine):
    """Whatever happens in whatever order: a handle is in one state, and the limit is kept."""

    LIMIT = 4
    handles = st.integers(0, 6)
    slots = st.sampled_from([(0, "one"), (1, "two")])

    def __init__(self):
        super().__init__()
        self.context = Context(("one", "two"), TwoBackends(), self.LIMIT)
        self.waiting = {}

    @rule(handle=handles, slot=slots)
    def ask(self, handle, slot):
        taken = handle == 0 or handle in self.waiting or handle in self.context.sessions or handle in self.context.lost
        count = len(self.waiting) + len(self.context.sessions) + len(self.context.lost)
        refusal = self.context.opening(handle)
        if taken:
            assert refusal == Answer(RV.CKR_ARGUMENTS_BAD)
        elif count >= self.LIMIT:
            assert refusal == Answer(RV.CKR_HOST_MEMORY)
        else:
            assert refusal is None
            self.waiting[handle] = slot

    @precondition(lambda self: self.waiting)
    @rule(good=st.booleans())
    def hear(self, good):
        handle, (slot, backend) = self.waiting.popitem()
        if good:
            self.context.opened(handle, slot, backend)
            assert self.context.decide(Route.SESSION, handle) == Relay(backend, handle)
        else:
            self.context.not_opened(handle)

    @rule(backend=st.sampled_from(["one", "two"]))
    def lose(self, backend):
        self.context.lose(backend)
        for handle in [handle for handle, slot in self.waiting.items() if slot[1] == backend]:
            del self.waiting[handle]
            self.context.not_opened(handle)
        assert all(session.backend != backend for session in self.context.sessions.values())

    @rule(handle=handles)
    def close(self, handle):
        if isinstance(self.context.decide(Route.CLOSE_SESSION, handle), Relay):
            self.context.closed(handle)
        assert handle not in self.context.sessions
        assert handle not in self.context.lost

    @rule(slot=slots)
    def close_all(self, slot):
        self.context.decide(Route.CLOSE_ALL_SESSIONS, slot[0])
        self.context.closed_all(slot[0])
        assert slot[0] not in self.context.lost.values()

    @invariant()
    def one_state(self):
        states = [*self.context.sessions, *self.context.lost, *self.waiting]
        assert len(states) == len(set(states)) <= self.LIMIT


TestSessions = Sessions.TestCase
