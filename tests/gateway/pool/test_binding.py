from dataclasses import replace

import pytest

from keyway.gateway.pool.binding import Reason, SessionFacts, reasons

FREE = SessionFacts(frozenset(), False, 0, False, False, False)
EACH = {
    Reason.OPERATION: replace(FREE, operations=frozenset({"sign"})),
    Reason.SEARCH: replace(FREE, searching=True),
    Reason.SESSION_OBJECTS: replace(FREE, session_objects=1),
    Reason.OPERATION_STATE: replace(FREE, state_was_set=True),
    Reason.SPECIFIC_LOGIN: replace(FREE, specific_login=True),
    Reason.STATEFUL_KEY: replace(FREE, has_stateful_key=True),
    Reason.SECURITY_OFFICER: replace(FREE, is_so=True),
}


def test_a_session_that_has_nothing_is_free():
    assert reasons(FREE) == frozenset()


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_holds_by_itself(reason: Reason):
    assert reasons(EACH[reason]) == {reason}


def test_reasons_add_up():
    facts = SessionFacts(frozenset({"sign", "digest"}), True, 3, True, True, True, True)
    assert reasons(facts) == set(Reason)
