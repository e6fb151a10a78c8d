"""What `keyway top` shows: a picture of a daemon as lines of text, from what it told twice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from unicodedata import combining, east_asian_width

from keyway.daemon.pool.names import HOME

__all__ = ["picture"]

Status = Mapping[str, Any]
_NONE: Final = "-"
"""In the place of a number that nobody knows."""


class _Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: What stands above it.
        width: Its width in characters; 0 for what is left of the line.
        is_number: Whether it is aligned to the right.
    """

    title: str
    width: int
    is_number: bool = True


_MEMBERS: Final = (
    _Column("  MEMBER", 16, False),
    _Column("STATE", 7, False),
    _Column("CALLS/S", 9),
    _Column("MS", 7),
    _Column("QUEUE", 5),
    _Column("FAILED", 6),
    _Column("NOTE", 0, False),
)
_BACKENDS: Final = (
    _Column("BACKEND", 16, False),
    _Column("HOSTS", 7),
    _Column("CALLS/S", 9),
    _Column("SPARES", 7),
    _Column("CRASHED", 7),
    _Column("KIND", 0, False),
)
_CONTEXTS: Final = (
    _Column("CONTEXT", 10, False),
    _Column("APPLICATION", 20, False),
    _Column("AGE", 11),
    _Column("SESSIONS", 8),
    _Column("CALLS", 5),
    _Column("AT", 0, False),
)


def picture(before: Status | None, now: Status, seconds: float, columns: int = 80, rows: int = 0) -> list[str]:
    """Return the lines of a picture.

    Args:
        before: What the daemon told earlier, for rates; None if nothing is known.
        now: What it tells now.
        seconds: The time between the two.
        columns: Characters that a line has room for.
        rows: Lines that there is room for; 0 for any number. The last one then says how many are left out.
    """
    if before is not None and before.get("pid") != now.get("pid"):
        before = None  # Another daemon has counted from 0.
    rates = _Rates(before or {}, seconds)
    pools = [line for name, pool in now.get("pools", {}).items() for line in ("", *_pool(name, pool, rates))]
    lines = [_head(now, rates), *pools, *_backends(now, rates), *_contexts(now)]
    lines = [_cut(line, columns) for line in lines]
    if 0 < rows < len(lines):
        lines[rows - 1 :] = [_cut(f"... and {len(lines) - rows + 1} more lines", columns)]
    return lines


class _Rates:
    """What changed between two looks at a daemon."""

    def __init__(self, before: Status, seconds: float) -> None:
        self._seconds = seconds
        self._backends = before.get("backends", {})
        self._members = {
            (name, member.get("member")): member
            for name, pool in before.get("pools", {}).items()
            for member in pool.get("members", ())
        }

    def of_backend(self, name: str, backend: Status) -> float | None:
        """Return its calls in a second; None if they are not known."""
        return self._rate(self._backends.get(name), backend)

    def of_member(self, pool: str, member: Status) -> float | None:
        """Return its calls in a second; None if they are not known."""
        return self._rate(self._members.get((pool, member.get("member"))), member)

    def milliseconds(self, pool: str, member: Status) -> float | None:
        """Return how long a call took on average since the last look, or if there was none, what the daemon says."""
        before = self._members.get((pool, member.get("member")), {})
        calls: int = member.get("calls", 0) - before.get("calls", 0)
        if before and calls > 0:
            took: float = member.get("seconds", 0.0) - before.get("seconds", 0.0)
            return took / calls * 1000
        told: float | None = member.get("latency_ms") or None
        return told

    def _rate(self, before: Status | None, now: Status) -> float | None:
        if before is None or "calls" not in before or "calls" not in now or self._seconds <= 0:
            return None
        calls: int = now["calls"] - before["calls"]
        return calls / self._seconds if calls >= 0 else None


def _head(now: Status, rates: _Rates) -> str:
    contexts = now.get("contexts", ())
    of_pools = [
        rates.of_member(name, member)
        for name, pool in now.get("pools", {}).items()
        for member in pool.get("members", ())
    ]
    of_backends = [rates.of_backend(name, backend) for name, backend in now.get("backends", {}).items()]
    known = [rate for rate in (*of_pools, *of_backends) if rate is not None]
    facts = (
        f"{_rate(sum(known) if known else None)} calls/s",
        _count(len(contexts), "context"),
        _count(sum(each.get("sessions", 0) for each in contexts), "session"),
    )
    return f"Keyway {now.get('version', '')}, up {_time(now.get('uptime', 0))}: {', '.join(facts)}"


