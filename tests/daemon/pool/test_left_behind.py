"""A module that fails without ending the operation: the session is not spoilt at that member."""

import pytest
from tests.daemon.pool.app import App

from keyway.cryptoki import RV


@pytest.mark.parametrize("rv", [RV.CKR_DEVICE_ERROR, RV.CKR_FUNCTION_FAILED], ids=hex)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_the_member_serves_the_session_again(pool, fused, rv):
    pools = pool(deadline=20)
    one, two = pools.members
    with App(pools.daemon) as app:
        key = app.object("rsa")
        one.does_once("C_Sign", f"rv-stays {rv:#x}")
        assert app.signed(key, fused=fused) == RV.CKR_OK
        assert one.was_told("C_Sign")
        two.goes()
        one.forget()
        assert app.signed(key, fused=fused) == RV.CKR_OK
        assert one.calls("C_Sign") == 1
