"""One token, several PINs: each leads to what it is for."""

from tests.daemon.views.tenants import OF_A, OF_B, labels

def test_each_pin_leads_to_its_token(vault):
    with vault.app("alice") as alice, vault.app("bob") as bob:
        assert labels(alice) == OF_A
        assert labels(bob) == OF_B
        alice.sign(alice.object("a-rsa"))
        bob.sign(bob.object("b-rsa"))
