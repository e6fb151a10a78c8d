"""Members fail while something is made at a pool with `writes = "all"`: it is at enough of them afterwards, or at none, and what stays is told."""

from typing import Any

import pytest
from tests.daemon.harness import until
from tests.daemon.pool import tokens
from tests.daemon.pool.app import DATA
from tests.daemon.pool.tokens import PIN
from tests.daemon.pool.writer import KEK, NO, P256, YES, Alone, Writer, data, named, template
from tests.daemon.pool_control.operator import Operated

from keyway.cryptoki import RV, Attribute, Mechanism, Null
from keyway.cryptoki.constants import (
    CKA_EC_PARAMS,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_LABEL,
    CKA_PRIVATE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKA_VERIFY,
    CKM_EC_KEY_PAIR_GEN,
    CKM_SHA256_HMAC,
    CKO_SECRET_KEY,
)
from keyway.daemon.control_numbers import CHECK

MEMBERS = ("one", "two", "three")
BOTH, EITHER, MOST, IMPATIENT, FIRST_MEMBER = range(5)
COMMON: dict[str, Any] = {"writes": '"all"', "wrapping_key": f'"{KEK}"', "deadline": 20}
POOLS = [
    tokens.pool("one", "two", **COMMON),
    tokens.pool("one", "two", name="either", quorum=1, **COMMON),
    tokens.pool(*MEMBERS, name="most", quorum=2, **COMMON),
    tokens.pool("one", "two", name="impatient", long_deadline=10, **COMMON),
]
MEMORY, ERROR, GENERAL, PROHIBITED = "rv 0x31", "rv 0x30", "rv 0x5", "rv 0x1b"
NOTHING = [0, 0, 0]


@pytest.fixture(scope="module", autouse=True)
def kek(shared):
    with Writer(shared, MOST) as app:
        app.kek()


@pytest.fixture
def has(pools):
    """How many objects with a label each member has, once all of them behave."""

    def count(label: str) -> list[int]:
        for member in pools.members:
            member.behaves()
        with Alone(pools, FIRST_MEMBER) as each:
            return each.has(label)

    return count


def down(pools, member, slot):
    """Let a member be gone, and wait until a pool knows."""
    name = (tokens.LABEL, "either")[slot]
    with Writer(pools, slot) as app:
        app.find()  # Everybody is asked, so that the loss is seen.
        member.goes()
        until(lambda: pools.status(name)[member.name]["state"] == "down", "the member is down")


def told(pools, event, label_or_call, key="label"):
    """The log's entries of one kind about a label."""
    return [entry for entry in pools.daemon.events(event) if entry[key] == label_or_call]


