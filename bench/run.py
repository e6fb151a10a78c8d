"""Measure Keyway beside the vendor module itself and `p11-kit server`, in one run.

    keyway run -- python bench/run.py

See bench/README.md for what the figures mean.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from delay import delayed, direct_round_trip, late_round_trip
from failover import ADDED_HIGHEST, ADDED_MEDIAN, LONGEST, NEXT_HIGHEST, Outcome
from failover import EVENTS as FAILURES
from fairness import EVENTS as FLOODED
from fairness import GROWTH, TWO_IDENTITIES
from gateway import gateway
from hosted import AUDITED, GUARDED, HOSTED, hosted
from ike import ADDED, IKE, set_up
from measure import Figure, Sample, Traffic, build_load, count_traffic, prepare, sample
from payloads import EVENTS as PAYLOADS
from payloads import OF_FRAMES
from pools import pooled
from provisioning import CSRS, SHARE_OF_RAW, csrs
from report import Rounds, Target, Verdict, figure_json, judge, line, summary
from subjects import (
    DIRECT,
    FRONT,
    KEYWAY,
    ONE,
    P11KIT,
    PLAIN,
    POOL,
    TLS,
    Environment,
    Subject,
    p11kit_server,
    subjects,
)
from transports import EVENTS as TRANSPORTS

BUILD = Path("build/bench")
ROUNDS = 5
SECONDS = 1.0
LISTED_KEYS = 100
COUNTED_STEPS = 500
COUNTED_CONTEXTS = 50
DELAY_MS = 1.0
LISTING_ROUNDS = 3

P256 = "p256-sign x1"
RELAY = "random16 x1 on one processor"
OPENING = "open-context"
LISTING = "listing"
LATE = " 2 ms"
TLS_SIGN = "tls p256-sign x1" + LATE
TLS_LISTING = "tls listing" + LATE
POOL_SIGN = "pool rsa2048-sign x8"


def _front(delay_ms: float = 0.0) -> tuple[Figure, ...]:
    """The figures of p11-kit's client, in front of Keyway and of p11-kit server."""
    late = LATE if delay_ms else ""
    figures = (
        Figure("front rsa2048-sign x1" + late, "rsa2048-sign"),
        Figure("front rsa2048-sign x8" + late, "rsa2048-sign", threads=8),
        Figure("front p256-sign x1" + late, "p256-sign"),
        Figure("front p256-sign x8" + late, "p256-sign", threads=8),
        Figure("front open-context" + late, "open-context"),
    )
    return tuple(replace(figure, subjects=(FRONT, P11KIT), delay_ms=delay_ms) for figure in figures)


def _pools() -> tuple[Figure, ...]:
    """The figures of signing through pools: two members beside the module alone, one member beside the same token without a pool."""
    two = Figure(POOL_SIGN, "rsa2048-sign", threads=8, subjects=(DIRECT, POOL, P11KIT))
    one = (
        Figure("pool of one rsa2048-sign x1", "rsa2048-sign"),
        Figure("pool of one rsa2048-sign x8", "rsa2048-sign", threads=8),
        Figure("pool of one p256-sign x1", "p256-sign"),
        Figure("pool of one p256-sign x8", "p256-sign", threads=8),
    )
    return (two, *(replace(figure, subjects=(PLAIN, ONE)) for figure in one))


FIGURES = (
    Figure("rsa2048-sign x1", "rsa2048-sign"),
    Figure("rsa2048-sign x8", "rsa2048-sign", threads=8),
    Figure(P256, "p256-sign"),
    Figure("p256-sign x8", "p256-sign", threads=8),
    Figure("random16 x1", "random16"),
    Figure("random16 x8", "random16", threads=8),
    Figure(RELAY, "random16", one_processor=True),
    Figure("p256-sign x1 on one processor", "p256-sign", one_processor=True),
    Figure(OPENING, "open-context"),
    Figure("open-context paced", "open-context", pause_us=50_000),
    Figure("contexts x100", "contexts", count=100),
    *_front(),
    *_front(DELAY_MS),
    Figure(TLS_SIGN, "p256-sign", subjects=(TLS,), delay_ms=DELAY_MS),
    *_pools(),
    Figure(LISTING, "listing", count=LISTED_KEYS),
    Figure(
        TLS_LISTING,
        "listing",
        count=LISTED_KEYS,
        subjects=(TLS, P11KIT),
        delay_ms=DELAY_MS,
        max_rounds=LISTING_ROUNDS,
    ),
)
"""In the order in which they are measured. The listings come last since their keys would slow the others down."""

COUNTED = ("rsa2048-sign x1", P256, "random16 x1", OPENING, LISTING)

ROUND_TRIPS = "round trips"
FRAME_CPU = "daemon CPU us a frame"
LATENCY = "latency in round trips"
SHARE = "round trips of one of p11-kit's"

