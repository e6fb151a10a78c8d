"""The states of a pool's member, and when to probe it."""

from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import Final

__all__ = [
    "PAUSES",
    "PROVEN",
    "SLOW_START",
    "Event",
    "Health",
    "State",
    "after",
    "is_usable",
    "probe_due",
    "share",
    "start",
]


class State(Enum):
    """What is believed of a member."""

    UP = "serves"
    SUSPECT = "serves; a call failed on it, and a probe will tell"
    DOWN = "does not serve; waits for the next probe"
    PROBING = "does not serve; a probe is under way"


class Event(Enum):
    """What happens to a member."""

    FAILED = "a call failed on it"
    PROBE_STARTED = "a probe began"
    PROBE_PASSED = "a probe ended well"
    PROBE_FAILED = "a probe ended badly"
    SERVED = "a call was served"
    WANTED = "a call found nobody to serve it"


PAUSES: Final = (1.0, 1.0, 2.0, 5.0, 10.0, 60.0, 300.0)
"""Seconds from a failed probe to the next one; the last is used again and again. Each is varied by up to a tenth, so that gateways do
not probe all at once."""

SLOW_START: Final = 10.0
"""Seconds in which a member that was down gets its full share again."""

PROVEN: Final = 30.0
"""Seconds that a member has to serve before its former failures are forgotten. One that fails earlier goes on with longer pauses."""

_FIRST_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a member. Times are in seconds of one clock that never goes back.

    Attributes:
        state: The state.
        failures: How many probes have failed since the member was last known to serve well.
        since: When the state began.
        retry_at: When the next probe is due; infinite if none is.
        slow_until: When the slow start ends, or ended.
    """

    state: State
    failures: int
    since: float
    retry_at: float
    slow_until: float


def start(now: float) -> Health:
    """Return the health of a member of which nothing bad is known."""
    return Health(State.UP, 0, now, inf, now)


def after(health: Health, event: Event, now: float, jitter: float) -> Health:
    """Return the health after an event.

    Args:
        health: The health before.
        event: What happened.
        now: The time.
        jitter: A random number from 0 to below 1.
    """
    match event, health.state:
        case ((Event.FAILED | Event.PROBE_FAILED), State.UP):
            return replace(health, state=State.SUSPECT, since=now, retry_at=now)
        case Event.PROBE_STARTED, State.SUSPECT:
            return replace(health, retry_at=inf)
        case Event.PROBE_STARTED, State.DOWN:
            return replace(health, state=State.PROBING, since=now, retry_at=inf)
        case Event.PROBE_PASSED, State.SUSPECT:
            return replace(health, state=State.UP, since=now, retry_at=inf)
        case Event.PROBE_PASSED, (State.PROBING | State.DOWN):
            return replace(health, state=State.UP, since=now, retry_at=inf, slow_until=now + SLOW_START)
        case Event.PROBE_FAILED, (State.SUSPECT | State.PROBING):
            pause = PAUSES[min(health.failures, len(PAUSES) - 1)] * (0.9 + 0.2 * jitter)
            return replace(health, state=State.DOWN, failures=health.failures + 1, since=now, retry_at=now + pause)
        case Event.WANTED, State.DOWN:
            # Somebody waits: the next probe comes as soon as the first after a failure would.
            return replace(health, retry_at=min(health.retry_at, health.since + PAUSES[0]))
        case Event.SERVED, State.UP if health.failures and now - health.since >= PROVEN:
            return replace(health, failures=0)
    # All else is late news of what is known already.
    return health


def is_usable(health: Health) -> bool:
    """Tell whether the member serves calls."""
    return health.state is State.UP or health.state is State.SUSPECT


def probe_due(health: Health, now: float) -> bool:
    """Tell whether a probe should begin now."""
    return now >= health.retry_at


def share(health: Health, now: float) -> float:
    """Return which part of its weight a member is to carry: from 0.1 to 1 during the slow start, then 1."""
    left = health.slow_until - now
    if left <= 0:
        return 1.0
    return max(_FIRST_SHARE, 1.0 - (1.0 - _FIRST_SHARE) * left / SLOW_START)
