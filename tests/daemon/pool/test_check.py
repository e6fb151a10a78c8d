"""The members of a pool are compared."""

import os
import subprocess
import sys

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.tokens import PIN
from tests.daemon.pool_control.operator import Operated

from keyway.config.locate import softhsm_module
from keyway.cryptoki import RV
from keyway.daemon.control_numbers import CHECK

OBJECTS = 6
"""How many objects the tokens have."""
BEGIN = """
import sys, pkcs11
from pkcs11 import Attribute, KeyType, ObjectClass
module, pin = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label="vault")
with token.open(user_pin=pin, rw=True) as session:
"""
DESTROY = """
    for each in session.get_objects({Attribute.LABEL: "rsa"}):
        each.destroy()
"""
ANOTHER_PAIR = """
    session.generate_keypair(KeyType.RSA, 1024, id=b"\\x01", label="rsa", store=True)
"""
TWIN = """
    session.create_object({Attribute.CLASS: ObjectClass.DATA, Attribute.TOKEN: True, Attribute.PRIVATE: False,
                           Attribute.LABEL: "note", Attribute.VALUE: b"a note"})
"""


@pytest.fixture
def pin_file(home):
    path = home / "pin"
    path.touch(mode=0o600)
    path.write_text(f"{PIN}\n")
    return path


@pytest.fixture
def checked(pool, home):
    """Starts a daemon with a pool, and gives what compares its members."""

    def begin(*members, **options):
        pools = pool(*members, **{"deadline": 60, **options})  # A busy machine is slow.
        gateway = Operated(pools.daemon, home)
        until(gateway.is_settled, "the members have been probed")
        for member in pools.members:
            member.forget()
        return pools, gateway

    return begin


def report(gateway, pool="vault"):
    """Compare, and return what is told of a pool."""
    rv, answer = gateway.ask(CHECK)
    assert rv == 0
    return answer["pools"][pool]


def told(report):
    return [(each["kind"], each["what"], each["members"]) for each in report["findings"] if each["kind"] != "copy"]


def change(member, *scripts):
    """Change the objects of a token."""
    environment = {**os.environ, "SOFTHSM2_CONF": str(member.conf)}
    script = BEGIN + "".join(scripts)
    subprocess.run([sys.executable, "-c", script, softhsm_module(), PIN], env=environment, check=True)


def test_members_that_agree(checked, pin_file):
    pools, gateway = checked(pin_file=f'"{pin_file}"')
    assert "disagreements" not in gateway.pool()
    told = report(gateway)
    assert (told["agrees"], told["disagreements"], told["public_only"]) == (True, 0, False)
    assert told["objects"] == {"one": OBJECTS, "two": OBJECTS}
    # Their tokens were made as copies.
    (copy,) = told["findings"]
    assert (copy["kind"], copy["members"]) == ("copy", ["one", "two"])
    assert gateway.pool()["disagreements"] == 0
    assert [member.calls("C_Login") for member in pools.members] == [1, 1]
    until(gateway.is_settled, "nothing of it is left")


def test_without_a_pin_only_what_is_public_is_compared(checked):
    pools, gateway = checked()
    change(pools.members[1], TWIN)
    report_ = report(gateway)
    assert report_["public_only"]
    assert 0 < report_["objects"]["one"] < OBJECTS
    assert told(report_) == [("twins", "data object 'note'", ["two"])]
    assert [member.calls("C_Login") for member in pools.members] == [0, 0]


def test_what_one_lacks(checked, pin_file):
    pools, gateway = checked(pin_file=f'"{pin_file}"')
    change(pools.members[1], DESTROY)
    assert told(report(gateway)) == [
        ("missing", "private key 'rsa' with CKA_ID 01", ["two"]),
        ("missing", "public key 'rsa' with CKA_ID 01", ["two"]),
    ]
    assert gateway.pool()["disagreements"] == 2
    (entry,) = pools.daemon.events("members compared")
    assert entry["level"] == "warning"
    assert "missing: public key 'rsa' with CKA_ID 01 (two)" in entry["found"]