TARGETS = (
    Target("rsa2048-sign x8", "keyway/direct", ">=", 0.9),
    Target("rsa2048-sign x8", "keyway/p11-kit", ">=", 1.15),
    Target("p256-sign x8", "keyway/p11-kit", ">=", 1.4),
    Target("rsa2048-sign x1", "keyway/p11-kit", ">=", 1.0),
    Target(P256, "keyway/p11-kit", ">=", 1.0),
    Target(OPENING, "keyway/p11-kit", ">", 1.0),
    Target("open-context paced", "keyway/p11-kit", ">", 1.0),
    Target("rsa2048-sign x1", ROUND_TRIPS, "<=", 1.0),
    Target(P256, ROUND_TRIPS, "<=", 1.0),
    # The relay alone: elsewhere the daemon's time is mostly the system's, for waking an idle processor.
    Target(RELAY, FRAME_CPU, "<=", 10.0),
    # On two processors that are free.
    Target("front rsa2048-sign x8", "front/p11-kit", ">=", 1.3),
    Target("front rsa2048-sign x1", "front/p11-kit", ">=", 0.9),
    Target("front p256-sign x1", "front/p11-kit", ">=", 0.9),
    Target("front open-context", "front/p11-kit", ">", 1.0),
    Target("front rsa2048-sign x1" + LATE, "front/p11-kit", ">=", 0.9),
    Target("front p256-sign x1" + LATE, "front/p11-kit", ">=", 0.9),
    Target("front open-context" + LATE, "front/p11-kit", ">", 1.0),
    Target(TLS_SIGN, LATENCY, "<=", 1.2),
    Target(TLS_LISTING, SHARE, "<=", 0.2),
    Target(POOL_SIGN, "pool/direct", ">=", 0.9),
    Target(POOL_SIGN, "pool/p11-kit", ">=", 1.5),
    Target("pool of one rsa2048-sign x1", "one/plain", ">=", 0.95),
    Target("pool of one rsa2048-sign x8", "one/plain", ">=", 0.95),
    Target("pool of one p256-sign x1", "one/plain", ">=", 0.85),
    Target("pool of one p256-sign x8", "one/plain", ">=", 0.85),
    Target("pool host killed", ADDED_MEDIAN, "<=", 20.0),
    Target("pool host killed", ADDED_HIGHEST, "<=", 250.0),
    Target("pool host stopped", LONGEST, "<=", 2.0),
    Target("pool daemon restarted", NEXT_HIGHEST, "<=", 1.0),
    # On two processors that are free.
    Target(CSRS, SHARE_OF_RAW, ">=", 0.8),
    Target(HOSTED, GUARDED, ">=", 0.98),
    Target(HOSTED, AUDITED, ">=", 0.92),
    *(Target(name, OF_FRAMES, ">=", 1.5) for name in PAYLOADS),
    *(Target(name, ADDED, "<=", 1.0) for name in IKE),
    *(Target(name, GROWTH, "<=", 3.0) for name in TWO_IDENTITIES),
)


def ike_sa(name: str) -> Callable[[Environment, Path, Path], Outcome]:
    """Return what measures a figure of IKE."""
    return lambda environment, directory, _: set_up(environment, directory, IKE[name])


EVENTS = {
    **{name: ike_sa(name) for name in IKE},
    CSRS: csrs,
    HOSTED: hosted,
    **PAYLOADS,
    **TRANSPORTS,
    **FLOODED,
    **FAILURES,
}
"""What is measured in ways of its own, by the name of the figure."""


