"""Counts of what happens. Recording costs next to nothing, since every call does it; sums are made when somebody asks."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["BOUNDS", "OTHER", "Answered", "Counters", "Times", "counted"]

BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds up to which a call belongs into each bucket; the last bucket has no end."""
OTHER: Final = -1
"""In the place of an RV: all those for which there is no room."""
MAX_ANSWERS: Final = 2048
"""Pairs of call and RV that are told apart for one backend. One that has gone mad could answer with any number."""
MAX_REASONS: Final = 32
"""Reasons for failovers that are told apart for one member."""


class Times:
    """How long calls took.

    Attributes:
        seconds: The sum.
        buckets: How many took up to each of `BOUNDS` and more than the one before; the last, how many took longer.
    """

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return sum(self.buckets)


class Answered(dict[tuple[int, int], int]):
    """How often a backend answered a call with an RV, by call number and RV. Count with += 1; a pair that is new raises KeyError: `add` it."""

    __slots__ = ()

    def add(self, call: int, rv: int) -> None:
        """Count an answer that is not among them yet.

        Args:
            call: Call number.
            rv: RV.
        """
        pair = (call, rv if len(self) < MAX_ANSWERS else OTHER)
        self[pair] = self.get(pair, 0) + 1


class Counters:
    """What the daemon counts.

    Attributes:
        calls: Calls of pools so far, by call number, token, member and class of the RV.
        times: How long they took, by token and member.
        failovers: How often calls left a member, by token, member and reason.
        answered: Answers of backends, by the backend's name.
    """

    def __init__(self) -> None:
        self.calls: dict[tuple[int, str, str, str], int] = {}
        self.times: dict[tuple[str, str], Times] = {}
        self.failovers: dict[tuple[str, str, str], int] = {}
        self.answered: dict[str, Answered] = {}

    def note(self, call: int, token: str, member: str, rv_class: str, seconds: float) -> None:
        """Count a call of a pool.

        Args:
            call: Call number.
            token: Name of the pool.
            member: Name of the member that answered, or did not.
            rv_class: What the answer meant to the pool; one of a few words.
            seconds: How long it took.
        """
        key = (call, token, member, rv_class)
        try:
            self.calls[key] += 1
        except KeyError:
            self.calls[key] = 1
        try:
            times = self.times[token, member]
        except KeyError:
            times = self.times[token, member] = Times()
        times.seconds += seconds
        times.buckets[bisect_left(BOUNDS, seconds)] += 1

    def failover(self, token: str, member: str, why: str) -> None:
        """Count that calls go to another member.

        Args:
            token: Name of the pool.
            member: Name of the member that they leave.
            why: The reason, in a few words that are always the same for the same kind.
        """
        key = (token, member, why)
        if key not in self.failovers and len(self._reasons(token, member)) >= MAX_REASONS:
            key = (token, member, "other")
        self.failovers[key] = self.failovers.get(key, 0) + 1

    def _reasons(self, token: str, member: str) -> list[str]:
        return [why for of, left, why in self.failovers if (of, left) == (token, member)]


def counted(status: dict[str, Any], counters: Counters) -> dict[str, Any]:
    """Return a daemon's status with counts in it: `calls` of each backend, `calls` and `seconds` of each member of a pool.

    Args:
        status: What the daemon tells.
        counters: What it has counted.
    """
    return {
        **status,
        "backends": {name: _backend(counters, name, facts) for name, facts in status.get("backends", {}).items()},
        "pools": {
            name: {**pool, "members": [_member(counters, name, member) for member in pool.get("members", ())]}
            for name, pool in status.get("pools", {}).items()
        },
    }


def _backend(counters: Counters, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    answered = counters.answered.get(name)
    return {**facts, **({} if answered is None else {"calls": sum(answered.values())})}


def _member(counters: Counters, token: str, member: Mapping[str, Any]) -> dict[str, Any]:
    times = counters.times.get((token, member.get("member", "")), Times())
    return {**member, "calls": times.calls, "seconds": round(times.seconds, 6)}
