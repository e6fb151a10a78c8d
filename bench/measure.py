"""Take one sample of one figure from one subject."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from count_frames import counting
from subjects import COUNTING, DIRECT, KEYWAY, P11KIT, Environment, Subject

__all__ = [
    "Cost",
    "Figure",
    "Sample",
    "Traffic",
    "build_load",
    "count_traffic",
    "prepare",
    "sample",
    "sample_of",
    "samples_in_turn",
]

HERE = Path(__file__).resolve().parent
CALL_DEADLINE = 120.0  # seconds that one sample may take before it counts as failed
REAP_DEADLINE = 0.3  # seconds to wait until a server has reaped the process that served the sample
TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # microseconds


@dataclass(frozen=True)
class Figure:
    """One thing that is measured.

    Attributes:
        name: Its key in the results.
        operation: Operation of the load generator, or `listing` for pkcs11-tool.
        threads: Threads, each with its own session.
        count: Processes or listed keys; 0 for operations that are measured over time.
        pause_us: Pause between two steps, in microseconds. The rate is then that of the median step.
        one_processor: Whether client, daemon and hosts share one processor, so that nothing is spent on waking an idle one.
        subjects: The names of the subjects that take part.
        delay_ms: Milliseconds by which each direction between client and server is late.
        max_rounds: Rounds that are enough, however many the others have; 0 for as many as they.
    """

    name: str
    operation: str
    threads: int = 1
    count: int = 0
    pause_us: int = 0
    one_processor: bool = False
    subjects: tuple[str, ...] = (DIRECT, KEYWAY, P11KIT)
    delay_ms: float = 0.0
    max_rounds: int = 0


@dataclass(frozen=True)
class Cost:
    """CPU time in microseconds, and the frames that the daemon relayed for it.

    Attributes:
        client: Of the measuring process, within the measured window.
        daemon: Of the daemon or server itself, for the whole process.
        host: Of the processes that the server started for it and that have ended, for the whole process.
        frames: Frames relayed by the daemon for the whole process; 0 where the module does not tell.
        round_trips: Round trips of the whole process; 0 where the module does not tell.
    """

    client: float = 0.0
    daemon: float = 0.0
    host: float = 0.0
    frames: int = 0
    round_trips: int = 0


NOTHING = Cost()


@dataclass(frozen=True)
class Traffic:
    """What one step sends: calls that wait for their reply, and calls that do not."""

    round_trips: float
    posted: float

    def __str__(self) -> str:
        return f"{self.round_trips:.2f}" + (f" + {self.posted:.2f} posted" if self.posted else "")


@dataclass(frozen=True)
class Sample:
    """One slice.

    Attributes:
        rate: Operations per second.
        median_us: Median latency of one, in microseconds.
        p99_us: Its 99th percentile.
        ops: Operations within the measured window.
        steps: Operations of the whole process, warm-up included.
        errors: Operations that failed.
        last_error: CK_RV of the last one that failed.
        cost: What all this cost.
    """

    rate: float
    median_us: float
    p99_us: float
    ops: int
    steps: int
    errors: int
    last_error: int
    cost: Cost


def build_load(directory: Path) -> Path:
    """Compile the load generator.

    Args:
        directory: Where the binary goes.

    Raises:
        subprocess.CalledProcessError: gcc fails, most likely because libp11-kit-dev is not installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source, binary = HERE / "load.c", directory / "load"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        include = "-I/usr/include/p11-kit-1"
        subprocess.run(
            ["gcc", "-O2", "-Wall", "-Wextra", include, str(source), "-o", str(binary), "-lpthread", "-ldl"], check=True
        )
    return binary


def prepare(load: Path, module: Path, *, listing: int = 0) -> None:
    """Create the signing keys, or key objects for the listing until there are `listing` of them."""
    what = ["-n", str(listing), str(module), "prepare-listing"] if listing else [str(module), "prepare"]
    subprocess.run([str(load), *what], check=True, stdout=subprocess.DEVNULL, timeout=CALL_DEADLINE)