LEGEND = """\
{processors} x {model}, SoftHSM {softhsm2}, p11-kit {p11-kit}, load average {load_before:.1f}
{rounds} rounds of {seconds:g} s, subjects in turn. A row: rate, median and 99th percentile of the latency,
CPU us per operation of the client, of the daemon or server, of the processes that it started.
Ratios are of speed, more is faster: the median of the rounds (lowest-highest).
front is p11-kit-client.so before Keyway, tls is libkeyway.so over TLS, pool is two tokens as one, one is a pool with one member, plain is
that member without a pool. "2 ms" means a proxy in the path that delivers
every chunk 1 ms late in each direction, however many are on their way.
"""


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        environment: Token and PIN.
        load: The compiled load generator.
        rounds: Samples of each figure and subject.
        seconds: Length of a sample.
        directory: Where sockets may be made.
    """

    environment: Environment
    load: Path
    rounds: int
    seconds: float
    directory: Path


@contextlib.contextmanager
def late(figure: Figure, present: Sequence[Subject], bench: Bench) -> Iterator[Sequence[Subject]]:
    """Put the delay of a figure before its subjects."""
    with contextlib.ExitStack() as stack:
        subjects = list(present)
        for at, subject in enumerate(present if figure.delay_ms else ()):
            is_path = subject.endpoint.startswith("/")
            listen = str(bench.directory / f"{subject.name}.late") if is_path else "127.0.0.1:0"
            subjects[at] = subject.through(stack.enter_context(delayed(figure.delay_ms, subject.endpoint, listen)))
        yield subjects


def interleaved(figure: Figure, present: Sequence[Subject], bench: Bench) -> tuple[Rounds, list[float]]:
    """Sample the subjects in turn, each round beginning with another one.

    Returns:
        The samples, and for a figure of latencies what one round trip took in each round, in microseconds.
    """
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in present}
    trips: list[float] = []
    with late(figure, present, bench) as subjects:
        for turn in range(min(bench.rounds, figure.max_rounds or bench.rounds)):
            shift = turn % len(subjects)
            if figure.name == TLS_SIGN:
                trips.append(late_round_trip(figure.delay_ms))
            for subject in (*subjects[shift:], *subjects[:shift]):
                taken = sample(figure, subject, bench.environment, bench.load, bench.seconds)
                samples[subject.name].append(taken)
    return samples, trips


@dataclass
class Results:
    """All that was measured."""

    figures: dict[str, Rounds] = field(default_factory=dict)
    traffic: dict[str, dict[str, Traffic | None]] = field(default_factory=dict)
    quantities: dict[tuple[str, str], float] = field(default_factory=dict)
    """Absolute quantities of Keyway by (figure, quantity)."""


def measure(figure: Figure, present: Sequence[Subject], bench: Bench, results: Results) -> None:
    """Measure one figure, add it to the results and print it."""
    if not present:
        results.figures[figure.name] = {}
        print(f"{figure.name:<30}not measured\n", flush=True)
        return
    if figure.operation == "listing":
        prepare(bench.load, bench.environment.direct_module, listing=figure.count)
    rounds, trips = interleaved(figure, present, bench)
    results.figures[figure.name] = rounds
    print(line(figure.name, rounds, figure.subjects), flush=True)
    if trips:
        latencies = [taken.median_us / trip for taken, trip in zip(rounds[TLS], trips, strict=True)]
        results.quantities[figure.name, LATENCY] = median(latencies)
        print(f"{'':<30}one round trip {median(trips):,.0f} us, latency {median(latencies):.2f} of it")
    if figure.name == TLS_LISTING:
        share(figure, present, rounds, bench, results)
    if KEYWAY in rounds and (per_frame := summary(rounds[KEYWAY])["daemon_cpu_us_per_frame"]):
        results.quantities[figure.name, FRAME_CPU] = per_frame
        print(f"{'':<30}daemon CPU {per_frame:.1f} us a frame")
    if figure.name in COUNTED:
        steps = COUNTED_CONTEXTS if figure.name == OPENING else COUNTED_STEPS
        traffic = results.traffic[figure.name] = {
            s.name: count_traffic(figure, s, bench.environment, bench.load, steps) for s in present if s.endpoint
        }
        if keyway := traffic.get(KEYWAY):
            results.quantities[figure.name, ROUND_TRIPS] = keyway.round_trips
        told = "   ".join(f"{name} {t or 'not counted'}" for name, t in traffic.items())
        print(f"{'':<30}round trips: {told or 'not counted'}")
    print(flush=True)


def measure_event(name: str, bench: Bench, results: Results) -> None:
    """Measure what a failure costs, add it to the results and print it."""
    try:
        outcome = EVENTS[name](bench.environment, bench.directory, bench.load)
    except (RuntimeError, PermissionError) as error:
        results.figures[name] = {}
        print(f"{name:<30}not measured: {error}\n", flush=True)
        return
    rounds = {POOL: [outcome.sample]} if outcome.sample is not None else {}
    results.figures[name] = rounds
    results.quantities.update({(name, quantity): value for quantity, value in outcome.quantities.items()})
    print(f"{line(name, rounds, (POOL,)) or name}\n{'':<30}{outcome.told}\n", flush=True)


def share(figure: Figure, present: Sequence[Subject], rounds: Rounds, bench: Bench, results: Results) -> None:
    """Compare the round trips of a listing: ours as the module counted them, p11-kit's as a relay does."""
    stock = next((subject for subject in present if subject.name == P11KIT), None)
    ours = median(taken.cost.round_trips for taken in rounds.get(TLS, ())) if rounds.get(TLS) else 0
    theirs = count_traffic(figure, stock, bench.environment, bench.load, 1) if stock else None
    if ours and theirs:
        results.quantities[figure.name, SHARE] = ours / theirs.round_trips
        print(f"{'':<30}round trips: {TLS} {ours:.0f}   {P11KIT} {theirs}")


