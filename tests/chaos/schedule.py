"""What happens during a storm, decided by a seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

__all__ = ["Blow", "Kind", "schedule"]


class Kind(Enum):
    """What happens to a member, or to the daemon."""

    KILL = "all of its processes are killed"
    CRASH = "its module ends the process in the middle of a signature"
    CRASH_AFTER = "its module ends the process when a signature is made, before it is told"
    ERROR = "one signature fails there with CKR_DEVICE_ERROR, and its module does not end the operation"
    BUSY = "one signature fails there with CKR_FUNCTION_FAILED, and its module does not end the operation"
    SLOW = "each signature takes longer there"
    PAUSE = "its processes are stopped for a while, and go on"
    FREEZE = "its processes are stopped until their calls go on elsewhere"
    GONE = "its processes are killed, and no new one can be started for a while"
    DRAIN = "it is drained, and resumed"
    RESTART = "the daemon is told to end, and started again"
    FALL = "the daemon is killed, and started again"


@dataclass(frozen=True)
class Blow:
    """One thing that happens.

    Attributes:
        kind: What.
        member: To which member, counted from 0.
        gap: After how many more operations of the applications.
        lasts: For how many operations, where it does not end by itself.
    """

    kind: Kind
    member: int
    gap: int
    lasts: int


def schedule(seed: int, members: int, rounds: int, gap: int) -> Sequence[Blow]:
    """Return a schedule in which each kind comes as often as there are rounds, in another order in each.

    Args:
        seed: What all depends on.
        members: How many there are.
        rounds: How many.
        gap: Operations between two blows on average.
    """
    random = Random(seed)
    blows = []
    for _ in range(rounds):
        kinds = list(Kind)
        random.shuffle(kinds)
        for kind in kinds:
            lasts = random.randint(gap // 2, gap)
            blows.append(Blow(kind, random.randrange(members), random.randint(gap // 2, 3 * gap // 2), lasts))
    return blows
