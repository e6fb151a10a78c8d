"""Sessions that are opened after somebody has logged in, at a member that has seen neither the login nor a session yet."""

from tests.daemon.harness import until
from tests.daemon.pool.app import App


def test_a_session_is_opened_at_a_member_that_was_away_during_the_login(pool):
    pools = pool("one", "two", deadline=20)
    one, two = pools.members
    two.goes()
    until(lambda: pools.status()["two"]["state"] == "down", "the second member is away")
    with App(pools.daemon) as app:
        key = app.object("rsa")
        signature = app.sign(key)
        two.comes_back()
        until(lambda: pools.status()["two"]["state"] == "up", "the second member is back")
        one.goes()
        later = app.open(77)
        assert app.sign(key, session=later) == signature
        assert app.sign(key) == signature
