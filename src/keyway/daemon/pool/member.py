"""A member of a pool: one real token, as all contexts know it together."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from keyway.config import error_classes_of
from keyway.cryptoki import MechanismInfo, SlotInfo, TokenInfo
from keyway.gateway.pool.health import Event, Health, State, after, is_usable, share, start
from keyway.gateway.pool.signals import Signal, parse_signal
from keyway.gateway.slots import TokenRule

if TYPE_CHECKING:
    from keyway.config import MemberOptions
    from keyway.daemon.backend import Backend

__all__ = ["Member"]


class Member:
    """What is shared of a member.

    Attributes:
        name: What it is known by in the pool. Another one than it is shown by when it leaves: its successor may be called like that.
        shown: Its name in the configuration.
        backend: Where its token is.
        rule: Which of the tokens there it is.
        weight: How much of the work it gets, beside others.
        is_standby: Whether it serves only when no other can.
        vendor: What vendors' return values mean here.
        health: How it goes.
        share: How much of its weight counts at present: less while it is new.
        outstanding: Calls under way there, of all contexts.
        is_drained: Whether it gets no new work because somebody said so.
        drained_since: When that was said last, by the monotonic clock.
        streams: How many streams to it there are, or are being opened, of contexts and of the pool itself.
        parked: Why it gets no work until somebody has seen to it; empty if it does.
        slot_info: What its slot told last.
        token: What the token told last; None before it was seen.
        mechanisms: Its mechanisms; None before they were asked for.
        mechanism_infos: What was told of each that was asked for.
        refused: Digests of logins that it has refused. Each is tried once.
        served: Calls that it has answered.
        failures: How often it failed.
        error: What was wrong last.
    """

    def __init__(self, options: MemberOptions, backend: Backend) -> None:
        self.name = self.shown = options.name
        self.weight = options.weight
        self.is_standby = options.is_standby
        self.backend = backend
        self.rule = TokenRule(name=options.name, number=0, backend=options.backend, uri=options.uri)
        self.vendor: Mapping[int, Signal] = {
            rv: parse_signal(text) for rv, text in error_classes_of(backend.options).items()
        }
        self.health: Health = start(monotonic())
        self.share = 1.0
        self.outstanding = 0
        self.is_drained = False
        self.drained_since = 0.0
        self.streams = 0
        self.parked = ""
        self.slot_info: SlotInfo | None = None
        self.token: TokenInfo | None = None
        self.mechanisms: tuple[int, ...] | None = None
        self.mechanism_infos: dict[int, MechanismInfo | None] = {}
        self.refused: set[bytes] = set()
        self.served = 0
        self.failures = 0
        self.error = ""

    @property
    def is_usable(self) -> bool:
        """Whether it can be given work."""
        return is_usable(self.health) and not self.is_drained and not self.parked and self.token is not None

    @property
    def is_up(self) -> bool:
        """Whether nothing is known against it."""
        return self.health.state is State.UP

    def note(self, event: Event, jitter: float, reason: str = "") -> bool:
        """Note what happened; return whether its state is another now.

        Args:
            event: What.
            jitter: A random number from 0 up to 1.
            reason: What was wrong, for people.
        """
        now = monotonic()
        before = self.health.state
        self.health = after(self.health, event, now, jitter)
        self.share = share(self.health, now)
        if event in (Event.FAILED, Event.PROBE_FAILED):
            self.failures += 1
            self.error = reason
        elif event is Event.PROBE_PASSED:
            self.error = ""
        return self.health.state is not before

    def stream_ended(self, _: object) -> None:
        """Note that a stream to it is over."""
        self.streams -= 1

    def status(self) -> dict[str, Any]:
        """Return how it goes, for `keyway status`."""
        return {
            "member": self.shown,
            "backend": self.backend.name,
            "state": self.health.state.name.lower(),
            "serves": self.is_usable,
            "drained": self.is_drained,
            "parked": self.parked,
            "streams": self.streams,
            "outstanding": self.outstanding,
            "weight": self.weight,
            "standby": self.is_standby,
            "served": self.served,
            "failures": self.failures,
            "error": self.error,
        }
