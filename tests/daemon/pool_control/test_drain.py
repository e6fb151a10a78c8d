"""Members out of use and back, while clients go on."""

from functools import partial

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.tokens import LABEL
from tests.daemon.pool_control.signer import RSA, Signer, begin, end, find, log_in, sign
from tests.daemon.raw import RawClient

from keyway.cryptoki import RV, Attribute, Null, RoomBytes
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_LABEL,
    CKA_PRIVATE,
    CKA_TOKEN,
    CKA_VALUE,
    CKF_SERIAL_SESSION,
    CKO_DATA,
    CKU_USER,
)
from keyway.daemon.control_numbers import DRAIN, RESUME

OBJECT = (
    Attribute(CKA_CLASS, CKO_DATA),
    Attribute(CKA_TOKEN, b"\0"),
    Attribute(CKA_PRIVATE, b"\0"),
    Attribute(CKA_LABEL, b"mine"),
    Attribute(CKA_VALUE, b"of this session"),
)
policies = pytest.mark.parametrize("policy", ['"failover"', '"balance"'], ids=["failover", "balance"])


def has_served(gateway, name, count):
    return gateway.member(name)["served"] > count


@policies
def test_no_signature_fails_while_members_go_and_come(operated, policy):
    gateway = operated(policy=policy)
    with RawClient(gateway.socket) as client, Signer(client, begin(client)) as signer:
        signer.go_on()
        for name, other in (("one", "two"), ("two", "one")):
            until(partial(gateway.is_drained, name), f"{name} is drained")
            assert gateway.member(name)["streams"] == 0
            assert gateway.daemon.status()["backends"][name]["hosts"] == 0
            served = gateway.member(name)["served"]
            signer.go_on()
            assert gateway.member(name)["served"] == served
            assert gateway.resume(name)["serves"]
            if policy == '"failover"' and name == "two":
                continue  # The first one has it all.
            until(partial(has_served, gateway, name, served + 10), f"{name} serves again")
            assert gateway.member(other)["state"] == "up"


@policies
def test_a_drained_member_gets_no_new_work(operated, policy):
    gateway = operated(policy=policy)
    assert gateway.drain("one")["done"]
    with RawClient(gateway.socket) as client:
        key = begin(client)
        for _ in range(10):
            sign(client, key)
        one, two = gateway.member("one"), gateway.member("two")
        assert (one["served"], one["streams"]) == (0, 0)
        assert one["drained"]
        assert two["served"] >= 20


def test_an_operation_is_finished_first(operated):
    gateway = operated()
    with RawClient(gateway.socket) as client:
        key = begin(client)
        client.good("C_SignInit", RSA, key, target=1)
        client.good("C_SignUpdate", b"first ", target=1)
        state = gateway.drain("one")
        assert (state["member"], state["done"], state["serving"]) == ("vault/one", False, ["two"])
        (held,) = state["sessions"]
        assert (held["session"], held["reasons"], held["application"]) == (1, ["operation active"], "test")
        assert gateway.bound() == [{"session": 1, "member": "one", "reasons": ["operation active"]}]
        # Another session has no reason to stay there.
        client.good("C_OpenSession", CKF_SERIAL_SESSION, 2, target=0)
        sign(client, key, session=2)
        assert gateway.member("two")["served"] > 0
        assert not gateway.is_drained("one")
        client.good("C_SignUpdate", b"second", target=1)
        signature = end(client, "C_SignFinal", session=1)
        until(lambda: gateway.is_drained("one"), "the member is drained")
        assert gateway.bound() == []
        assert sign(client, key, data=b"first second") == signature
        assert not gateway.daemon.events("member down")


def test_session_objects_hold_their_member_and_can_be_used(operated):
    gateway = operated()
    with RawClient(gateway.socket) as client:
        begin(client)
        (name,) = client.good("C_CreateObject", OBJECT, 0, target=1)
        (held,) = gateway.drain("one")["sessions"]
        assert held["reasons"] == ["session objects"]
        (template,) = client.good("C_GetAttributeValue", name, (Attribute(CKA_VALUE, RoomBytes(64)),), target=1)
        assert template[0].value == b"of this session"
        assert not gateway.is_drained("one")
        client.good("C_DestroyObject", name, target=1)
        until(lambda: gateway.is_drained("one"), "the member is drained")


def test_the_end_of_a_session_lets_its_member_go(operated):
    gateway = operated()
    with RawClient(gateway.socket) as client:
        key = begin(client)
        client.good("C_SignInit", RSA, key, target=1)
        assert gateway.drain("one")["sessions"]
        client.good("C_CloseSession", target=1)
        until(lambda: gateway.is_drained("one"), "the member is drained")
        sign(client, log_in(client))


