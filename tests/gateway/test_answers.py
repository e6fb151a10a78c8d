import pytest

from keyway.cryptoki import RV, ModuleInfo, Numbers, Room, SlotInfo, Version
from keyway.cryptoki.constants import CKF_DONT_BLOCK
from keyway.gateway.answers import empty_slot, own_info, slot_event, slot_list, unreachable
from keyway.gateway.decisions import Answer
from keyway.gateway.routes import Route


@pytest.mark.parametrize(
    ("room", "rv", "numbers"),
    [
        (Room(None, False), RV.CKR_ARGUMENTS_BAD, Numbers(None, None)),
        (Room(None, True), RV.CKR_ARGUMENTS_BAD, Numbers(None, None)),
        (Room(0, False), RV.CKR_OK, Numbers(2, None)),
        (Room(0, True), RV.CKR_BUFFER_TOO_SMALL, Numbers(2, None)),
        (Room(1, True), RV.CKR_BUFFER_TOO_SMALL, Numbers(2, None)),
        (Room(2, True), RV.CKR_OK, Numbers(2, (3, 9))),
        (Room(5, True), RV.CKR_OK, Numbers(2, (3, 9))),
    ],
)
def test_slot_list(room, rv, numbers):
    assert slot_list(room, (3, 9)) == Answer(rv, (numbers,))


def test_an_empty_slot_list_fits_into_nothing():
    assert slot_list(Room(0, True), ()) == Answer(RV.CKR_OK, (Numbers(0, ()),))


def test_slot_events_never_block():
    assert slot_event(CKF_DONT_BLOCK, 5) == Answer(RV.CKR_NO_EVENT, (5,))
    assert slot_event(0, None) == Answer(RV.CKR_FUNCTION_NOT_SUPPORTED, (None,))


def test_an_unreachable_backend_has_an_answer_for_every_route_of_sessions_and_slots():
    of_context = {Route.INFO, Route.SLOT_LIST, Route.SLOT_EVENT, Route.INITIALIZE, Route.FINALIZE, Route.ELSEWHERE}
    for route in set(Route) - of_context:
        assert unreachable(route).values == ()
    assert unreachable(Route.OPEN_SESSION).rv is RV.CKR_TOKEN_NOT_PRESENT


def test_texts_have_the_width_of_the_standard():
    info = own_info(Version(1, 2))
    assert isinstance(info, ModuleInfo)
    assert (len(info.manufacturer_id), len(info.library_description)) == (32, 32)
    slot = empty_slot("é" * 60)
    assert isinstance(slot, SlotInfo)
    assert len(slot.slot_description) == 64
    slot.slot_description.decode()
