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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from measure import Figure, Sample, Traffic, build_load, count_traffic, prepare, sample
from report import Rounds, Target, Verdict, figure_json, judge, line, summary
from subjects import KEYWAY, Environment, Subject, p11kit_server, subjects

BUILD = Path("build/bench")
ROUNDS = 5
SECONDS = 1.0
LISTED_KEYS = 100
COUNTED_STEPS = 500
COUNTED_CONTEXTS = 50

P256 = "p256-sign x1"
RELAY = "random16 x1 on one processor"
OPENING = "open-context"
LISTING = "listing"

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
    Figure(LISTING, "listing", count=LISTED_KEYS),
)
"""In the order in which they are measured. The listing comes last since its keys would slow the others down."""

COUNTED = ("rsa2048-sign x1", P256, "random16 x1", OPENING, LISTING)

ROUND_TRIPS = "round trips"
FRAME_CPU = "daemon CPU us a frame"

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
)


LEGEND = """\
{processors} x {model}, SoftHSM {softhsm2}, p11-kit {p11-kit}, load average {load_before:.1f}
{rounds} rounds of {seconds:g} s, subjects in turn. A row: rate, median and 99th percentile of the latency,
CPU us per operation of the client, of the daemon or server, of the processes that it started.
Ratios are of speed, more is faster: the median of the rounds (lowest-highest).
"""


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        environment: Token and PIN.
        load: The compiled load generator.
        rounds: Samples of each figure and subject.
        seconds: Length of a sample.
    """

    environment: Environment
    load: Path
    rounds: int
    seconds: float


def interleaved(figure: Figure, present: Sequence[Subject], bench: Bench) -> Rounds:
    """Sample the subjects in turn, each round beginning with another one."""
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in present}
    for turn in range(bench.rounds):
        shift = turn % len(present)
        for subject in (*present[shift:], *present[:shift]):
            taken = sample(figure, subject, bench.environment, bench.load, bench.seconds)
            samples[subject.name].append(taken)
    return samples


@dataclass
class Results:
    """All that was measured."""

    figures: dict[str, Rounds] = field(default_factory=dict)
    traffic: dict[str, dict[str, Traffic | None]] = field(default_factory=dict)
    quantities: dict[tuple[str, str], float] = field(default_factory=dict)
    """Absolute quantities of Keyway by (figure, quantity)."""


def measure(figure: Figure, present: Sequence[Subject], bench: Bench, results: Results) -> None:
    """Measure one figure, add it to the results and print it."""
    if figure.operation == "listing":
        prepare(bench.load, bench.environment.direct_module, listing=figure.count)
    rounds = results.figures[figure.name] = interleaved(figure, present, bench)
    print(line(figure.name, rounds), flush=True)
    if KEYWAY in rounds and (per_frame := summary(rounds[KEYWAY])["daemon_cpu_us_per_frame"]):
        results.quantities[figure.name, FRAME_CPU] = per_frame
        print(f"{'':<30}daemon CPU {per_frame:.1f} us a frame")
    if figure.name in COUNTED:
        steps = COUNTED_CONTEXTS if figure.name == OPENING else COUNTED_STEPS
        traffic = results.traffic[figure.name] = {
            s.name: count_traffic(figure, s, bench.environment, bench.load, steps) for s in present if s.socket
        }
        if keyway := traffic.get(KEYWAY):
            results.quantities[figure.name, ROUND_TRIPS] = keyway.round_trips
        told = "   ".join(f"{name} {t or 'not counted'}" for name, t in traffic.items())
        print(f"{'':<30}round trips: {told or 'not counted'}")
    print(flush=True)


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
    return {
        "machine": dict(about),
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "not_measured": dict(missing),
        "figures": {name: figure_json(rounds) for name, rounds in results.figures.items()},
        "round_trips": {
            figure: {subject: asdict(t) if t else None for subject, t in counted.items()}
            for figure, counted in results.traffic.items()
        },
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


def main() -> int:
    """Run the benchmark and print it."""
    options = arguments()
    try:
        environment = Environment.read(os.environ)
    except KeyError as variable:
        print(f"{variable.args[0]} is not set: start this as 'keyway run -- python bench/run.py'", file=sys.stderr)
        return 2
    bench = Bench(environment, build_load(options.build.resolve()), options.rounds, options.seconds)
    wanted = [f for f in FIGURES if not options.only or any(text in f.name for text in options.only)]
    about = {**machine(), "busy": options.busy}
    print(LEGEND.format(rounds=bench.rounds, seconds=bench.seconds, **about))

    results = Results()
    with (
        awake((os.cpu_count() or 1) if options.busy else 0),
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        p11kit_server(environment.direct_module, Path(directory), whole_module=options.p11_kit_module) as p11kit,
    ):
        known = subjects(environment, p11kit)
        missing = {s.name: s.missing for s in known.values() if s.missing}
        for name, why in missing.items():
            print(f"{name} is NOT MEASURED: {why}\n")
        prepare(bench.load, environment.direct_module)
        for figure in wanted:
            measure(figure, [s for s in known.values() if not s.missing], bench, results)

    about["load_after"] = os.getloadavg()[0]
    names = {figure.name for figure in wanted}
    verdicts = [judge(t, results.figures, results.quantities) for t in TARGETS if t.figure in names]
    print(*verdicts, sep="\n")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results_json(about, bench, missing, results, verdicts), indent=2) + "\n")
    print(f"\nwritten: {options.json}")
    return 1 if options.check and not all(v.reached for v in verdicts) else 0


if __name__ == "__main__":
    raise SystemExit(main())
