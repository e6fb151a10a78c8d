"""A gateway with guards behind another one: what the one in front asks of its own is judged as well."""

import tempfile
from pathlib import Path

from tests.daemon.conftest import starting
from tests.daemon.pool.app import App

from keyway.cryptoki import RV, Attribute, RoomBytes
from keyway.cryptoki.constants import CKA_LABEL

FRONT = """
[backend.far]
address = "unix:{place}"
[identity.all]
anyone = true
roles = ["keys"]
[role.keys]
tokens = ["pkcs11:"]
objects = [{{class = "private"}}, {{class = "public"}}]
"""


def test_the_one_in_front_shows_no_more_than_it_may_see(guests):
    place = guests.daemon.socket.parent / "signer"
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        front = start(FRONT.format(place=place))
        with App(front, session=False) as app:
            (app.slot,) = app.slots(present=True)
            app.open()
            app.login()
            found = app.find()
            assert {app.attribute(each, CKA_LABEL) for each in found} == {b"rsa"}
            app.sign(app.object("rsa"))
            for handle in set(range(1, 20)) - set(found):
                query = (Attribute(CKA_LABEL, RoomBytes(64)),)
                assert app.call("C_GetAttributeValue", handle, query, target=1)[0] == RV.CKR_OBJECT_HANDLE_INVALID
