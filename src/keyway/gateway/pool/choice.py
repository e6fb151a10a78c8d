"""Which member of a pool serves a call."""

from collections.abc import Sequence
from enum import StrEnum
from math import inf
from typing import Protocol, TypeVar

__all__ = ["Choosable", "Policy", "choose"]


class Policy(StrEnum):
    """How a pool spreads its work."""

    FAILOVER = "failover"
    BALANCE = "balance"


class Choosable(Protocol):
    """What a choice needs to know of a member."""

    @property
    def weight(self) -> int:
        """How much work it is to get in relation to the others, from 1."""

    @property
    def outstanding(self) -> int:
        """How many calls it has not answered yet."""

    @property
    def is_standby(self) -> bool:
        """Whether it serves only if there is no other."""

    @property
    def share(self) -> float:
        """Which part of its weight it is to carry at present: above 0, at most 1."""


C = TypeVar("C", bound=Choosable)


def choose(policy: Policy, members: Sequence[C], turn: int) -> C | None:
    """Return the member that serves, or None if there is none.

    Args:
        policy: How the pool spreads its work.
        members: Those that are usable and have what the call needs, in the order of the configuration.
        turn: A number that grows by one with each choice: who serves among equals.
    """
    chosen = _choose(policy, members, turn, False)
    return chosen if chosen is not None else _choose(policy, members, turn, True)


def _choose(policy: Policy, members: Sequence[C], turn: int, is_standby: bool) -> C | None:
    least = inf
    ties: list[C] = []
    for member in members:
        if member.is_standby is not is_standby:
            continue
        if policy is Policy.FAILOVER:
            return member
        load = (member.outstanding + 1) / (member.weight * member.share)
        if load < least:
            least = load
            ties = [member]
        elif load == least:
            ties.append(member)
    return ties[turn % len(ties)] if ties else None