class TestPairs:
    """A key pair is made at the first of two members: the public key is created at the second, then the private key unwrapped."""

    @pytest.mark.parametrize(
        ("member", "function", "words", "rv"),
        [
            ("one", "C_GenerateKeyPair", MEMORY, RV.CKR_DEVICE_MEMORY),
            ("one", "C_GenerateKeyPair", GENERAL, RV.CKR_DEVICE_ERROR),
            ("one", "C_GenerateKeyPair", "exit", RV.CKR_DEVICE_ERROR),
            ("one", "C_WrapKey", "rv 0x54", RV.CKR_DEVICE_ERROR),
            ("one", "C_WrapKey", "rv 0x6a", RV.CKR_KEY_UNEXTRACTABLE),
            ("one", "C_WrapKey", "exit", RV.CKR_DEVICE_ERROR),
            ("one", "C_SetAttributeValue", "rv 0x10", RV.CKR_DEVICE_ERROR),
            ("one", "C_SetAttributeValue", "exit", RV.CKR_DEVICE_ERROR),
            ("one", "C_SetAttributeValue", "exit-after", RV.CKR_DEVICE_ERROR),
            ("two", "C_CreateObject", MEMORY, RV.CKR_DEVICE_MEMORY),
            ("two", "C_CreateObject", "exit", RV.CKR_DEVICE_ERROR),
            ("two", "C_CreateObject", "exit-after", RV.CKR_DEVICE_ERROR),
            ("two", "C_UnwrapKey", MEMORY, RV.CKR_DEVICE_MEMORY),
            ("two", "C_UnwrapKey", "rv 0x12", RV.CKR_ATTRIBUTE_TYPE_INVALID),
            ("two", "C_UnwrapKey", "rv 0x110", RV.CKR_DEVICE_ERROR),
            ("two", "C_UnwrapKey", ERROR, RV.CKR_DEVICE_ERROR),
            ("two", "C_UnwrapKey", "exit", RV.CKR_DEVICE_ERROR),
        ],
    )
    def test_nothing_is_left(self, pools, has, member, function, words, rv):
        with Writer(pools, BOTH) as app:
            (each,) = [each for each in pools.members if each.name == member]
            each.does_once(function, words)
            label = f"{member} {function} {words}"
            assert app.try_pair(label) == (rv, (0, 0))
            assert each.was_told(function)
            assert app.find(Attribute(CKA_LABEL, label.encode())) == ()
        assert has(label) == NOTHING

    @pytest.mark.parametrize("words", ["exit-after", "rv-after 0x30"])
    def test_what_was_made_all_the_same_is_found(self, pools, has, words):
        one, two, _ = pools.members
        with Writer(pools, BOTH) as app:
            two.does_once("C_UnwrapKey", words)
            public, private = app.pair(f"found {words}", bits=1024)
            assert two.was_told("C_UnwrapKey")
            assert two.calls("C_UnwrapKey") == 1
            one.kill()
            assert app.verifies(app.sign(private), public)
        assert has(f"found {words}") == [2, 2, 0]
        with Alone(pools, FIRST_MEMBER) as each:
            for app in each.apps[:2]:
                assert app.attribute(app.object(f"found {words}"), CKA_EXTRACTABLE) == NO

    def test_what_was_made_at_the_first_member_alone_is_told(self, pools, has):
        one, _, _ = pools.members
        with Writer(pools, BOTH) as app:
            one.does_once("C_GenerateKeyPair", "exit-after")
            assert app.try_pair("orphan", id_=b"\x12\x34")[0] == RV.CKR_DEVICE_ERROR
        assert has("orphan") == [2, 0, 0]
        left = told(pools, "object left behind", "orphan")
        assert {entry["object_class"] for entry in left} == {"CKO_PUBLIC_KEY", "CKO_PRIVATE_KEY"}
        assert {(entry["member"], entry["id"], entry["level"]) for entry in left} == {("one", "1234", "error")}

    def test_what_can_not_be_taken_away_is_told(self, pools, has):
        one, two, _ = pools.members
        with Writer(pools, BOTH) as app:
            two.does("C_UnwrapKey", MEMORY)
            one.does("C_DestroyObject", PROHIBITED)
            assert app.try_pair("stuck", id_=b"\x56")[0] == RV.CKR_DEVICE_MEMORY
        left = told(pools, "object left behind", "stuck")
        assert sorted((entry["member"], entry["object_class"], entry["id"], entry["why"]) for entry in left) == [
            ("one", "CKO_PRIVATE_KEY", "56", "CKR_ACTION_PROHIBITED"),
            ("one", "CKO_PUBLIC_KEY", "56", "CKR_ACTION_PROHIBITED"),
        ]
        assert has("stuck") == [2, 0, 0]

    def test_a_member_that_does_not_come_back(self, pools, has):
        _, two, _ = pools.members
        with Writer(pools, BOTH) as app:
            app.create(data("before"))
            two.does("C_Initialize", ERROR)
            two.does("C_UnwrapKey", "exit-after")
            assert app.try_pair("away")[0] == RV.CKR_DEVICE_ERROR
        left = told(pools, "object left behind", "away")
        assert {(entry["member"], entry["object_class"]) for entry in left} == {
            ("two", "CKO_PUBLIC_KEY"),
            ("two", "CKO_PRIVATE_KEY"),
        }
        assert has("away") == [0, 2, 0]

    def test_a_member_that_does_not_answer(self, pools, has):
        _, two, _ = pools.members
        with Writer(pools, IMPATIENT) as app:
            app.create(data("before it hangs"))
            two.does("C_UnwrapKey", "hang")
            assert app.try_pair("hung")[0] == RV.CKR_DEVICE_ERROR
            assert {entry["member"] for entry in told(pools, "object left behind", "hung")} == {"two"}
        assert has("hung")[0] == 0

    def test_the_client_goes_in_the_middle(self, pools, has):
        _, two, _ = pools.members
        app = Writer(pools, BOTH)
        two.does("C_UnwrapKey", "hang")
        app.send_call(
            "C_GenerateKeyPair",
            Mechanism(CKM_EC_KEY_PAIR_GEN, Null()),
            template(named("deserted"), {CKA_EC_PARAMS: P256, CKA_VERIFY: YES}),
            template(named("deserted"), {CKA_SIGN: YES, CKA_PRIVATE: YES}),
            0,
            0,
            target=1,
        )
        until(lambda: two.calls("C_UnwrapKey"), "the second member unwraps")
        app.socket.close()
        until(lambda: not pools.daemon.contexts(), "the daemon knows that the client has gone")
        two.behaves("C_UnwrapKey")
        until(pools.is_quiet, "what was begun is finished")
        assert has("deserted") == [2, 2, 0]
        with Alone(pools, FIRST_MEMBER) as each:
            for app in each.apps[:2]:
                assert app.attribute(app.object("deserted"), CKA_EXTRACTABLE) == NO


