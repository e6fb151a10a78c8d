from keyway.cryptoki import CALLS, Target
from keyway.gateway.routes import PLAIN_WITH_OWN_SLOTS, PLAIN_WITH_VIRTUAL_SLOTS, ROUTES, Route


def test_every_call_has_a_route():
    assert ROUTES.keys() == {call.number for call in CALLS}


def test_calls_of_sessions_go_to_the_backend_of_the_session():
    of_sessions = {Route.SESSION, Route.SESSION_INFO, Route.CLOSE_SESSION}
    for call in CALLS:
        if call.target is Target.SESSION:
            assert ROUTES[call.number] in of_sessions, call.name


def test_only_calls_of_sessions_are_plain():
    for call in CALLS:
        if call.number in PLAIN_WITH_OWN_SLOTS:
            assert call.target is Target.SESSION, call.name
            assert call.name != "C_CloseSession"


def test_the_slot_in_a_session_info_needs_a_look_where_slots_are_virtual():
    names = {CALLS[number - 1].name for number in PLAIN_WITH_OWN_SLOTS - PLAIN_WITH_VIRTUAL_SLOTS}
    assert names == {"C_GetSessionInfo"}


def test_local_calls_go_nowhere():
    for call in CALLS:
        assert (ROUTES[call.number] is Route.ELSEWHERE) == call.local, call.name
