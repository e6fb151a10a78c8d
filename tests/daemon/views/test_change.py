"""Views that change hold for who comes then, and end who has others."""

import json

from tests.daemon.harness import until
from tests.daemon.views.tenants import OF_A, OF_B, PINS, labels, write_pin

from keyway.cli.client import Client
from keyway.cryptoki import RV
from keyway.cryptoki.constants import CKU_USER
from keyway.daemon.control_numbers import RELOAD


def reload(gateway, old="", new=""):
    """Change the configuration, and return what came of it."""
    path = gateway.home / "keyway.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with Client(gateway.daemon.socket, 60) as client:
        rv, body = client.exchange(RELOAD)
    assert rv == 0, body
    return json.loads(body)


class TestReload:
    def test_roles_of_a_view(self, own):
        gateway = own()
        with gateway.app("clerk") as clerk, gateway.app(name="elsewhere", slot=6) as other:
            told = reload(gateway, 'objects = [{label = "a-rsa"}]', 'objects = [{label = "a-aes"}]')
            assert told["changes"] == ["views of vault: changed", "roles: changed"]
            assert clerk.is_closed()
            other.good("C_GetSessionInfo", True, target=1)
        with gateway.app("clerk") as clerk:
            assert labels(clerk) == ["a-aes"]

    def test_where_a_view_leads(self, own):
        gateway = own()
        with gateway.app("alice") as alice, gateway.app() as nobody:
            told = reload(gateway, "tenant-a?backend=hsm", "tenant-b?backend=hsm")
            assert told["problems"] == []
            assert alice.is_closed()
            assert nobody.is_closed()
        write_pin(gateway.home / "tenant-a.pin", "b-own-pin-6061")
        with gateway.app("alice") as alice:
            assert labels(alice) == OF_B

    def test_a_view_goes(self, own):
        gateway = own()
        with gateway.app("bob") as bob:
            path = gateway.home / "keyway.toml"
            text = path.read_text()
            start = text.index("[view.bob]")
            path.write_text(text[:start] + text[text.index("[view.clerk]") :])
            told = reload(gateway, '"bob", ', "")
            assert told["problems"] == []
            assert bob.is_closed()
        with gateway.app() as app:
            assert app.call("C_Login", CKU_USER, PINS["bob"].encode(), target=1)[0] == RV.CKR_PIN_INCORRECT

    def test_nothing_of_theirs(self, own):
        gateway = own()
        with gateway.app("alice") as alice:
            assert reload(gateway, 'level = "debug"', 'level = "info"')["changes"] == ["log: changed"]
            assert labels(alice) == OF_A

    def test_another_backend(self, own):
        gateway = own(spares=0)
        with gateway.app("alice") as alice:
            assert reload(gateway, "spares = 0", "spares = 0\nthreads = 3")["changes"] == ["backend hsm: changed"]
            assert labels(alice) == OF_A
            with gateway.app("bob") as bob:
                assert labels(bob) == OF_B
            alice.good("C_Logout", target=1)
            alice.login(PINS["bob"])
            assert labels(alice) == OF_B
        until(lambda: gateway.daemon.events("backend ended"), "the former backend has ended")

    def test_a_mistake(self, own):
        gateway = own()
        with gateway.app("alice") as alice:
            (problem,) = reload(gateway, 'views = ["alice", ', 'views = ["alice", "alice", ')["problems"]
            assert "token.vault.views: alice occurs twice" in problem
            assert labels(alice) == OF_A

    def test_a_pin_that_was_refused_is_not_tried_again(self, own):
        gateway = own()
        write_pin(gateway.home / "tenant-a.pin", "not the pin of it")
        for more in (
            "",
            '[limits]\nidle = 100\n[view.carol]\ntoken = "pkcs11:token=tenant-b?backend=hsm"\nselect = "/none"\n',
        ):
            reload(gateway, 'views = ["alice", ', 'views = ["carol", "alice", ' if more else 'views = ["alice", ')
            if more:
                path = gateway.home / "keyway.toml"
                path.write_text(path.read_text() + more)
                assert reload(gateway)["problems"] == []
            with gateway.app() as app:
                assert app.call("C_Login", CKU_USER, PINS["alice"].encode(), target=1)[0] == RV.CKR_DEVICE_ERROR
        assert len(gateway.daemon.events("PIN of pin_file refused")) == 1