def tell_delay() -> None:
    """Print what the proxy does to a round trip, and what it costs by itself."""
    direct, none, full = direct_round_trip(), late_round_trip(0.0), late_round_trip(DELAY_MS)
    print(
        f"The delay proxy: a round trip of 100 bytes over loopback takes {direct:.0f} us, through the proxy {none:.0f} us "
        f"without delay and {full:.0f} us with 1 ms each way.\n"
    )


@contextlib.contextmanager
def awake(processors: int) -> Iterator[None]:
    """Keep this many processors from idling, by processes that give way to every other."""
    spin = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    spinners = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(processors)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def package_version(name: str) -> str:
    """Version of an installed Debian package, or `unknown`."""
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", name],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    models = [
        row.partition(":")[2].strip()
        for row in Path("/proc/cpuinfo").read_text().splitlines()
        if row.startswith("model name")
    ]
    return {
        "processors": os.cpu_count(),
        "model": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "p11-kit": package_version("p11-kit"),
        "softhsm2": package_version("softhsm2"),
        "load_before": os.getloadavg()[0],
    }


def results_json(
    about: Mapping[str, Any], bench: Bench, missing: Mapping[str, str], results: Results, verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """The results file."""
    subjects = {**{figure.name: figure.subjects for figure in FIGURES}, **dict.fromkeys(EVENTS, (POOL,))}
    return {
        "machine": dict(about),
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "not_measured": dict(missing),
        "figures": {name: figure_json(rounds, subjects[name]) for name, rounds in results.figures.items()},
        "round_trips": {
            figure: {subject: asdict(t) if t else None for subject, t in counted.items()}
            for figure, counted in results.traffic.items()
        },
        "quantities": [
            {"figure": figure, "quantity": quantity, "value": value}
            for (figure, quantity), value in results.quantities.items()
        ],
        "targets": [
            {**asdict(v.target), "measured": v.measured, "reached": v.reached, "note": v.note} for v in verdicts
        ],
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=int, default=ROUNDS, help="samples of each figure and subject")
    add("--seconds", type=float, default=SECONDS, help="length of a sample")
    add("--only", action="append", default=[], metavar="TEXT", help="figures whose name contains TEXT")
    add("--json", type=Path, default=BUILD / "results.json", help="where the results go")
    add("--build", type=Path, default=BUILD, help="where the load generator is built")
    add("--p11-kit-module", action="store_true", help="let p11-kit serve the module itself, not its tokens by URI")
    add("--busy", action="store_true", help="keep idle processors awake meanwhile")
    add("--check", action="store_true", help="exit with status 1 unless every target is reached")
    return parser.parse_args()


def is_wanted(figure: str, only: Sequence[str]) -> bool:
    """Tell whether a figure was asked for."""
    return not only or any(text in figure for text in only)


def main() -> int:
    """Run the benchmark and print it."""
    options = arguments()
    try:
        environment = Environment.read(os.environ)
    except KeyError as variable:
        print(f"{variable.args[0]} is not set: start this as 'keyway run -- python bench/run.py'", file=sys.stderr)
        return 2
    load = build_load(options.build.resolve())
    wanted = [figure for figure in FIGURES if is_wanted(figure.name, options.only)]
    events = [name for name in EVENTS if is_wanted(name, options.only)]
    about = {**machine(), "busy": options.busy}
    print(LEGEND.format(rounds=options.rounds, seconds=options.seconds, **about))
    if any(figure.delay_ms for figure in wanted):
        tell_delay()

    results = Results()
    with (
        awake((os.cpu_count() or 1) if options.busy else 0),
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        p11kit_server(environment.direct_module, Path(directory), whole_module=options.p11_kit_module) as p11kit,
        gateway(environment.direct_module, Path(directory)) as listening,
        contextlib.ExitStack() as daemons,
    ):
        bench = Bench(environment, load, options.rounds, options.seconds, Path(directory))
        known = subjects(environment, p11kit, listening)
        missing = {s.name: s.missing for s in known.values() if s.missing}
        for name, why in missing.items():
            print(f"{name} is NOT MEASURED: {why}\n")
        prepare(bench.load, environment.direct_module)
        for name in (POOL, ONE, PLAIN):
            if any(name in figure.subjects for figure in wanted):
                known[name] = daemons.enter_context(pooled(name, environment, bench.directory)).subject
        for name in events:
            measure_event(name, bench, results)
        for figure in wanted:
            present = [known[name] for name in figure.subjects if not known[name].missing]
            measure(figure, present, bench, results)

    about["load_after"] = os.getloadavg()[0]
    names = {figure.name for figure in wanted} | set(events)
    verdicts = [judge(t, results.figures, results.quantities) for t in TARGETS if t.figure in names]
    print(*verdicts, sep="\n")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results_json(about, bench, missing, results, verdicts), indent=2) + "\n")
    print(f"\nwritten: {options.json}")
    return 1 if options.check and not all(v.reached for v in verdicts) else 0


if __name__ == "__main__":
    raise SystemExit(main())