def sample(figure: Figure, subject: Subject, environment: Environment, load: Path, seconds: float) -> Sample:
    """Take one sample.

    Args:
        figure: What to measure.
        subject: The way to the token.
        environment: Token and PIN.
        load: The compiled load generator.
        seconds: Length of a slice that is measured over time.
    """
    stats = load.with_name("round-trips.jsonl")
    if subject.name in COUNTING:
        subject = subject.adding("KEYWAY_STATS", str(stats))
    with _accounting(subject, stats) as costs, _placed(subject, figure.one_processor):
        if figure.operation == "listing":
            answer = _listing(figure, subject, environment)
        else:
            warmup = min(0.25, seconds / 4)
            arguments = ["-t", str(figure.threads), "-s", str(seconds), "-w", str(warmup), "-p", str(figure.pause_us)]
            if figure.count:
                arguments += ["-n", str(figure.count)]
            answer = _load(load, arguments, figure.operation, subject)
    taken = sample_of(answer, costs[0] if costs else Cost())
    if figure.pause_us and taken.median_us > 0:
        return replace(taken, rate=1e6 / taken.median_us)
    return taken


def samples_in_turn(
    figure: Figure, ways: Mapping[str, Subject], environment: Environment, load: Path, rounds: int, seconds: float
) -> dict[str, list[Sample]]:
    """Take samples of some ways to the token, one in each round, which begins with another way each time.

    Args:
        figure: What to measure.
        ways: The ways, by what they are called.
        environment: Token and PIN.
        load: The compiled load generator.
        rounds: How many.
        seconds: Length of a slice.

    Raises:
        RuntimeError: An operation failed.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    for turn in range(rounds):
        shift = turn % len(ways)
        for name in [*ways][shift:] + [*ways][:shift]:
            taken = sample(figure, ways[name], environment, load, seconds)
            if taken.errors:
                raise RuntimeError(f"{taken.errors} operations failed")
            samples[name].append(taken)
    return samples


def sample_of(answer: Mapping[str, Any], server: Cost = NOTHING) -> Sample:
    """Return what the load generator told as a sample.

    Args:
        answer: What it told.
        server: What the other side spent.
    """
    return Sample(
        rate=float(answer["ops_per_second"]),
        median_us=float(answer["median_us"]),
        p99_us=float(answer["p99_us"]),
        ops=int(answer["ops"]),
        steps=int(answer["steps"]),
        errors=int(answer["errors"]),
        last_error=int(answer["last_error"]),
        cost=replace(server, client=float(answer["client_cpu_us"])),
    )


def count_traffic(figure: Figure, subject: Subject, environment: Environment, load: Path, steps: int) -> Traffic | None:
    """Count the round trips of one step (a signature, a whole listing) by reading the frames between the two ends.

    The cost of opening and of learning is taken out by counting two runs of different length.

    Args:
        figure: What to count.
        subject: The way to the token.
        environment: Token and PIN.
        load: The compiled load generator.
        steps: Steps by which the runs differ.

    Returns:
        None where the subject has no socket to listen at, or fails.
    """
    if not subject.endpoint or not subject.protocol:
        return None
    socket = Path(subject.endpoint)
    relay = socket.with_name(f"{socket.name}.counted")
    seen: list[tuple[int, int]] = []
    with counting(subject.protocol, socket, relay) as counts:
        counted = subject.through(str(relay))
        for run in (1,) if figure.operation == "listing" else (steps, 2 * steps):
            before = counts.requests, counts.replies
            if figure.operation == "listing":
                answer = _listing(figure, counted, environment)
            else:
                answer = _load(load, ["-t", str(figure.threads), "-n", str(run)], figure.operation, counted)
            if answer["errors"]:
                return None
            seen.append((counts.requests - before[0], counts.replies - before[1]))
    if figure.operation == "listing":
        (requests, replies), per = seen[0], 1
    else:
        requests, replies = seen[1][0] - seen[0][0], seen[1][1] - seen[0][1]
        per = steps * figure.threads
    return Traffic(replies / per, (requests - replies) / per)


def _failed(reason: str) -> dict[str, Any]:
    print(f"  ! {reason}", flush=True)
    return {
        "ops_per_second": 0.0,
        "median_us": 0.0,
        "p99_us": 0.0,
        "ops": 0,
        "steps": 0,
        "errors": 1,
        "last_error": 0,
        "client_cpu_us": 0.0,
    }


def _load(load: Path, arguments: list[str], operation: str, subject: Subject) -> dict[str, Any]:
    command = [str(load), *arguments, str(subject.module), operation]
    try:
        done = subprocess.run(
            command, env=subject.environment(), capture_output=True, text=True, timeout=CALL_DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        return _failed(f"{subject.name}: {operation} hangs")
    if done.returncode != 0:
        return _failed(f"{subject.name}: {operation} ends with status {done.returncode}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _listing(figure: Figure, subject: Subject, environment: Environment) -> dict[str, Any]:
    command = ["pkcs11-tool", "--module", str(subject.module), "--token-label", environment.token]
    command += ["--login", "--pin", "env:KEYWAY_PIN", "--list-objects"]
    start = time.monotonic()
    try:
        done = subprocess.run(
            command, env=subject.environment(), capture_output=True, text=True, timeout=CALL_DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        return _failed(f"{subject.name}: pkcs11-tool hangs")
    taken = time.monotonic() - start
    keys = done.stdout.count("Key Object;")
    if done.returncode != 0 or keys < figure.count:
        return _failed(
            f"{subject.name}: pkcs11-tool lists {keys} keys, status {done.returncode}: {done.stderr.strip()}"
        )
    return {
        "ops_per_second": 1 / taken,
        "median_us": taken * 1e6,
        "p99_us": taken * 1e6,
        "ops": 1,
        "steps": 1,
        "errors": 0,
        "last_error": 0,
        "client_cpu_us": 0.0,
    }


@contextmanager
def _placed(subject: Subject, one_processor: bool) -> Iterator[None]:
    """Keep this process, what it starts, and what serves it on one processor while the context is open."""
    if not one_processor:
        yield
        return
    everywhere = os.sched_getaffinity(0)
    pids = [0, *(_family(subject.server) if subject.server else [])]
    try:
        for pid in pids:
            os.sched_setaffinity(pid, {min(everywhere)})
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.sched_setaffinity(pid, everywhere)


def _family(pid: int) -> list[int]:
    """A process and all below it. New ones inherit the placing of those that start them."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