class TestGivenObjects:
    @pytest.mark.parametrize(
        ("member", "words", "rv"),
        [
            ("one", MEMORY, RV.CKR_DEVICE_MEMORY),
            ("one", "exit", RV.CKR_DEVICE_ERROR),
            ("two", MEMORY, RV.CKR_DEVICE_MEMORY),
            ("two", "rv 0x110", RV.CKR_WRAPPED_KEY_INVALID),
            ("two", ERROR, RV.CKR_DEVICE_ERROR),
            ("two", "exit", RV.CKR_DEVICE_ERROR),
        ],
    )
    def test_nothing_is_left(self, pools, has, member, words, rv):
        label = f"{member} {words}"
        with Writer(pools, BOTH) as app:
            (each,) = [each for each in pools.members if each.name == member]
            each.does_once("C_CreateObject", words)
            assert app.call("C_CreateObject", template(data(label)), 0, target=1)[0] == rv
            assert each.was_told("C_CreateObject")
            assert app.find(Attribute(CKA_LABEL, label.encode())) == ()
        assert has(label) == NOTHING

    @pytest.mark.parametrize("words", ["exit-after", "rv-after 0x30"])
    @pytest.mark.parametrize("member", ["one", "two"])
    def test_what_was_made_all_the_same_is_found(self, pools, has, member, words):
        label = f"found {member} {words}"
        with Writer(pools, BOTH) as app:
            (each,) = [each for each in pools.members if each.name == member]
            each.does_once("C_CreateObject", words)
            handle = app.create(data(label))
            assert each.was_told("C_CreateObject")
            assert app.attribute(handle, CKA_VALUE) == b"some data"
            assert [member.calls("C_CreateObject") for member in pools.members] == [1, 1, 0]
        assert has(label) == [1, 1, 0]

    def test_all_members_are_lost_with_it(self, pools, has):
        one, two, _ = pools.members
        with Writer(pools, BOTH) as app:
            one.does_once("C_CreateObject", "exit-after")
            two.does_once("C_CreateObject", "exit")
            assert app.call("C_CreateObject", template(data("lost")), 0, target=1)[0] == RV.CKR_DEVICE_ERROR
        assert {entry["member"] for entry in told(pools, "object left behind", "lost")} == {"one", "two"}
        assert has("lost") == [1, 0, 0]


