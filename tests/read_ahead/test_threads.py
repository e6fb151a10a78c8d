"""Many threads that list, while others change what is listed: nobody sees what was before a change that has returned."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.daemon.raw import RawClient
from tests.daemon.tokens import login, open_session, slots
from tests.read_ahead.conftest import secret_key
from tests.read_ahead.cryptoki import Ask, Module

from keyway.cryptoki import Attribute, Numbers, ObjectsRoom
from keyway.cryptoki.constants import CKA_CLASS, CKA_ID, CKA_KEY_TYPE, CKA_LABEL

OBJECTS = 12
CHANGES = 300


class Board:
    """What has been changed for certain: object by object the last number that a change has returned with."""

    def __init__(self, changers: int) -> None:
        self.settled = dict.fromkeys(range(OBJECTS), 0)
        self.busy = changers
        self.lists = 0

    def change(self, set_label, objects: range) -> None:
        try:
            for number in range(1, CHANGES):
                index = objects[number % len(objects)]
                set_label(index, b"%d" % number)
                self.settled[index] = number
        finally:
            self.busy -= 1

    def read(self, module: Module) -> None:
        """List until nothing changes any more, and once more then."""
        is_last = False
        while not is_last:
            is_last = not self.busy
            assert module.begin() == 0
            while True:
                rv, found = module.find()
                assert rv == 0
                if not found:
                    break
                self._show(module, found[0])
            assert module.end() == 0
            self.lists += 1

    def _show(self, module: Module, handle: int) -> None:
        told = module.ask(handle, Ask(CKA_ID, 4), Ask(CKA_CLASS, 8), Ask(CKA_KEY_TYPE, 8))
        assert told.rv == 0
        index = told.values[0][0]
        for _ in range(2):
            before = self.settled[index]
            told = module.ask(handle, Ask(CKA_LABEL, 20))
            assert told.rv == 0
            assert int(told.values[0]) >= before, f"object {index}"


def beside(module: Module) -> Module:
    """The same module with a session of its own, for another thread."""
    other = object.__new__(Module)
    other.__dict__.update(module.__dict__)
    other.session = module.open()
    return other


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("changers", [("us",), ("others",), ("us", "others")], ids="-and-".join)
def test_nobody_sees_what_was_before(keyway, daemon, readers, changers, trips):
    """Whoever makes the changes: a context drops what it has read when it changes something itself, and when it is told that others have."""
    board = Board(len(changers))
    own = {}
    for index in range(OBJECTS):
        own[index] = keyway.create(*secret_key("0", bytes([index])))
    with RawClient(daemon.socket) as client:
        client.initialize()
        login(client, open_session(client, slots(client)[0]))
        theirs = {index: handle_of(client, index) for index in range(OBJECTS)}
        changer = beside(keyway)

        def by_us(index: int, label: bytes) -> None:
            assert changer.set(own[index], (CKA_LABEL, label)) == 0

        def by_others(index: int, label: bytes) -> None:
            client.good("C_SetAttributeValue", theirs[index], (Attribute(CKA_LABEL, label),), target=1)

        change = {"us": by_us, "others": by_others}
        share = OBJECTS // len(changers)
        sessions = [beside(keyway) for _ in range(readers)]
        with ThreadPoolExecutor(readers + len(changers)) as threads:
            works = [threads.submit(board.read, module) for module in sessions]
            for number, who in enumerate(changers):
                objects = range(number * share, (number + 1) * share)
                works.append(threads.submit(board.change, change[who], objects))
        for work in works:
            work.result()
    keyway.stop()
    counted = trips()
    keyway.start()
    assert board.lists
    assert counted["ahead"], "or nothing was tried"


def handle_of(client: RawClient, index: int) -> int:
    client.good("C_FindObjectsInit", (Attribute(CKA_ID, bytes([index])),), target=1)
    (found,) = client.good("C_FindObjects", ObjectsRoom(2, True, True), target=1)
    client.good("C_FindObjectsFinal", target=1)
    assert isinstance(found, Numbers)
    assert found.data is not None
    return found.data[0]
