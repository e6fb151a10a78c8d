"""What one client waits for its signatures while another one, of another identity or of the same, floods the daemon with requests."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from failover import Outcome
from measure import Figure, Sample, sample
from pools import pooled
from subjects import KEYWAY, PLAIN, Environment, subjects

from keyway.cli.client import Client
from keyway.cli.tokens import slots_of
from keyway.cryptoki import Fill, Null, Value, call_named
from keyway.cryptoki.constants import CKF_SERIAL_SESSION
from keyway.wire.codec import encode_request
from keyway.wire.frames import FrameBuffer
from keyway.wire.header import HEADER, VERSION_BYTE

__all__ = ["EVENTS", "GROWTH", "ONE_IDENTITY", "SHARED", "TWO_IDENTITIES"]

GROWTH: Final = "99th percentile of the other's latency, times that without"
SHARED: Final = "the same, times that beside a flood of another daemon"
"""Names of quantities."""

ROUNDS: Final = 7
TARGETED_ROUNDS: Final = 15
"""Of figures with a target. Without the flood one round's p99 may be twice another's."""
SECONDS: Final = 1.0
REQUESTS: Final = 131_072
"""Different ids: more than can be in flight, since no two of these may have the same."""
PIECE: Final = 65_536
DEADLINE: Final = 20.0
_NO_CALL: Final = 0x3FFF
"""A number that no call has: the daemon answers itself."""
_SESSION: Final = 1
_TWO: Final = """\
[listener.flood]
address = "unix:{flood}"
[identity.signer]
listener = [""]
roles = ["signer"]
[identity.flood]
listener = ["flood"]
roles = ["flood"]
[role.signer]
tokens = ["pkcs11:"]
[role.flood]
tokens = ["pkcs11:"]
"""
_RESTRICTED: Final = (
    _TWO.replace("[role.flood]", 'functions = ["find", "sign", "verify"]\n[role.flood]') + 'functions = ["random"]\n'
)


def _relayed() -> bytes:
    """Requests that a module host answers: C_GenerateRandom of one byte."""
    call = call_named("C_GenerateRandom")
    _, body = encode_request(call, (Fill(True, 1),))
    return b"".join(HEADER.pack(len(body), call.number, 0, number, _SESSION, 0) + body for number in range(1, REQUESTS))


def _answered() -> bytes:
    """Requests that the daemon answers."""
    return b"".join(HEADER.pack(0, _NO_CALL, 0, number, 0, 0) for number in range(1, REQUESTS))


ONE_IDENTITY: Final = {
    "two clients, one floods with calls": _relayed,
    "two clients, one floods with nonsense": _answered,
}
TWO_IDENTITIES: Final = {
    "two identities, one floods with calls": (_relayed, _TWO),
    "two identities, one floods with nonsense": (_answered, _TWO),
    "two identities with restricted roles, one floods with calls": (_relayed, _RESTRICTED),
    "two identities, one floods within a quota": (_relayed, _RESTRICTED + "operations_per_second = 2000\n"),
}


def _measure(name: str, environment: Environment, elsewhere: Path, load: Path) -> Outcome:
    """Have a client sign without the flood, beside one of another daemon, which takes as much of the processors, and beside one of its own daemon, in turn.

    Raises:
        RuntimeError: It can't be measured here.
    """
    here = environment.keyway_socket
    if here is None or not elsewhere.exists():
        raise RuntimeError("there are no two daemons with a unix socket")
    subject = subjects(environment, None, "")[KEYWAY]
    if subject.missing:
        raise RuntimeError(subject.missing)
    figure = Figure(name, "p256-sign")
    stream = ONE_IDENTITY[name]()
    alone: list[Sample] = []
    other: list[Sample] = []
    same: list[Sample] = []
    for _ in range(ROUNDS):
        alone.append(sample(figure, subject, environment, load, SECONDS))
        for path, samples in ((elsewhere, other), (here, same)):
            with _flood(path, stream) as answered:
                samples.append(sample(figure, subject, environment, load, SECONDS))
            if not answered:
                raise RuntimeError("the flood was not answered")
    growth = [two.p99_us / one.p99_us for one, two in zip(alone, same, strict=True)]
    shared = [two.p99_us / one.p99_us for one, two in zip(other, same, strict=True)]
    told = (
        f"p99 {median(growth):.2f} ({min(growth):.2f}-{max(growth):.2f}) times that without, "
        f"{median(shared):.2f} ({min(shared):.2f}-{max(shared):.2f}) times that beside a flood of another daemon; "
        f"alone {_told(alone)}, beside the other {_told(other)}, beside the flood {_told(same)}"
    )
    return Outcome(None, {GROWTH: median(growth), SHARED: median(shared)}, told)


def _measure_identities(name: str, environment: Environment, directory: Path, load: Path) -> Outcome:
    """Have a client sign without the flood of another identity, and beside it, in turn.

    Raises:
        RuntimeError: It can't be measured here.
    """
    figure = Figure(name, "p256-sign")
    path = directory / "flood.sock"
    requests, identities = TWO_IDENTITIES[name]
    stream = requests()
    alone: list[Sample] = []
    beside: list[Sample] = []
    with pooled(PLAIN, environment, directory, more=identities.format(flood=path)) as daemon:
        for _ in range(TARGETED_ROUNDS):
            alone.append(sample(figure, daemon.subject, environment, load, SECONDS))
            with _flood(path, stream) as answered:
                beside.append(sample(figure, daemon.subject, environment, load, SECONDS))
            if not answered:
                raise RuntimeError("the flood was not answered")
    growth = [two.p99_us / one.p99_us for one, two in zip(alone, beside, strict=True)]
    told = (
        f"p99 {median(growth):.2f} ({min(growth):.2f}-{max(growth):.2f}) times that without; "
        f"alone {_told(alone)}, beside the flood {_told(beside)}"
    )
    return Outcome(None, {GROWTH: median(growth)}, told)


def _told(samples: list[Sample]) -> str:
    return f"p50 {median(s.median_us for s in samples):,.0f} us, p99 {median(s.p99_us for s in samples):,.0f} us"


@contextmanager
def _flood(path: Path, stream: bytes) -> Iterator[list[int]]:
    """Send requests over and over as fast as the daemon reads, and take the replies. The list gets how many bytes of each piece of these came."""
    answered: list[int] = []
    with Client(path, DEADLINE) as client:
        client.call("C_Initialize", 0, Null(), b"bench")
        slot = slots_of(client)[0]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(str(path))
        connection.sendall(bytes([VERSION_BYTE]))
        connection.recv(1)
        _call(connection, "C_Initialize", 0, Null(), b"flood")
        _call(connection, "C_OpenSession", CKF_SERIAL_SESSION, _SESSION, target=slot)
        _call(connection, "C_GenerateRandom", Fill(True, 1), target=_SESSION)
        over = threading.Event()
        pouring = threading.Thread(target=_pour, args=(connection, memoryview(stream), over, answered))
        pouring.start()
        try:
            yield answered
        finally:
            over.set()
            pouring.join()


def _call(connection: socket.socket, name: str, *values: Value, target: int = 0) -> None:
    call = call_named(name)
    object_, body = encode_request(call, values)
    connection.sendall(HEADER.pack(len(body), call.number, 0, REQUESTS, target, object_) + body)
    frames = FrameBuffer()
    while not (replies := frames.feed(connection.recv(PIECE))):
        pass
    if rv := replies[0].header.rv:
        raise RuntimeError(f"{name} of the flood: {rv:#x}")


def _pour(connection: socket.socket, stream: memoryview, over: threading.Event, answered: list[int]) -> None:
    connection.setblocking(False)
    at = 0
    while not over.is_set():
        readable, writable, _ = select.select([connection], [connection], [], 0.1)
        if readable:
            answered.append(len(connection.recv(1 << 20)))
        if writable:
            at = (at + connection.send(stream[at : at + PIECE])) % len(stream)


def _shared(name: str) -> Callable[[Environment, Path, Path], Outcome]:
    return lambda environment, directory, load: _measure(name, environment, directory / "native.sock", load)


def _apart(name: str) -> Callable[[Environment, Path, Path], Outcome]:
    return lambda environment, directory, load: _measure_identities(name, environment, directory, load)


EVENTS: Final = {**{name: _apart(name) for name in TWO_IDENTITIES}, **{name: _shared(name) for name in ONE_IDENTITY}}
"""What measures each figure, by its name."""
