"""Turns are shared by identities: nobody gets more than a share while others are busy, nobody starves, and who is alone is not held up."""

from collections import deque
from itertools import count
from math import ceil

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from keyway.gateway.shares import ALONE, MEMORY, TURN, Share, Shares

COSTLY = 4
MOST = TURN + COSTLY - 1
"""What may pass in a turn: the last request may count more than is left."""


class Client:
    """A connection, with what has come from it and was not passed on. Requests are numbered, and count as said."""

    def __init__(self, shares: "Shares[Client]", name: str) -> None:
        self.share = shares.enter(name)
        self.pending: deque[tuple[int, int]] = deque()
        self.numbers = count()
        self.passed: list[int] = []
        self.waits = False

    def send(self, costs: list[int]) -> None:
        self.pending.extend((next(self.numbers), cost) for cost in costs)


class Loop:
    """The turns of a loop with some clients."""

    def __init__(self) -> None:
        self.is_due = False
        self.shares: Shares[Client] = Shares(self.ask)
        self.clients: list[Client] = []
        self.spent: dict[str, int] = {}
        """By identity: what has passed in this turn of the loop."""

    def ask(self) -> None:
        assert not self.is_due
        self.is_due = True

    def join(self, name: str) -> Client:
        client = Client(self.shares, name)
        self.clients.append(client)
        return client

    def part(self, client: Client) -> None:
        self.clients.remove(client)
        client.pending.clear()
        client.waits = False
        self.shares.leave(client.share)

    def awaited(self) -> set[Share[Client]]:
        return {client.share for client in self.clients if client.waits}

    def pass_on(self, client: Client) -> None:
        share = client.share
        left = given = min(TURN, share.left)
        while client.pending and left > 0:
            number, cost = client.pending.popleft()
            client.passed.append(number)
            left -= cost
        share.left -= given - left
        self.spent[share.name] = self.spent.get(share.name, 0) + given - left
        if share.left < share.low:
            self.shares.spent(share)
        client.waits = bool(client.pending)
        if client.waits:
            self.shares.wait(share, client)

    def turn(self, arrivals: dict[Client, list[int]]) -> dict[str, int]:
        """Do a turn: those that wait first, then what is read from the others. Return what has passed, by identity."""
        self.spent = {}
        if self.is_due:
            self.is_due = False
            for client in self.shares.turn():
                self.pass_on(client)
        for client, costs in arrivals.items():
            client.send(costs)
            if not client.waits:
                self.pass_on(client)
        return {name: spent for name, spent in self.spent.items() if spent}


COSTS = st.lists(st.sampled_from([1, 1, 1, COSTLY]), min_size=1, max_size=80)
NAMES = st.sampled_from("ABC")


class Turns(RuleBasedStateMachine):
    """Clients of three identities come, send, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.before: dict[str, int] = {}

    @rule(name=NAMES)
    def join(self, name: str) -> None:
        self.loop.join(name)

    @rule(data=st.data())
    def part(self, data: st.DataObject) -> None:
        if self.loop.clients:
            self.loop.part(data.draw(st.sampled_from(self.loop.clients)))

    @rule(data=st.data())
    def turn(self, data: st.DataObject) -> None:
        loop = self.loop
        senders = data.draw(st.lists(st.sampled_from(loop.clients), unique=True)) if loop.clients else []
        arrivals = {client: data.draw(COSTS) for client in senders}
        waiting = {share.name: next(client for client in share.waiting if client.waits) for share in loop.awaited()}
        passed = {client: len(client.passed) for client in waiting.values()}
        spent = loop.turn(arrivals)
        for name, much in spent.items():
            has_company = bool(self.before.keys() - {name})
            assert much <= (MOST if has_company else ALONE + COSTLY - 1)
        # An identity that waits gets something in each turn, and of its connections the one that has waited for longest.
        assert waiting.keys() <= spent.keys()
        assert all(len(client.passed) > before for client, before in passed.items())
        self.before = spent

    @invariant()
    def in_order(self) -> None:
        assert all(client.passed == list(range(len(client.passed))) for client in self.loop.clients)

    def teardown(self) -> None:
        """All passes in the end, and nothing is kept of those that have gone."""
        loop = self.loop
        costs: dict[Share[Client], int] = {}
        for client in loop.clients:
            costs[client.share] = costs.get(client.share, 0) + sum(cost for _, cost in client.pending)
        for _ in range(max((ceil(cost / (TURN - COSTLY)) for cost in costs.values()), default=0) + 1):
            loop.turn({})
        assert not any(client.pending or client.waits for client in loop.clients)
        for client in list(loop.clients):
            loop.part(client)
        other = loop.join("D")
        for _ in range(2 * MEMORY + 2):
            loop.turn({other: [1] * TURN})
        assert len(loop.shares) == 1


TestTurns = Turns.TestCase


@given(st.lists(st.lists(st.integers(1, ALONE // 8), min_size=1, max_size=4), max_size=300))
def test_who_is_alone_and_sends_half_of_what_may_pass_never_waits(sizes):
    loop = Loop()
    clients = [loop.join("A") for _ in range(4)]
    for each in sizes:
        loop.turn({client: [1] * size for client, size in zip(clients, each, strict=False)})
        assert not any(client.waits for client in clients)


@given(st.lists(st.tuples(st.integers(0, TURN // 2), st.integers(0, TURN // 2)), max_size=300))
def test_nor_do_two_that_send_half_as_much(sizes):
    loop = Loop()
    clients = [loop.join("A"), loop.join("B")]
    for pair in sizes:
        loop.turn({client: [1] * size for client, size in zip(clients, pair, strict=True) if size})
        assert not any(client.waits for client in clients)


@given(st.integers(1, 40), st.integers(1, MEMORY + 8))
def test_a_crowd_counts_as_one(many, silent):
    """However many connections flood, and however long the other identity is silent between two requests."""
    loop = Loop()
    crowd = [loop.join("A") for _ in range(many)]
    single = loop.join("B")

    def flood() -> dict[Client, list[int]]:
        return {client: [1] * TURN for client in crowd if not client.waits}

    for _ in range(3):
        for _ in range(silent):
            assert loop.turn(flood())["A"] <= ALONE
        spent = loop.turn(flood() | {single: [1]})
        assert spent["A"] <= (TURN if silent < MEMORY else ALONE) or not single.passed[1:]
        assert loop.turn(flood())["A"] == TURN
        spent = loop.turn(flood() | {single: [1] * TURN})
        assert spent["A"] == TURN
        assert spent["B"] >= TURN // 2
        assert loop.turn(flood())["A"] == TURN
        assert not single.waits


def test_connections_of_a_crowd_take_turns():
    loop = Loop()
    crowd = [loop.join("A") for _ in range(10)]
    single = loop.join("B")
    for _ in range(100):
        loop.turn({client: [1] * TURN for client in [*crowd, single] if not client.waits})
    passed = [len(client.passed) for client in crowd]
    assert max(passed) - min(passed) <= TURN


def test_coming_again_brings_no_other_turn():
    loop = Loop()
    single = loop.join("B")
    for _ in range(2 * MEMORY):
        again = [loop.join("A") for _ in range(3)]
        assert loop.turn({client: [1] * TURN for client in [single, *again]}) == {"B": TURN, "A": TURN}
        for client in again:
            loop.part(client)
