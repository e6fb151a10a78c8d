"""What is left at a member: operations that it has not ended, calls whose client has gone."""

from pathlib import Path

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.app import App
from tests.daemon.pool.tokens import PIN

from keyway.cryptoki import RV
from keyway.cryptoki.constants import CKU_USER


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


@pytest.mark.parametrize("slot", [0, 1], ids=["pool", "plain"])
@pytest.mark.parametrize("who", ["client", "daemon"])
def test_a_login_is_finished_though_somebody_has_gone(pool, slot, who):
    """SoftHSM loses a token that is half written when its process ends."""
    pools = pool(deadline=20)
    one = pools.members[0]
    with App(pools.daemon, slot, login=False) as app:
        before = one.described()
        with one.at_rest():
            app.send_call("C_Login", CKU_USER, PIN.encode(), target=1)
            until(lambda: one.calls("C_Login"), "the login waits for its turn")
            hosts = one.hosts()
            if who == "client":
                app.socket.close()
                until(lambda: not pools.daemon.status()["contexts"], "the client is seen to have gone")
            else:
                pools.daemon.process.kill()
                pools.daemon.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in hosts), "the hosts end")
    assert one.described() not in (before, b"")