class TestQuorum:
    def test_too_few_members_serve(self, pools, has):
        one, two, _ = pools.members
        down(pools, two, BOTH)
        one.forget()
        with Writer(pools, BOTH) as app:
            assert app.try_pair("few")[0] == RV.CKR_TOKEN_NOT_PRESENT
            assert app.try_key("few")[0] == RV.CKR_TOKEN_NOT_PRESENT
            assert app.call("C_CreateObject", template(data("few")), 0, target=1)[0] == RV.CKR_TOKEN_NOT_PRESENT
            # What is not for the token is made as ever.
            app.pair("few", {CKA_TOKEN: NO}, {CKA_TOKEN: NO})
        assert one.calls("C_GenerateKey") == one.calls("C_CreateObject") == 0
        assert has("few") == NOTHING
        (why,) = {entry["why"] for entry in pools.daemon.events("pool write refused") if entry["token"] == "vault"}
        assert why == "too few members: two: does not serve"

    def test_a_member_is_lost_that_nobody_misses_yet(self, pools, has):
        _, two, _ = pools.members
        two.goes()
        with Writer(pools, BOTH) as app:
            assert app.try_pair("missed")[0] == RV.CKR_TOKEN_NOT_PRESENT
        assert has("missed") == NOTHING

    @pytest.mark.parametrize("lost", [0, 1])
    def test_one_of_two_is_enough(self, pools, has, lost):
        label = f"enough {lost}"
        down(pools, pools.members[lost], EITHER)
        with Writer(pools, EITHER) as app:
            public, private = app.pair(label, bits=1024)
            assert app.verifies(app.sign(private), public)
            app.create(data(label))
        assert has(label) == ([0, 3, 0] if lost == 0 else [3, 0, 0])
        member = MEMBERS[lost]
        entries = [
            entry for entry in told(pools, "pool write incomplete", "either", "token") if entry["member"] == member
        ]
        assert {entry["call"] for entry in entries} == {"C_GenerateKeyPair", "C_CreateObject"}
        assert {entry["level"] for entry in entries} == {"warning"}

    @pytest.mark.parametrize("words", [MEMORY, "exit"])
    def test_a_member_that_fails_keeps_nothing(self, pools, has, words):
        label = f"rest {words}"
        _, two, _ = pools.members
        two.does_once("C_UnwrapKey", words)
        with Writer(pools, EITHER) as app:
            public, private = app.pair(label, bits=1024)
            assert app.verifies(app.sign(private), public)
        assert has(label) == [2, 0, 0]

    def test_two_of_three(self, pools, has):
        _, two, three = pools.members
        three.does_once("C_UnwrapKey", MEMORY)
        with Writer(pools, MOST) as app:
            key = app.generic("two of three")
            made = app.sign(key, DATA, Mechanism(CKM_SHA256_HMAC))
            two.does_once("C_UnwrapKey", "exit")
            three.does_once("C_UnwrapKey", MEMORY)
            assert app.try_key("one of three")[0] == RV.CKR_DEVICE_ERROR
            assert app.sign(key, DATA, Mechanism(CKM_SHA256_HMAC)) == made
        assert has("two of three") == [1, 1, 0]
        assert has("one of three") == NOTHING
        (entry,) = [
            entry for entry in told(pools, "pool write incomplete", "most", "token") if entry["call"] == "C_GenerateKey"
        ]
        assert (entry["member"], entry["why"], entry["level"]) == ("three", "CKR_DEVICE_MEMORY", "warning")


def test_what_was_missed_is_found_by_a_check(pool, home):
    pin_file = home / "pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(f"{PIN}\n")
    pools = pool(**COMMON, quorum=1, pin_file=f'"{pin_file}"')
    gateway = Operated(pools.daemon, home)
    until(gateway.is_settled, "the members have been probed")

    def missing():
        rv, answer = gateway.ask(CHECK)
        assert rv == RV.CKR_OK
        findings = answer["pools"][tokens.LABEL]["findings"]
        return [(each["kind"], each["what"], each["members"]) for each in findings if each["kind"] != "copy"]

    with Writer(pools) as app:
        app.kek()
        app.pair("rsa", bits=1024)
        app.pair("ec")
        app.generic("generic")
        app.key("aes")
        app.create(data("data"))
        assert missing() == []
        pools.members[1].does("C_UnwrapKey", MEMORY)
        app.key("missed", {CKA_ID: b"\x21"})
        assert missing() == [("missing", "secret key 'missed' with CKA_ID 21", ["two"])]


class TestWrappingKey:
    def test_a_member_that_has_none_gets_nothing(self, pools, has):
        with Alone(pools, FIRST_MEMBER) as each:
            app = each.apps[1]
            app.good("C_DestroyObject", app.object(KEK, CKO_SECRET_KEY), target=1)
        with Writer(pools, BOTH) as app:
            assert app.try_key("lacking")[0] == RV.CKR_FUNCTION_NOT_SUPPORTED
        with Writer(pools, MOST) as app:
            app.key("lacking")
        with Alone(pools, FIRST_MEMBER) as each:
            each.apps[1].kek()  # The same again.
        with Writer(pools, BOTH) as app:
            app.key("having")
        assert has("lacking") == [1, 0, 1]
        assert has("having") == [1, 1, 0]

    def test_another_key_of_that_name(self, pools, has):
        with Alone(pools, FIRST_MEMBER) as each:
            app = each.apps[1]
            kek = app.object(KEK, CKO_SECRET_KEY)
            app.good("C_SetAttributeValue", kek, (Attribute(CKA_LABEL, b"aside"),), target=1)
            wrong = app.kek(KEK, {CKA_VALUE: bytes(32)})
            with Writer(pools, BOTH) as writer:
                assert writer.try_key("undecipherable")[0] == RV.CKR_DEVICE_ERROR
            app.good("C_DestroyObject", wrong, target=1)
            app.good("C_SetAttributeValue", kek, (Attribute(CKA_LABEL, KEK.encode()),), target=1)
        assert has("undecipherable") == NOTHING


