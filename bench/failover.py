"""What a failure costs those who sign meanwhile: a member's host killed, one that is stopped, and idle contexts that hold hosts of all members."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from measure import Sample, sample_of
from pools import LABEL, MEMBERS, Pooled, pooled
from subjects import POOL, Environment

from keyway.cli.client import Client
from keyway.cli.tokens import slots_of
from keyway.cryptoki import Null, TokenInfo, stripped
from keyway.cryptoki.constants import CKF_SERIAL_SESSION, CKU_USER

__all__ = [
    "ADDED_HIGHEST",
    "ADDED_LATER",
    "ADDED_MEDIAN",
    "DAEMON_KIB",
    "EVENTS",
    "HOSTS_KIB",
    "LONGEST",
    "NEXT_HIGHEST",
    "NEXT_MEDIAN",
    "Outcome",
    "Step",
    "Times",
    "added",
    "longest",
    "next_after",
    "read_steps",
]

ADDED_MEDIAN: Final = "added ms, median"
ADDED_HIGHEST: Final = "added ms, highest"
ADDED_LATER: Final = "added ms in the second after, highest"
LONGEST: Final = "longest call s"
NEXT_MEDIAN: Final = "s to the next signature, median"
NEXT_HIGHEST: Final = "s to the next signature, highest"
DAEMON_KIB: Final = "KiB of the daemon per context"
HOSTS_KIB: Final = "KiB of hosts per context"
"""Names of quantities."""

THREADS: Final = 8
KILLS: Final = 20
STOPS: Final = 3
RESTARTS: Final = 5
IDLE_CONTEXTS: Final = 200
DEADLINE: Final = 60.0
"""Seconds that anything may take which is waited for."""
PAUSE: Final = 0.3
"""Seconds of undisturbed signing before each event, so that what it costs does not fall to the next one."""
STOPPED_FOR: Final = 4.0
"""Seconds that a host is stopped: longer than any deadline."""

_STEP: Final = struct.Struct("=QQQQ")


@dataclass(frozen=True)
class Step:
    """One signature of the load generator. Times are by the monotonic clock, in nanoseconds."""

    thread: int
    begin: int
    end: int
    rv: int


@dataclass(frozen=True)
class Times:
    """What some events cost, in milliseconds.

    Attributes:
        median: The median of what was added to the calls that met one.
        highest: The most that was.
        later: The most that was added to a call that began in the second after one.
        calls: How many calls met one.
    """

    median: float
    highest: float
    later: float
    calls: int


def next_after(steps: list[Step], moments: list[int]) -> list[float]:
    """Return how many seconds after each moment each thread had its next signature.

    Args:
        steps: All signatures.
        moments: By the monotonic clock, in nanoseconds.
    """
    ends = {thread: sorted(step.end for step in steps if step.thread == thread) for thread in {s.thread for s in steps}}
    return [(next(end for end in ends[thread] if end > moment) - moment) / 1e9 for moment in moments for thread in ends]


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        sample: What the load generator told; None if there was none.
        quantities: What was measured, by name.
        told: The same in words.
    """

    sample: Sample | None
    quantities: dict[str, float]
    told: str


def read_steps(data: bytes) -> list[Step]:
    """Return the steps that the load generator has written."""
    return [Step(*fields) for fields in _STEP.iter_unpack(data)]


def added(steps: list[Step], events: list[int]) -> Times | None:
    """Return what events have added to the latency of the calls that were under way: those whose interval contains one.

    Args:
        steps: All signatures, most of which met nothing.
        events: When something happened.

    Returns:
        None if no call met any.
    """
    usual = median(step.end - step.begin for step in steps) if steps else 0
    met = [step for step in steps if any(step.begin <= event <= step.end for event in events)]
    if not met:
        return None
    after = [step for step in steps if any(0 < step.begin - event < 1_000_000_000 for event in events)]
    costs = [(step.end - step.begin - usual) / 1e6 for step in met]
    later = max(((step.end - step.begin - usual) / 1e6 for step in after), default=0.0)
    return Times(median(costs), max(costs), later, len(met))