@contextmanager
def _accounting(subject: Subject, stats: Path) -> Iterator[list[Cost]]:
    """Collect what the server side spends while the context is open; the list holds it afterwards."""
    costs: list[Cost] = []
    stats.unlink(missing_ok=True)
    if subject.server is None:
        yield costs
        return
    own, children = _cpu_us(subject.server)
    yield costs
    deadline = time.monotonic() + REAP_DEADLINE
    while _cpu_us(subject.server)[1] == children and time.monotonic() < deadline:
        time.sleep(0.01)
    after = _cpu_us(subject.server)
    round_trips, posted = _told(stats)
    frames = 2 * round_trips + posted
    costs.append(Cost(daemon=after[0] - own, host=after[1] - children, frames=frames, round_trips=round_trips))


def _cpu_us(pid: int) -> tuple[float, float]:
    """CPU time of a process, and of its children and grandchildren that have ended, in microseconds.

    A living child counts for what its own children have used: a module host may be a copy made by another one.
    """
    own, ended = _times_us(pid)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            ended += _times_us(int(child))[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return own, ended


def _times_us(pid: int) -> tuple[float, float]:
    """CPU time of a process and of its children that have ended, in microseconds (proc(5): stat, fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(f) for f in fields[11:15])
    return (user + system) * TICK, (children_user + children_system) * TICK


def _told(stats: Path) -> tuple[int, int]:
    """Round trips and posted calls as the module counted them; a posted call is one frame in the daemon, a round trip two."""
    if not stats.exists():
        return 0, 0
    lines = [json.loads(line) for line in stats.read_text().splitlines()]
    return sum(int(line["round_trips"]) for line in lines), sum(int(line["posted"]) for line in lines)