def test_different_keys_that_are_called_the_same(checked, pin_file):
    pools, gateway = checked(pin_file=f'"{pin_file}"')
    change(pools.members[0], DESTROY, ANOTHER_PAIR)
    assert told(report(gateway)) == [
        ("different", "private key 'rsa' with CKA_ID 01", ["one", "two"]),
        ("different", "public key 'rsa' with CKA_ID 01", ["one", "two"]),
    ]


def test_a_member_that_is_not_there(checked, pin_file):
    pools, gateway = checked(pin_file=f'"{pin_file}"')
    one, two = pools.members
    two.does("C_Initialize", "rv 0x30")
    report_ = report(gateway)
    assert told(report_) == [("absent", "C_Initialize failed", ["two"])]
    assert report_["objects"] == {"one": OBJECTS}
    assert (report_["agrees"], report_["disagreements"]) == (False, 0)
    assert one.calls("C_Login") == 1


def test_a_wrong_pin_is_tried_once_and_never_again(checked, pin_file):
    pin_file.write_text("wrong\n")
    pools, gateway = checked(pin_file=f'"{pin_file}"')
    assert told(report(gateway)) == [("pin", "CKR_PIN_INCORRECT", [name]) for name in ("one", "two")]
    assert all("CKR_PIN_INCORRECT" in each["parked"] for each in gateway.pool()["members"])
    why = "parked: the PIN of pin_file is refused: CKR_PIN_INCORRECT"
    assert told(report(gateway)) == [("unused", why, [name]) for name in ("one", "two")]
    assert [member.calls("C_Login") for member in pools.members] == [1, 1]
    pin_file.write_text(f"{PIN}\n")
    for name in ("one", "two"):
        assert gateway.resume(name)["serves"]
    assert report(gateway)["agrees"]
    assert "wrong" not in pools.daemon.log()


def test_a_drained_member_is_left_alone(checked, pin_file):
    pools, gateway = checked(pin_file=f'"{pin_file}"')
    until(lambda: gateway.is_drained("two"), "the member is drained")
    assert told(report(gateway)) == [("unused", "drained", ["two"])]
    assert pools.members[1].calls("C_Initialize") == 0


def test_the_same_token_twice(start, member, home):
    one = member("one")
    members = '["pkcs11:token=vault?name=a", "pkcs11:token=vault;manufacturer=SoftHSM%20project?name=b"]'
    gateway = Operated(start(f"{one.section}[token.vault]\nmembers = {members}\n"), home)
    until(gateway.is_settled, "the members have been probed")
    ((kind, what, names),) = told(report(gateway))
    assert (kind, names) == ("same", ["a", "b"])
    assert what.startswith("serial number ")


def test_one_pool_of_several(checked):
    _, gateway = checked(more='[token.other]\nmembers = ["pkcs11:token=vault?backend=one"]\n')
    assert list(gateway.ask(CHECK)[1]["pools"]) == ["vault", "other"]
    assert list(gateway.ask(CHECK, pool="other")[1]["pools"]) == ["other"]
    rv, answer = gateway.ask(CHECK, pool="third")
    assert rv == RV.CKR_ARGUMENTS_BAD
    assert answer["error"] == "third: no pool; there are: vault, other"


def test_a_member_that_comes_back_is_compared(checked, pin_file):
    pools, gateway = checked(pin_file=f'"{pin_file}"')
    one, two = pools.members
    two.does("C_Initialize", "rv 0x30")
    change(two, DESTROY)
    assert not gateway.resume("two")["serves"]
    assert "disagreements" not in gateway.pool()
    two.behaves()
    until(lambda: gateway.pool().get("disagreements") == 2, "the members have been compared")
    assert gateway.member("two")["state"] == "up"
    assert (one.calls("C_Login"), two.calls("C_Login")) == (1, 1)


def test_without_a_pin_nothing_happens_by_itself(checked):
    pools, gateway = checked()
    _, two = pools.members
    two.does("C_Initialize", "rv 0x30")
    assert not gateway.resume("two")["serves"]
    two.behaves()
    until(lambda: gateway.member("two")["serves"], "it is back")
    assert "disagreements" not in gateway.pool()