def longest(steps: list[Step]) -> float:
    """Return how long the longest call took, in seconds."""
    return max((step.end - step.begin for step in steps), default=0) / 1e9


def host_killed(environment: Environment, directory: Path, load: Path) -> Outcome:
    """Kill the hosts of the member that serves, again and again, while threads sign.

    Args:
        environment: Token and modules.
        directory: Where the daemon's files go.
        load: The compiled load generator.

    Raises:
        RuntimeError: Something does not come up.
    """
    # With policy failover all calls are at the first member.
    with pooled(POOL, environment, directory, "failover") as pool, _signing(pool, load) as run:
        for _ in range(KILLS):
            _until_serving(pool, "a")
            time.sleep(PAUSE)
            run.note()
            _signal(pool.hosts("a"), signal.SIGKILL)
        _until_serving(pool, "a")
        run.end()
    times = added(run.steps, run.events)
    if times is None:
        return Outcome(run.sample, {}, "no call met a killed host")
    told = f"{times.calls} calls met {KILLS} kills, and took longer by {times.median:.1f} ms (median), {times.highest:.1f} ms (highest)"
    return Outcome(
        run.sample,
        {ADDED_MEDIAN: times.median, ADDED_HIGHEST: times.highest, ADDED_LATER: times.later},
        f"{told}; calls of the second after a kill by up to {times.later:.1f} ms",
    )


def host_stopped(environment: Environment, directory: Path, load: Path) -> Outcome:
    """Stop the hosts of the member that serves, for longer than a call may take, while threads sign. Arguments as of `host_killed`."""
    with pooled(POOL, environment, directory, "failover") as pool, _signing(pool, load) as run:
        for _ in range(STOPS):
            _until_serving(pool, "a")
            time.sleep(PAUSE)
            hosts = pool.hosts("a")
            run.note()
            _signal(hosts, signal.SIGSTOP)
            time.sleep(STOPPED_FOR)
            _signal(hosts, signal.SIGCONT)
        run.end()
    took = longest(run.steps)
    return Outcome(
        run.sample, {LONGEST: took}, f"{STOPS} stops of {STOPPED_FOR:g} s; the longest call took {took:.2f} s"
    )


def daemon_restarted(environment: Environment, directory: Path, load: Path) -> Outcome:
    """Kill the daemon and start it again, a few times, while threads sign. Arguments as of `host_killed`."""
    ready: list[int] = []
    with pooled(POOL, environment, directory) as pool, _signing(pool, load) as run:
        for _ in range(RESTARTS):
            _until_serving(pool, "a")
            time.sleep(PAUSE)
            pool.daemon.kill()
            if why := pool.daemon.start():
                raise RuntimeError(why)
            ready.append(pool.daemon.ready_at)
        _until_serving(pool, "a")
        run.end()
    took = next_after(run.steps, ready)
    told = f"{RESTARTS} restarts; from listening to the next signature of a thread"
    return Outcome(
        run.sample,
        {NEXT_HIGHEST: max(took), NEXT_MEDIAN: median(took)},
        f"{told} {median(took):.2f} s (median), {max(took):.2f} s (highest)",
    )


