"""A view may lead to a pool."""

import pytest
from tests.daemon.harness import until
from tests.daemon.pool import tokens
from tests.daemon.views.tenants import OF_B, PINS, labels, write_pin

from keyway.cryptoki import RV
from keyway.wire.header import Flags


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Where the token is that both members are copies of."""
    home = tmp_path_factory.mktemp("members")
    tokens.original(home)
    return home


@pytest.fixture
def pooled(own, members, tmp_path):
    def change(text):
        home = text.split('select = "')[1].split("/alice.pin")[0]
        sections = [tokens.member(tmp_path, members, name, spares=0) for name in ("one", "two")]
        pool = tokens.pool("one", "two", name="pair", deadline=60)
        write_pin(tmp_path / "pool.pin", tokens.PIN)
        text = text.replace('"pkcs11:token=tenant-a?backend=hsm"', '"pair"', 1).replace(
            f'pin_file = "{home}/tenant-a.pin"', f'pin_file = "{tmp_path}/pool.pin"', 1
        )
        return "\n".join([text, *sections, pool])

    gateway = own(change)
    until(
        lambda: all(each["state"] == "up" for each in gateway.daemon.status()["pools"]["pair"]["members"]),
        "both members have been probed",
    )
    return gateway


def test_a_pool(pooled):
    with pooled.app("alice") as app:
        assert set(labels(app)) == {"rsa", "ec", "aes", "note"}
        app.sign(app.object("rsa"))
        (context,) = pooled.daemon.contexts()
        assert list(context["pools"]) == ["pair"]
        app.good("C_Logout", target=1)
        app.login(PINS["bob"])
        assert labels(app) == OF_B
    with pooled.app() as app:
        app.login(PINS["alice"])
        app.send_call("C_OpenSession", 4, 2, target=app.slot)
        reply = app.receive().header
        # A session of such a token is not made anew: another PIN may lead elsewhere.
        assert (reply.rv, reply.flags & Flags.RENEWABLE) == (RV.CKR_OK, 0)
