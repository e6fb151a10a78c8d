"""What memory that daemon and host share is worth: large bodies through a daemon with and without it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from failover import Outcome
from measure import Figure, sample
from pools import pooled
from subjects import PLAIN, Environment

__all__ = ["EVENTS", "OF_FRAMES"]

OF_FRAMES: Final = "through shared memory, of through the socket"
"""Name of the quantity."""

ROUNDS: Final = 9
SECONDS: Final = 1.0
_FIGURES: Final = (Figure("payload 1 MiB digest", "sha256-1m"), Figure("payload 1 MiB encrypt", "aes-1m"))


def _compare(figure: Figure) -> Callable[[Environment, Path, Path], Outcome]:
    def compare(environment: Environment, directory: Path, load: Path) -> Outcome:
        """Make the same calls in turn at two daemons over copies of the same token.

        Args:
            environment: Token and modules.
            directory: Where the daemons' files go.
            load: The compiled load generator.

        Raises:
            RuntimeError: A daemon does not come up.
        """
        rates: dict[bool, list[float]] = {True: [], False: []}
        with ExitStack() as stack:
            daemons = {
                shares: stack.enter_context(
                    pooled(PLAIN, environment, directory, backend="" if shares else "shared_memory = 0\n")
                )
                for shares in rates
            }
            for turn in range(ROUNDS):
                for shares in (True, False) if turn % 2 else (False, True):
                    taken = sample(figure, daemons[shares].subject, environment, load, SECONDS)
                    if taken.errors:
                        raise RuntimeError(f"{taken.errors} calls failed")
                    rates[shares].append(taken.rate)
        ratios = [with_ / without for with_, without in zip(rates[True], rates[False], strict=True)]
        told = f"{median(rates[True]):,.0f}/s, {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        return Outcome(None, {OF_FRAMES: median(ratios)}, told)

    return compare


EVENTS: Final = {figure.name: _compare(figure) for figure in _FIGURES}
"""What is measured here, by the name of the figure."""
