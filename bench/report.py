"""Turn samples into ratios, judge them by the targets, and print them. Nothing here measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from measure import Sample
from subjects import DIRECT, FRONT, KEYWAY, ONE, OURS, P11KIT, PLAIN, POOL, TLS

__all__ = [
    "COMPARISONS",
    "Ratio",
    "Rounds",
    "Target",
    "Verdict",
    "compared",
    "figure_json",
    "judge",
    "line",
    "ratio",
    "summary",
]

Rounds = Mapping[str, Sequence[Sample]]
"""The samples of one figure: subject -> one sample for each round."""

COMPARISONS = (
    (KEYWAY, DIRECT),
    (POOL, DIRECT),
    (P11KIT, DIRECT),
    (KEYWAY, P11KIT),
    (FRONT, P11KIT),
    (TLS, P11KIT),
    (POOL, P11KIT),
    (ONE, PLAIN),
)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the first subject is: the median of the rounds, and their extremes."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Target:
    """A figure that has to be reached.

    Attributes:
        figure: Name of the figure.
        quantity: Two subjects, as in `keyway/direct`, for the ratio of their rates; else the name of an absolute quantity.
        relation: `>=`, `>` or `<=`.
        value: The bound.
    """

    figure: str
    quantity: str
    relation: Literal[">=", ">", "<="]
    value: float


@dataclass(frozen=True)
class Verdict:
    """What became of a target: `measured` is None where there is no figure, which is not reached."""

    target: Target
    measured: float | None
    reached: bool
    note: str = ""

    def __str__(self) -> str:
        t = self.target
        value = "not measured" if self.measured is None else f"{self.measured:.2f}"
        note = f" ({self.note})" if self.note else ""
        outcome = "reached" if self.reached else "NOT REACHED"
        return f"{t.figure} {t.quantity}: {value}, target {t.relation} {t.value:g}: {outcome}{note}"


def errors(samples: Sequence[Sample]) -> int:
    """Failed operations in all rounds."""
    return sum(s.errors for s in samples)


def ratio(rounds: Rounds, one: str, other: str) -> Ratio | None:
    """Compare two subjects round by round; None unless both worked in some round."""
    pairs = zip(rounds.get(one, ()), rounds.get(other, ()), strict=False)
    ratios = [a.rate / b.rate for a, b in pairs if a.rate > 0 and b.rate > 0]
    return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None


def judge(target: Target, figures: Mapping[str, Rounds], quantities: Mapping[tuple[str, str], float]) -> Verdict:
    """Judge one target.

    A figure during which Keyway failed an operation is not reached, however fast the rest was.

    Args:
        target: The target.
        figures: All samples by figure.
        quantities: Absolute quantities by (figure, quantity).
    """
    rounds = figures.get(target.figure, {})
    failures = sum(errors(rounds.get(subject, ())) for subject in OURS)
    measured: float | None
    if "/" in target.quantity:
        one, _, other = target.quantity.partition("/")
        compared = ratio(rounds, one, other)
        measured = compared.median if compared else None
    else:
        measured = quantities.get((target.figure, target.quantity))
    if measured is None:
        return Verdict(target, None, reached=False)
    within = {
        ">=": measured >= target.value,
        ">": measured > target.value,
        "<=": measured <= target.value,
    }[target.relation]
    note = f"{failures} failed operations" if failures else ""
    return Verdict(target, measured, within and not failures, note)


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """Medians over the rounds, and CPU time per operation."""
    ops = sum(s.ops for s in samples) or 1
    steps = sum(s.steps for s in samples) or 1
    frames = sum(s.cost.frames for s in samples)
    daemon = sum(s.cost.daemon for s in samples)
    return {
        "rate": median(s.rate for s in samples),
        "median_us": median(s.median_us for s in samples),
        "p99_us": median(s.p99_us for s in samples),
        "errors": errors(samples),
        "client_cpu_us_per_op": sum(s.cost.client for s in samples) / ops,
        "server_cpu_us_per_op": daemon / steps,
        "host_cpu_us_per_op": sum(s.cost.host for s in samples) / steps,
        "daemon_cpu_us_per_frame": daemon / frames if frames else 0.0,
    }


def compared(rounds: Rounds, subjects: Sequence[str]) -> dict[str, Ratio | None]:
    """The ratios of a figure.

    Args:
        rounds: Its samples.
        subjects: Who was to take part.
    """
    pairs = [(one, other) for one, other in COMPARISONS if one in subjects and other in subjects]
    return {f"{one}/{other}": ratio(rounds, one, other) for one, other in pairs}


def line(name: str, rounds: Rounds, subjects: Sequence[str]) -> str:
    """One figure as text: a row for each subject, then the ratios."""
    rows = []
    for subject, samples in rounds.items():
        s = summary(samples)
        row = f"{name:<30}{subject:<9}{s['rate']:>12,.1f}/s{s['median_us']:>12,.1f}{s['p99_us']:>12,.1f} us"
        row += f"  cpu us/op {s['client_cpu_us_per_op']:>10,.1f}"
        row += f"{s['server_cpu_us_per_op']:>10,.1f}{s['host_cpu_us_per_op']:>11,.1f}"
        rows.append(row + (f"  {s['errors']:.0f} FAILED" if s["errors"] else ""))
    values = [
        f"{pair} {r.median:.2f} ({r.low:.2f}-{r.high:.2f})" if r else f"{pair} not measured"
        for pair, r in compared(rounds, subjects).items()
    ]
    return "\n".join([*rows, *([f"{'':<30}{'   '.join(values)}"] if values else [])])


def figure_json(rounds: Rounds, subjects: Sequence[str]) -> dict[str, Any]:
    """One figure for the results file."""
    return {
        "subjects": {
            subject: {**summary(samples), "rounds": [{"rate": s.rate, "errors": s.errors} for s in samples]}
            for subject, samples in rounds.items()
        },
        "ratios": {
            name: {"median": r.median, "low": r.low, "high": r.high} if r else None
            for name, r in compared(rounds, subjects).items()
        },
    }