def _pool(name: str, pool: Status, rates: _Rates) -> Iterator[str]:
    facts = (
        pool.get("policy", ""),
        _count(pool.get("failovers", 0), "failover"),
        _count(pool["disagreements"], "disagreement") if "disagreements" in pool else "",
        _count(pool.get("sessions", 0), "session"),
    )
    yield f"POOL {name}: {', '.join(filter(None, facts))}"
    yield from _table(_MEMBERS, [_member(name, member, rates) for member in pool.get("members", ())])
    for member in pool.get("members", ()):
        if parked := member.get("parked"):
            yield f"  {member.get('member', '')} is parked: {parked}"
        if error := member.get("error"):
            yield f"  {member.get('member', '')} fails: {error}"


def _member(pool: str, member: Status, rates: _Rates) -> tuple[str, ...]:
    name = member.get("member", "")
    backend = member.get("backend", name)
    notes = (
        "standby" if member.get("standby") else "",
        "drained" if member.get("drained") else "",
        "parked" if member.get("parked") else "",
        f"at {backend}" if backend != name else "",
    )
    return (
        f"  {name}",
        member.get("state", ""),
        _rate(rates.of_member(pool, member)),
        _milliseconds(rates.milliseconds(pool, member)),
        str(member.get("outstanding", 0)),
        str(member.get("failures", 0)),
        ", ".join(filter(None, notes)),
    )


def _backends(now: Status, rates: _Rates) -> Iterator[str]:
    backends = now.get("backends", {})
    if not backends:
        return
    rows = [
        (
            name,
            str(backend.get("hosts", 0)),
            _rate(rates.of_backend(name, backend)),
            str(backend.get("spares", 0)),
            str(backend.get("crashes", 0)),
            backend.get("kind", ""),
        )
        for name, backend in backends.items()
    ]
    yield ""
    yield from _table(_BACKENDS, rows)
    for name, backend in backends.items():
        if error := backend.get("error"):
            yield f"{name} fails: {error}"


def _contexts(now: Status) -> Iterator[str]:
    contexts = sorted(now.get("contexts", ()), key=lambda each: (-each.get("in_flight", 0), -each.get("sessions", 0)))
    rows = [
        (
            each.get("context", ""),
            each.get("application") or each.get("program") or "?",
            _time(each.get("age", 0)),
            str(each.get("sessions", 0)),
            str(each.get("in_flight", 0)),
            ", ".join(_places(each)),
        )
        for each in contexts
    ]
    if rows:
        yield ""
        yield from _table(_CONTEXTS, rows)


def _places(context: Status) -> Iterator[str]:
    pools = context.get("pools", {})
    for name, members in pools.items():
        yield f"{name} ({', '.join(members)})" if members else name
    of_pools = {HOME.format(name) for name in pools}
    yield from (name for name in context.get("hosts", {}) if name not in of_pools)


def _table(columns: Sequence[_Column], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in ([column.title for column in columns], *rows):
        yield "  ".join(_cell(column, text) for column, text in zip(columns, row, strict=True)).rstrip()


def _cell(column: _Column, text: str) -> str:
    if not column.width:
        return _plain(text)
    text = _cut(text, column.width)
    return text.rjust(column.width) if column.is_number else text.ljust(column.width)


def _rate(rate: float | None) -> str:
    if rate is None:
        return _NONE
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.1f}"


def _milliseconds(milliseconds: float | None) -> str:
    if milliseconds is None:
        return _NONE
    return f"{milliseconds:,.0f}" if milliseconds >= 1000 else f"{milliseconds:.2f}"


def _time(seconds: float) -> str:
    minutes, hours, days = (int(seconds) // unit for unit in (60, 3600, 86_400))
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _cut(text: str, width: int) -> str:
    text = _plain(text)
    return text if len(text) <= width else f"{text[: max(width - 2, 0)]}.."[:width]


def _plain(text: str) -> str:
    """Return a text that takes one column for each character, and does nothing to a terminal: clients and modules have a say in it."""
    return "".join(c if c.isprintable() and not combining(c) and east_asian_width(c) not in "WF" else "?" for c in text)