def idle_contexts(environment: Environment, directory: Path, load: Path) -> Outcome:
    """Open contexts that log in and sign nothing, and weigh what serves them. Arguments as of `host_killed`.

    Memory is what a process has to itself and its part of what it shares (proc(5): smaps_rollup, Pss).
    """
    del load
    with pooled(POOL, environment, directory) as pool, ExitStack() as clients:
        daemon, hosts = _memory([pool.daemon.pid]), _memory(_all_hosts(pool))
        for _ in range(IDLE_CONTEXTS):
            _log_in(clients.enter_context(Client(pool.socket, DEADLINE)), environment)
        # The other members are made ready in the background.
        _until(lambda: len(_all_hosts(pool)) >= len(MEMBERS) * IDLE_CONTEXTS, "hosts of all members")
        _until_quiet(pool)
        daemon = (_memory([pool.daemon.pid]) - daemon) / IDLE_CONTEXTS
        hosts = (_memory(_all_hosts(pool)) - hosts) / IDLE_CONTEXTS
    return Outcome(
        None,
        {DAEMON_KIB: daemon, HOSTS_KIB: hosts},
        f"{IDLE_CONTEXTS} contexts: {daemon:,.0f} KiB of the daemon and {hosts:,.0f} KiB of {len(MEMBERS)} hosts for each",
    )


EVENTS: Final[Mapping[str, Callable[[Environment, Path, Path], Outcome]]] = {
    "pool host killed": host_killed,
    "pool host stopped": host_stopped,
    "pool daemon restarted": daemon_restarted,
    "pool idle contexts": idle_contexts,
}
"""What is measured here, by the name of the figure."""


def _log_in(client: Client, environment: Environment) -> None:
    client.call("C_Initialize", 0, Null(), b"bench")
    for slot in slots_of(client):
        (token,) = client.call("C_GetTokenInfo", True, target=slot)
        if isinstance(token, TokenInfo) and stripped(token.label).decode() == LABEL:
            client.call("C_OpenSession", CKF_SERIAL_SESSION, 1, target=slot)
            client.call("C_Login", CKU_USER, environment.pin.encode(), target=1)


def _all_hosts(pool: Pooled) -> list[int]:
    return [*pool.hosts("a"), *pool.hosts("b")]


def _memory(pids: list[int]) -> float:
    """Return the memory of some processes in KiB."""
    total = 0
    for pid in pids:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
    return total


def _until_quiet(pool: Pooled) -> None:
    """Wait until the number of hosts does not change any more."""
    seen = -1
    while (now := len(_all_hosts(pool))) != seen:
        seen = now
        time.sleep(1.0)


class _Run:
    """A load generator at work, and what it told in the end.

    Attributes:
        events: When something was done to those who serve it, by the monotonic clock, in nanoseconds.
        steps: All signatures, once it has ended.
        sample: What it told then.
    """

    sample: Sample

    def __init__(self, pool: Pooled, load: Path) -> None:
        self.events: list[int] = []
        self.steps: list[Step] = []
        self._trace = pool.home / "steps"
        command = [str(load), "-t", str(THREADS), "-n", "1000000000", "-o", str(self._trace)]
        self._process = subprocess.Popen(
            [*command, str(pool.subject.module), "rsa2048-sign"],
            env=pool.subject.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def note(self) -> None:
        """Note that something happens now."""
        self.events.append(time.monotonic_ns())

    def end(self) -> None:
        """Let it come to its end.

        Raises:
            RuntimeError: It failed.
        """
        self._process.send_signal(signal.SIGINT)
        told, complaint = self._process.communicate(timeout=DEADLINE)
        if self._process.returncode != 0:
            raise RuntimeError(f"the load generator ends with status {self._process.returncode}: {complaint.strip()}")
        self.sample = sample_of(json.loads(told))
        self.steps = read_steps(self._trace.read_bytes())

    def kill(self) -> None:
        """End it whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def _signing(pool: Pooled, load: Path) -> Iterator[_Run]:
    run = _Run(pool, load)
    try:
        yield run
    finally:
        run.kill()


def _until_serving(pool: Pooled, member: str) -> None:
    """Wait until a member has served some more calls."""
    (before,) = [each["served"] for each in pool.status()["members"] if each["member"] == member]

    def is_serving() -> bool:
        served = {each["member"]: each["served"] for each in pool.status()["members"]}
        return bool(served[member] >= before + 10 * THREADS)

    _until(is_serving, f"member {member} serves")


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {DEADLINE:g} s: {what}")
        time.sleep(0.01)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
