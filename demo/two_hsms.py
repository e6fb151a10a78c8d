"""The second act: two HSMs with the same keys, and a program that signs on while one after the other breaks, and the gateway itself is restarted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pair import Gateway
from stage import Stage, StepError

__all__ = ["PICTURE", "break_things", "double", "judge"]

PICTURE: Final = """\
   your program, 8 threads
        |  libkeyway.so
   keyway daemon: one token, two members
        |                        |
   keyway-host: hsm-a       keyway-host: hsm-b      the same keys in both"""
CALM: Final = 1.0
"""Seconds of signing between two events."""


@dataclass(frozen=True)
class Event:
    """Something that happened while the program signed, and when: by the monotonic clock, in nanoseconds."""

    name: str
    at: int


Calls = Sequence[dict[str, Any]]
"""What the program has done (crowd.py)."""


def double(stage: Stage, gateway: Gateway) -> None:
    """Show how two HSMs become one token."""
    stage.step("Make a second HSM with the same keys, and one token of the two")
    stage.say("(How keys come into a second HSM is its vendor's business; of a SoftHSM one copies the files.)")
    for line in Gateway.pool.splitlines():
        stage.say(f"  {line}")
    gateway.start()
    for name, member in gateway.members().items():
        stage.ok(f"{name} is {member['state']}")


def break_things(stage: Stage, gateway: Gateway) -> Calls:
    """Let a program sign in eight threads, break what it signs with, and show what that cost it; return its calls."""
    stage.step("Sign in eight threads, and meanwhile kill the HSMs' processes and restart the gateway")
    stage.say("(The program opens its sessions and logs in once. It knows nothing of what follows.)")
    events: list[Event] = []

    def happen(name: str, what: Callable[[], str]) -> None:
        events.append(Event(name, time.monotonic_ns()))
        stage.say(f"{name}: {what()}")

    program = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("crowd.py"))],
        env={**os.environ, **gateway.variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        if program.stdout.readline() != "ready\n":
            raise StepError("the program can't sign")
        happen("nothing happens", lambda: "8 threads sign, 4 with the RSA key and 4 with the EC key")
        time.sleep(CALM)
        happen("hsm-a is killed", lambda: _kill(gateway, "hsm-a"))
        time.sleep(CALM)
        gateway.wait_served("hsm-a")
        happen("hsm-b is killed, hsm-a is back", lambda: _kill(gateway, "hsm-b"))
        time.sleep(CALM)
        gateway.wait_served("hsm-b")
        gateway.stop()
        happen("the gateway is restarted", lambda: _restart(gateway))
        time.sleep(CALM)
        gateway.wait_served("hsm-a")
        output, _ = program.communicate(timeout=60)
    finally:
        program.kill()
        program.wait()
    if program.returncode != 0:
        raise StepError(f"the program ended with status {program.returncode}")
    calls: Calls = json.loads(output)
    for line in table(calls, events):
        stage.say(line)
    failed = [call["error"] for call in calls if call["error"]]
    if failed:
        raise StepError(f"{len(failed)} signatures failed: {', '.join(sorted(set(failed)))}")
    stage.ok("no signature has failed, and the program has noticed nothing but a few slow ones")
    return calls


def judge(stage: Stage, calls: Calls) -> None:
    """Verify all signatures with the public keys that the first act has read from the token."""
    stage.step("Verify every signature with OpenSSL, outside the tokens")
    keys = {label: load_der_public_key(Path(f"{label}.der").read_bytes()) for label in ("rsa", "ec")}
    for call in calls:
        try:
            verify(keys[call["key"]], bytes.fromhex(call["signature"]), call["message"].encode())
        except InvalidSignature:
            raise StepError(f"a wrong signature of {call['message']!r}") from None
    stage.ok(f"{len(calls):,} signatures are good, whichever HSM has made them")


def verify(key: object, signature: bytes, message: bytes) -> None:
    """Check a signature as the program makes it.

    Raises:
        InvalidSignature: It is wrong.
    """
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), SHA256())
        return
    assert isinstance(key, ec.EllipticCurvePublicKey)
    half = len(signature) // 2  # A token gives r and s one behind the other.
    der = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
    key.verify(der, message, ec.ECDSA(SHA256()))


def table(calls: Calls, events: Sequence[Event]) -> list[str]:
    """Return what each event cost, as lines of text. The first event is that nothing happens.

    Args:
        calls: All calls.
        events: What happened, in order. Calls met one if they were under way then; they are counted for the last one before their end.
    """
    starts = [0, *(event.at for event in events[1:])]
    usual = {
        key: median(took for call in calls if call["key"] == key and (took := call["end"] - call["begin"]))
        for key in {call["key"] for call in calls}
    }
    rows = [f"{'':<32}{'signatures':>11}{'failed':>8}{'met it':>8}{'later by':>10}{'at most':>9}"]
    for event, begin, end in zip(events, starts, [*starts[1:], sys.maxsize], strict=True):
        within = [call for call in calls if begin <= call["end"] < end]
        failed = sum(bool(call["error"]) for call in within)
        row = f"{event.name:<32}{len(within):>11,}{failed:>8}"
        if event is not events[0]:
            met = [call for call in calls if call["begin"] <= event.at <= call["end"]]
            added = [(call["end"] - call["begin"] - usual[call["key"]]) / 1e6 for call in met]
            row += f"{len(met):>8}{median(added or [0]):>7.0f} ms{max(added, default=0):>6.0f} ms"
        rows.append(row)
    return rows


def _restart(gateway: Gateway) -> str:
    gateway.start()
    return "whatever the program asks waits until it is there again"


def _kill(gateway: Gateway, hsm: str) -> str:
    return f"kill -9 {' '.join(map(str, gateway.kill(hsm)))}    (its module's processes)"
