"""Whatever is asked in whatever order, while objects come, go and change: what the vendor's module itself says at that moment."""

import random

import pytest
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, login, open_session, slots
from tests.read_ahead.conftest import secret_key
from tests.read_ahead.cryptoki import Ask, Module

from keyway.cryptoki import Attribute, Numbers, ObjectsRoom
from keyway.cryptoki.constants import (
    CKA_ALLOWED_MECHANISMS,
    CKA_CLASS,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS_BITS,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_UNIQUE_ID,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKA_WRAP_TEMPLATE,
)

STEPS = 600
VENDORS = 0x8000_1234

POOL: tuple[tuple[Ask, ...], ...] = (
    (Ask(CKA_CLASS, 8),),
    (Ask(CKA_CLASS, 8), Ask(CKA_KEY_TYPE, 8)),
    (Ask(CKA_LABEL, None),),
    (Ask(CKA_LABEL, 200),),
    (Ask(CKA_LABEL, 3),),
    (Ask(CKA_ID, None), Ask(CKA_LABEL, None)),
    (Ask(CKA_ID, None), Ask(CKA_VALUE, None)),
    (Ask(CKA_VALUE, None),),
    (Ask(CKA_VALUE, 32),),
    (Ask(CKA_VALUE_LEN, 8),),
    (Ask(CKA_MODULUS_BITS, 8),),
    (Ask(CKA_MODULUS_BITS, 8), Ask(CKA_LABEL, 100), Ask(CKA_VALUE, 40)),
    (Ask(CKA_UNIQUE_ID, None),),
    (Ask(CKA_ALLOWED_MECHANISMS, None),),
    (Ask(CKA_WRAP_TEMPLATE, None),),
    (Ask(VENDORS, None),),
    (Ask(CKA_SENSITIVE, 1), Ask(CKA_EXTRACTABLE, 1)),
    (Ask(CKA_PRIVATE, 0),),
)


class Play:
    """An application behind the gateway, another one there, and the module itself to compare with."""

    def __init__(self, seed: int, keyway: Module, direct: Module, other: RawClient) -> None:
        self.random = random.Random(seed)
        self.keyway = keyway
        self.direct = direct
        self.other = other
        self.ids: list[bytes] = []
        self.asked = 0
        """Queries that were compared."""
        self._second = keyway.open()
        self._count = 0
        self._found: list[int] = []
        self._at = 0
        self._searching = False
        self._habit = [POOL[0], POOL[2], POOL[9]]
        self._known: dict[int, bytes] = {}
        self._handles: dict[bytes, int] = {}

    def step(self) -> None:
        actions = {self.show: 20, self.find: 12, self.stray: 3, self.rename: 2, self.end: 0.5}
        actions |= {self.create: 1, self.destroy: 1, self.relogin: 0.3, self.turn: 0.5}
        (action,) = self.random.choices(list(actions), list(actions.values()))
        action()

    def create(self) -> None:
        self._count += 1
        id_ = b"id %d" % self._count
        flag = bytes([self.random.randrange(2)])
        more = ((CKA_SENSITIVE, flag), (CKA_EXTRACTABLE, bytes([1 - flag[0]])))
        template = list(secret_key(f"key {self._count}", id_, *more))
        if self.random.randrange(3) == 0:
            template = [(type_, b"\0" if type_ == CKA_PRIVATE else value) for type_, value in template]
        self.keyway.create(*template)
        self.ids.append(id_)

    def destroy(self) -> None:
        if len(self.ids) < 8:
            return
        id_ = self.ids.pop(self.random.randrange(len(self.ids)))
        if self.random.randrange(2):
            self.other.good("C_DestroyObject", self._others(id_), target=1)
        else:
            assert self.keyway.destroy(self._own(id_)) == 0

    def rename(self) -> None:
        id_ = self.random.choice(self.ids)
        label = bytes(self.random.choices(b"abcdefgh", k=self.random.randrange(12)))
        if self.random.randrange(3):
            self.other.good("C_SetAttributeValue", self._others(id_), (Attribute(CKA_LABEL, label),), target=1)
        else:
            assert self.keyway.set(self._own(id_), (CKA_LABEL, label)) == 0

    def find(self) -> None:
        if not self._searching:
            # The first objects at once: until then the search may be kept back.
            self._found, self._at, self._searching = [], 0, True
            assert self.keyway.begin() == 0
        rv, found = self.keyway.find(self.random.choice([1, 1, 1, 2, 5]))
        assert rv == 0
        self._found += found

    def end(self) -> None:
        if self._searching:
            self._searching = False
            assert self.keyway.end() == 0

    def show(self) -> None:
        if self._at >= len(self._found):
            return
        handle = self._found[self._at]
        self._at += 1
        for asked in self._habit:
            told = self.compare(handle, asked)
            if all(ask.room is None for ask in asked) and told.rv == 0 and self.random.randrange(5):
                lengths = [length for length, _ in told.attributes]
                self.compare(handle, tuple(Ask(a.type, length) for a, length in zip(asked, lengths, strict=True)))

    def stray(self) -> None:
        if self._found:
            self.compare(self.random.choice(self._found), self.random.choice(POOL))

    def turn(self) -> None:
        """Ask something else from now on."""
        self._habit = self.random.choices(POOL, k=self.random.randrange(1, 6))

    def relogin(self) -> None:
        """Private objects have other handles afterwards, and a search may have ended."""
        self.end()
        self._found = []
        for module in (self.keyway, self.direct):
            assert module.logout() == 0
            assert module.login(PIN) == 0
        self._known.clear()
        self._handles.clear()

    def compare(self, handle: int, asked: tuple[Ask, ...]):
        id_ = self._id_of(handle)
        expected = self.direct.ask(self._direct(id_), *asked)
        told = self.keyway.ask(handle, *asked)
        assert told == expected, f"{asked} of {id_!r}"
        self.asked += 1
        return told

    def _id_of(self, handle: int) -> bytes:
        """Ask in another session, which teaches nothing about this one."""
        if handle not in self._known:
            for id_ in self.ids:
                self._known[self._own(id_)] = id_
        return self._known.get(handle, b"destroyed before it was known")

    def _own(self, id_: bytes) -> int:
        session, self.keyway.session = self.keyway.session, self._second
        try:
            (handle,) = self.keyway.all(((CKA_ID, id_),), 4)
        finally:
            self.keyway.session = session
        self._known[handle] = id_
        return handle

    def _direct(self, id_: bytes) -> int:
        if id_ not in self._handles:
            (self._handles[id_],) = self.direct.all(((CKA_ID, id_),), 4) or [0xDEAD]
        return self._handles[id_]

    def _others(self, id_: bytes) -> int:
        self.other.good("C_FindObjectsInit", (Attribute(CKA_ID, id_),), target=1)
        (found,) = self.other.good("C_FindObjects", ObjectsRoom(4, True, True), target=1)
        self.other.good("C_FindObjectsFinal", target=1)
        assert isinstance(found, Numbers)
        assert found.data is not None
        return found.data[0]


@pytest.mark.parametrize("seed", range(8))
def test_random_reading(seed, daemon, keyway, direct, trips):
    with RawClient(daemon.socket) as other:
        other.initialize()
        login(other, open_session(other, slots(other)[0]))
        play = Play(seed, keyway, direct, other)
        for _ in range(12):
            play.create()
        for _ in range(STEPS):
            play.step()
    keyway.stop()
    counted = trips()
    keyway.start()
    assert counted["ahead"], "or nothing was tried"