class TestDestroying:
    def test_everywhere(self, pools, has):
        with Writer(pools, MOST) as app:
            public, private = app.pair("gone")
            app.good("C_DestroyObject", private, target=1)
            assert app.call("C_DestroyObject", private, target=1)[0] == RV.CKR_OBJECT_HANDLE_INVALID
            assert app.find(Attribute(CKA_LABEL, b"gone")) == (public,)
        assert has("gone") == [1, 1, 1]

    @pytest.mark.parametrize(
        ("slot", "member", "rv", "left"),
        [
            (BOTH, 0, RV.CKR_ACTION_PROHIBITED, [1, 1, 0]),
            (BOTH, 1, RV.CKR_DEVICE_ERROR, [0, 1, 0]),
            (EITHER, 0, RV.CKR_ACTION_PROHIBITED, [1, 1, 0]),
            (EITHER, 1, RV.CKR_OK, [0, 1, 0]),
        ],
    )
    def test_a_member_refuses(self, pools, has, slot, member, rv, left):
        label = f"destroyed {slot} {member}"
        with Writer(pools, slot) as app:
            handle = app.create(data(label))
            pools.members[member].does_once("C_DestroyObject", PROHIBITED)
            assert app.call("C_DestroyObject", handle, target=1)[0] == rv
        assert has(label) == left
        if member:
            entries = [
                entry
                for entry in told(pools, "pool write incomplete", "C_DestroyObject", "call")
                if entry["token"] == ("either" if slot == EITHER else tokens.LABEL)
            ]
            assert [entry["why"] for entry in entries] == ["CKR_ACTION_PROHIBITED"]
            assert [entry["level"] for entry in entries] == ["warning" if slot == EITHER else "error"]

    def test_a_member_is_lost_with_it(self, pools, has):
        _, two, _ = pools.members
        with Writer(pools, BOTH) as app:
            handle = app.create(data("half destroyed"))
            two.does_once("C_DestroyObject", "exit")
            assert app.call("C_DestroyObject", handle, target=1)[0] == RV.CKR_DEVICE_ERROR
            # The next time it is destroyed where it is left.
            app.good("C_DestroyObject", handle, target=1)
        assert has("half destroyed") == NOTHING

    def test_a_member_is_down(self, pools, has):
        _, two, _ = pools.members
        with Writer(pools, BOTH) as app, Writer(pools, EITHER) as other:
            kept, gone = app.create(data("kept")), other.create(data("dropped"))
            down(pools, two, BOTH)
            until(lambda: pools.status("either")["two"]["state"] == "down", "the other pool knows too")
            assert app.call("C_DestroyObject", kept, target=1)[0] == RV.CKR_TOKEN_NOT_PRESENT
            other.good("C_DestroyObject", gone, target=1)
        assert has("kept") == [1, 1, 0]
        assert has("dropped") == [0, 1, 0]


class TestChanging:
    def test_everywhere(self, pools, has):
        with Writer(pools, MOST) as app:
            handle = app.create(data("changed before"))
            app.good("C_SetAttributeValue", handle, (Attribute(CKA_LABEL, b"changed after"),), target=1)
            assert app.attribute(handle, CKA_LABEL) == b"changed after"
            assert app.find(Attribute(CKA_LABEL, b"changed after")) == (handle,)
            for member in pools.members:
                member.kill()
            assert app.attribute(handle, CKA_LABEL) == b"changed after"
            app.good("C_DestroyObject", handle, target=1)
        assert (has("changed before"), has("changed after")) == (NOTHING, NOTHING)

    @pytest.mark.parametrize(
        ("slot", "member", "rv", "changed"),
        [
            (BOTH, 0, RV.CKR_ACTION_PROHIBITED, [0, 0, 0]),
            (BOTH, 1, RV.CKR_DEVICE_ERROR, [1, 0, 0]),
            (EITHER, 1, RV.CKR_OK, [1, 0, 0]),
        ],
    )
    def test_a_member_refuses(self, pools, has, slot, member, rv, changed):
        before, after = f"before {slot} {member}", f"after {slot} {member}"
        with Writer(pools, slot) as app:
            handle = app.create(data(before))
            pools.members[member].does_once("C_SetAttributeValue", PROHIBITED)
            new = (Attribute(CKA_LABEL, after.encode()),)
            assert app.call("C_SetAttributeValue", handle, new, target=1)[0] == rv
        assert has(after) == changed
        assert has(before) == [1 - count if at < 2 else 0 for at, count in enumerate(changed)]
