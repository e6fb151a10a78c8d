"""The daemon on the standard library's event loop, where uvloop is not installed."""

import sys

from tests.daemon.harness import softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import generate_rsa, login, make, open_session, slot_of

WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from keyway.cli import main; main()"


def test_without_uvloop(start, home):
    daemon = start(softhsm(home), program=[sys.executable, "-c", WITHOUT_UVLOOP])
    make(daemon, "demo")
    with RawClient(daemon.socket) as client, RawClient(daemon.socket) as other:
        for each in (client, other):
            each.initialize()
            open_session(each, slot_of(each, "demo"))
            login(each, 1)
        id_ = generate_rsa(client, 1)
        assert other.good("C_GetSessionInfo", True, target=1)[0].state == 3
        assert client.receive().header.id == id_
        client.good("C_Finalize")
    until(lambda: not daemon.contexts(), "all contexts are closed")
