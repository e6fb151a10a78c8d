"""Two identities at one token, whatever they do: neither finds out anything of what the other has."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.daemon.pool.app import WRITE
from tests.daemon.pool.writer import template

from keyway.cryptoki import RV, Attribute, Mechanism, Null, Room, RoomBytes
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_LABEL,
    CKA_PRIVATE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKM_GENERIC_SECRET_KEY_GEN,
    CKM_SHA256_HMAC,
    CKO_DATA,
)

SIDES = st.sampled_from(["left", "right"])
NAMES = st.sampled_from(["1", "2", "3"])
HIDDEN = {RV.CKR_OBJECT_HANDLE_INVALID, RV.CKR_KEY_HANDLE_INVALID}


def machine(guests: Any) -> type[RuleBasedStateMachine]:
    class Two(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.apps: dict[str, Any] = {}

        @initialize()
        def begin(self) -> None:
            self.apps = {side: guests.app(side, flags=WRITE) for side in ("left", "right")}
            self.owner = guests.app("owner", flags=WRITE)

        def seen(self, side: str) -> dict[int, bytes]:
            app = self.apps[side]
            return {handle: app.attribute(handle, CKA_LABEL) for handle in app.find()}

        @rule(side=SIDES, name=NAMES, for_=SIDES)
        def create(self, side: str, name: str, for_: str) -> None:
            label = f"{for_}-{name}".encode()
            made = template(
                {CKA_CLASS: CKO_DATA, CKA_TOKEN: b"\1", CKA_PRIVATE: b"\0", CKA_LABEL: label, CKA_VALUE: b"data"}
            )
            assert (self.apps[side].call("C_CreateObject", made, 0, target=1)[0] == RV.CKR_OK) is (side == for_)

        @rule(side=SIDES, name=NAMES)
        def generate(self, side: str, name: str) -> None:
            made = template(
                {CKA_LABEL: f"{side}-{name}".encode(), CKA_VALUE_LEN: 16, CKA_TOKEN: b"\1", CKA_SIGN: b"\1"},
                {CKA_PRIVATE: b"\1"},
            )
            self.apps[side].good("C_GenerateKey", Mechanism(CKM_GENERIC_SECRET_KEY_GEN, Null()), made, 0, target=1)

        @rule(side=SIDES, name=NAMES, for_=SIDES, data=st.data())
        def rename(self, side: str, name: str, for_: str, data: Any) -> None:
            if not (mine := sorted(self.seen(side))):
                return
            label = (Attribute(CKA_LABEL, f"{for_}-{name}".encode()),)
            rv, _ = self.apps[side].call("C_SetAttributeValue", data.draw(st.sampled_from(mine)), label, target=1)
            assert (rv == RV.CKR_OK) is (side == for_)

        @rule(side=SIDES, data=st.data())
        def destroy(self, side: str, data: Any) -> None:
            if mine := sorted(self.seen(side)):
                self.apps[side].good("C_DestroyObject", data.draw(st.sampled_from(mine)), target=1)

        @rule(side=SIDES, handle=st.integers(1, 60))
        def guess(self, side: str, handle: int) -> None:
            app, mine = self.apps[side], self.seen(side)
            read = app.call("C_GetAttributeValue", handle, (Attribute(CKA_LABEL, RoomBytes(64)),), target=1)
            used = app.fused("C_Sign", (Mechanism(CKM_SHA256_HMAC, Null()), handle), b"data", Room(64, True))
            size = app.call("C_GetObjectSize", handle, 0, target=1)
            if handle in mine:
                assert read[0] == RV.CKR_OK
            else:
                assert {read[0], used[0], size[0]} <= HIDDEN
                assert app.call("C_DestroyObject", handle, target=1)[0] in HIDDEN
                copy = (Attribute(CKA_LABEL, f"{side}-1".encode()),)
                assert app.call("C_CopyObject", handle, copy, 0, target=1)[0] in HIDDEN

        @precondition(lambda self: self.apps)
        @invariant()
        def each_sees_its_own(self) -> None:
            found = {}
            for side in self.apps:
                labels = sorted(self.seen(side).values())
                assert all(label.startswith(side.encode()) for label in labels)
                found[side] = labels
            everything = [self.owner.attribute(each, CKA_LABEL) for each in self.owner.find()]
            made = sorted(label for label in everything if label.startswith((b"left-", b"right-")))
            assert made == sorted([*found["left"], *found["right"]])

        def teardown(self) -> None:
            if self.apps:
                for each in self.owner.find():
                    if self.owner.attribute(each, CKA_LABEL).startswith((b"left-", b"right-")):
                        self.owner.good("C_DestroyObject", each, target=1)
                for app in (*self.apps.values(), self.owner):
                    app.socket.close()

    return Two


@pytest.mark.timeout(300)
def test_two(guests):
    run_state_machine_as_test(
        machine(guests),
        settings=settings(
            max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
