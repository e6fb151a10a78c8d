"""Two contexts at one token, whatever they do: what a PIN leads to is seen by who gave it, and by nobody else."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.daemon.pool.app import DATA, RSA, WRITE
from tests.daemon.pool.writer import template
from tests.daemon.views.tenants import OF_A, OF_B, PINS, SLOT

from keyway.cryptoki import RV, Attribute, Numbers, ObjectsRoom, Room, RoomBytes
from keyway.cryptoki.constants import CKA_CLASS, CKA_LABEL, CKA_PRIVATE, CKA_TOKEN, CKA_VALUE, CKO_DATA, CKU_USER

KEYS = {"alice": OF_A, "bob": OF_B}
SIDES = st.sampled_from(["one", "two"])
SESSIONS = st.sampled_from([1, 2, 3])
VIEWS = st.sampled_from(sorted(KEYS))
ROOM = ObjectsRoom(50, has_count=True, has_buffer=True)
GONE = {RV.CKR_KEY_HANDLE_INVALID, RV.CKR_OBJECT_HANDLE_INVALID, RV.CKR_KEY_TYPE_INCONSISTENT}


class Side:
    """A context, and what it should have."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.view = ""
        self.open: set[int] = set()
        self.notes: dict[str, int] = {}
        """The session objects that it made in this login, with the session that each belongs to."""
        self.signing: set[int] = set()

    def leave(self) -> None:
        self.view = ""
        self.notes.clear()
        self.signing.clear()

    def call(self, name: str, *values: Any, target: int) -> Any:
        return self.app.call(name, *values, target=target)

    def seen(self, session: int) -> list[str]:
        """The labels of what a session finds."""
        self.app.good("C_FindObjectsInit", (), target=session)
        (found,) = self.app.good("C_FindObjects", ROOM, target=session)
        self.app.good("C_FindObjectsFinal", target=session)
        assert isinstance(found, Numbers)
        return sorted(self.app.attribute(handle, CKA_LABEL, session=session).decode() for handle in found.data or ())


def machine(vault: Any) -> type[RuleBasedStateMachine]:
    class Two(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.sides: dict[str, Side] = {}
            self.made = 0

        @initialize()
        def begin(self) -> None:
            self.sides = {name: Side(vault.app(session=False)) for name in ("one", "two")}

        @rule(name=SIDES, session=SESSIONS)
        def open(self, name: str, session: int) -> None:
            side = self.sides[name]
            rv, _ = side.call("C_OpenSession", WRITE, session, target=SLOT)
            assert rv == (RV.CKR_ARGUMENTS_BAD if session in side.open else RV.CKR_OK)
            side.open.add(session)

        @rule(name=SIDES, session=SESSIONS)
        def close(self, name: str, session: int) -> None:
            side = self.sides[name]
            rv, _ = side.call("C_CloseSession", target=session)
            assert rv == (RV.CKR_OK if session in side.open else RV.CKR_SESSION_HANDLE_INVALID)
            side.open.discard(session)
            side.signing.discard(session)
            side.notes = {note: of for note, of in side.notes.items() if of != session}
            if not side.open:
                side.leave()

        @rule(name=SIDES)
        def close_all(self, name: str) -> None:
            side = self.sides[name]
            side.app.good("C_CloseAllSessions", target=SLOT)
            side.open.clear()
            side.leave()

        @rule(name=SIDES, session=SESSIONS, view=VIEWS)
        def log_in(self, name: str, session: int, view: str) -> None:
            side = self.sides[name]
            rv, _ = side.call("C_Login", CKU_USER, PINS[view].encode(), target=session)
            if session not in side.open:
                assert rv == RV.CKR_SESSION_HANDLE_INVALID
            elif side.view:
                assert rv == RV.CKR_USER_ALREADY_LOGGED_IN
            else:
                assert rv == RV.CKR_OK
                side.view = view

        @rule(name=SIDES, session=SESSIONS)
        def log_out(self, name: str, session: int) -> None:
            side = self.sides[name]
            rv, _ = side.call("C_Logout", target=session)
            if session not in side.open:
                assert rv == RV.CKR_SESSION_HANDLE_INVALID
            elif not side.view:
                assert rv == RV.CKR_USER_NOT_LOGGED_IN
            else:
                assert rv == RV.CKR_OK
                side.leave()

        @rule(name=SIDES, session=SESSIONS)
        def make(self, name: str, session: int) -> None:
            side = self.sides[name]
            self.made += 1
            note = f"note-{self.made}"
            asked = {CKA_CLASS: CKO_DATA, CKA_TOKEN: b"\0", CKA_PRIVATE: b"\0", CKA_LABEL: note.encode()}
            rv, _ = side.call("C_CreateObject", template({**asked, CKA_VALUE: b"data"}), 0, target=session)
            if session not in side.open:
                assert rv == RV.CKR_SESSION_HANDLE_INVALID
            elif not side.view:
                assert rv == RV.CKR_USER_NOT_LOGGED_IN
            else:
                assert rv == RV.CKR_OK
                side.notes[note] = session

        @rule(name=SIDES, session=SESSIONS, handle=st.integers(1, 12))
        def use(self, name: str, session: int, handle: int) -> None:
            """Use a handle that may be anything: it means an object of this view, or none."""
            side = self.sides[name]
            query = (Attribute(CKA_LABEL, RoomBytes(64)),)
            rv, values = side.call("C_GetAttributeValue", handle, query, target=session)
            if session not in side.open:
                assert rv == RV.CKR_SESSION_HANDLE_INVALID
            elif not side.view:
                assert rv == RV.CKR_USER_NOT_LOGGED_IN
            elif rv == RV.CKR_OK:
                assert values[0][0].value.decode() in {*KEYS[side.view], *side.notes}
            else:
                assert rv in GONE

        @rule(name=SIDES, session=SESSIONS)
        def begin_signing(self, name: str, session: int) -> None:
            side = self.sides[name]
            if session not in side.open or not side.view or session in side.signing:
                return
            key = side.app.object(f"{KEYS[side.view][0][0]}-rsa", session=session)
            side.app.good("C_SignInit", RSA, key, target=session)
            side.signing.add(session)

        @rule(name=SIDES, session=SESSIONS)
        def end_signing(self, name: str, session: int) -> None:
            """What was begun ends where it was begun, or is gone."""
            side = self.sides[name]
            rv, _ = side.call("C_Sign", DATA, Room(512, True), target=session)
            if session not in side.open:
                assert rv == RV.CKR_SESSION_HANDLE_INVALID
            elif not side.view:
                assert rv == RV.CKR_USER_NOT_LOGGED_IN
            else:
                assert rv == (RV.CKR_OK if session in side.signing else RV.CKR_OPERATION_NOT_INITIALIZED)
            side.signing.discard(session)

        @invariant()
        def each_sees_what_is_its_own(self) -> None:
            for side in self.sides.values():
                # A session of SoftHSM does one thing at a time.
                for session in side.open - side.signing:
                    expected = sorted([*KEYS[side.view], *side.notes]) if side.view else []
                    assert side.seen(session) == expected

        def teardown(self) -> None:
            for side in self.sides.values():
                side.app.socket.close()

    return Two


def test_two(vault):
    run_state_machine_as_test(
        machine(vault),
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