def test_who_waits_is_told_of_each_change(operated):
    gateway = operated()
    with RawClient(gateway.socket) as client:
        key = begin(client)
        client.good("C_SignInit", RSA, key, target=1)
        with gateway.asking(DRAIN, member="one") as replies:
            rv, state = next(replies)
            assert (rv, state["more"], len(state["sessions"])) == (0, True, 1)
            end(client, "C_Sign", b"data")
            states = [state]
            while states[-1]["more"]:
                rv, state = next(replies)
                assert rv == 0
                states.append(state)
            assert states[-1]["done"]


def test_a_member_is_resumed_while_somebody_waits(operated):
    gateway = operated()
    with RawClient(gateway.socket) as client:
        key = begin(client)
        client.good("C_SignInit", RSA, key, target=1)
        with gateway.asking(DRAIN, member="one") as replies:
            next(replies)
            assert gateway.resume("one")["serves"]
            rv, state = next(replies)
            assert rv == RV.CKR_ARGUMENTS_BAD
            assert "was resumed" in state["error"]
        end(client, "C_Sign", b"data")
        assert gateway.member("one")["served"] > 0


def test_nobody_is_left(operated):
    gateway = operated()
    with RawClient(gateway.socket) as client:
        key = begin(client)
        gateway.drain("one")
        assert gateway.drain("two")["serving"] == []
        assert client.call("C_SignInit", RSA, key, target=1)[0] == RV.CKR_TOKEN_NOT_PRESENT
        gateway.resume("two")
        sign(client, key)


def test_a_member_that_is_not_well_does_not_serve_at_once(operated):
    gateway = operated()
    with RawClient(gateway.socket) as client:
        key = begin(client)
        sign(client, key)
        until(lambda: gateway.is_drained("one"), "the member is drained")
        tokens = gateway.home / "tokens-one"
        tokens.rename(gateway.home / "away")
        tokens.mkdir()
        state = gateway.resume("one")
        assert (state["serves"], state["state"], state["drained"]) == (False, "down", False)
        assert state["error"] == "the token is not there"
        sign(client, key)
        tokens.rmdir()
        (gateway.home / "away").rename(tokens)
        until(lambda: gateway.member("one")["state"] == "up", "it is found by itself")


def test_a_parked_member_is_resumed(operated, home):
    pin = home / "pin"
    pin.touch(mode=0o600)
    pin.write_text("wrong\n")
    gateway = operated("one", pin_file=f'"{pin}"')
    with RawClient(gateway.socket) as client:
        client.initialize()
        client.good("C_OpenSession", CKF_SERIAL_SESSION, 1, target=0)
        assert client.call("C_Login", CKU_USER, Null(), target=1)[0] == RV.CKR_PIN_INCORRECT
        assert "CKR_PIN_INCORRECT" in gateway.member("one")["parked"]
        assert client.call("C_Login", CKU_USER, Null(), target=1)[0] == RV.CKR_TOKEN_NOT_PRESENT
        pin.write_text("pin-7391-for-tests\n")
        state = gateway.resume(f"{LABEL}/one")
        assert (state["serves"], state["parked"]) == (True, "")
        client.good("C_Login", CKU_USER, Null(), target=1)
        assert find(client, Attribute(CKA_LABEL, b"rsa"))


class TestWhatIsAskedWrongly:
    @pytest.mark.parametrize("number", [DRAIN, RESUME])
    def test_no_such_member(self, operated, number):
        rv, answer = operated().ask(number, member="three")
        assert rv == RV.CKR_ARGUMENTS_BAD
        assert answer["error"] == "three: no member of a pool; there are: vault/one, vault/two"

    def test_a_name_that_is_in_two_pools(self, operated):
        gateway = operated(more='[token.other]\nmembers = ["pkcs11:token=vault?backend=one"]\n')
        rv, answer = gateway.ask(DRAIN, member="one")
        assert rv == RV.CKR_ARGUMENTS_BAD
        assert answer["error"] == "one: is in several pools: vault/one, other/one"
        assert gateway.drain("other/one")["done"]
        assert [gateway.member("one", pool)["drained"] for pool in ("other", "vault")] == [True, False]

    @pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
    def test_no_object(self, operated, body):
        with RawClient(operated().socket) as client:
            client.send(DRAIN, body)
            assert client.receive().header.rv == RV.CKR_ARGUMENTS_BAD
