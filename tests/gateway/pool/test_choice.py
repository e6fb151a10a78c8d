from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from keyway.gateway.pool.choice import Policy, choose


@dataclass
class Member:
    """As much of a member as a choice sees. It may look empty."""

    name: str
    weight: int = 1
    outstanding: int = 0
    is_standby: bool = False
    share: float = 1.0

    def __bool__(self) -> bool:
        return False


A, B, C = (Member(name) for name in "ABC")

members = st.lists(
    st.builds(
        Member,
        st.just("M"),
        st.integers(1, 9),
        st.integers(0, 50),
        st.booleans(),
        st.floats(0.1, 1.0),
    ),
    max_size=5,
)
turns = st.integers(0, 2**40)


def named(policy: Policy, some: list[Member], turn: int = 0) -> str | None:
    chosen = choose(policy, some, turn)
    return chosen.name if chosen is not None else None


def test_nobody_serves_where_nobody_is():
    assert named(Policy.FAILOVER, []) is None
    assert named(Policy.BALANCE, []) is None


def test_failover_takes_the_first_whatever_it_has_to_do():
    for turn in range(4):
        assert named(Policy.FAILOVER, [replace(A, outstanding=99), B, C], turn) == "A"


def test_balance_takes_the_one_with_least_to_do():
    assert (
        named(Policy.BALANCE, [replace(A, outstanding=2), replace(B, outstanding=1), replace(C, outstanding=3)]) == "B"
    )


def test_balance_counts_weights_and_shares():
    assert named(Policy.BALANCE, [replace(A, outstanding=1), replace(B, outstanding=4, weight=3)]) == "B"
    assert named(Policy.BALANCE, [replace(A, outstanding=1), replace(B, outstanding=1, share=0.1)]) == "A"


def test_equals_serve_in_turn():
    served = Counter(named(Policy.BALANCE, [A, B, C], turn) for turn in range(300))
    assert served == {"A": 100, "B": 100, "C": 100}


def test_turns_are_taken_among_equals_only():
    served = Counter(named(Policy.BALANCE, [A, replace(B, outstanding=1), C], turn) for turn in range(300))
    assert served == {"A": 150, "C": 150}


def test_work_follows_the_weights():
    each = [replace(A, weight=1), replace(B, weight=3)]
    served: Counter[str] = Counter()
    for turn in range(400):
        member = choose(Policy.BALANCE, each, turn)
        assert member is not None
        member.outstanding += 1
        served[member.name] += 1
    assert served == {"A": 100, "B": 300}


def test_a_standby_serves_only_alone():
    standby = replace(A, is_standby=True)
    for policy in Policy:
        assert named(policy, [standby, replace(B, outstanding=99)]) == "B"
        assert named(policy, [standby]) == "A"
    served = {named(Policy.BALANCE, [standby, replace(B, is_standby=True)], turn) for turn in range(2)}
    assert served == {"A", "B"}


@given(st.sampled_from(Policy), members, turns)
def test_somebody_serves_where_somebody_is_and_nobody_idler_is_passed_over(
    policy: Policy, some: list[Member], turn: int
):
    chosen = choose(policy, some, turn)
    if chosen is None:
        assert not some
        return
    rivals = [member for member in some if member.is_standby == chosen.is_standby]
    assert any(chosen is member for member in some)
    assert not chosen.is_standby or len(rivals) == len(some)
    if policy is Policy.FAILOVER:
        assert chosen is rivals[0]
    else:
        load = (chosen.outstanding + 1) / (chosen.weight * chosen.share)
        assert all(load <= (member.outstanding + 1) / (member.weight * member.share) for member in rivals)
