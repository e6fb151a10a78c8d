"""Certificate requests a second over HTTP, beside the signatures a second of one session at the same daemon."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from failover import Outcome
from measure import Figure, sample
from subjects import KEYWAY, Environment, subjects

__all__ = ["CSRS", "SHARE_OF_RAW", "csrs"]

CSRS: Final = "csr x16 over http"
SHARE_OF_RAW: Final = "of one session's signatures"
"""Name of a quantity."""

CALLERS: Final = 16
REQUESTS: Final = 1600
ROUNDS: Final = 5
SECONDS: Final = 1.0
START_DEADLINE: Final = 30.0

_CONFIG: Final = """\
[log]
format = "json"
[api]
address = "tcp://127.0.0.1:0"
anonymous = "compatible"
socket = "{socket}"
"""


def csrs(environment: Environment, directory: Path, load: Path) -> Outcome:
    """Have 16 callers at a time ask for requests of one RSA key of 2048 bits, and one session sign with it, in turn.

    Raises:
        RuntimeError: It can't be measured here.
    """
    if environment.keyway_socket is None:
        raise RuntimeError("the daemon has no unix socket")
    subject = subjects(environment, None, "")[KEYWAY]
    if subject.missing:
        raise RuntimeError(subject.missing)
    body = _body(environment)
    ratios, rates = [], []
    with _api(directory, environment.keyway_socket) as port:
        asyncio.run(_ask(port, body, CALLERS, 1))
        for _ in range(ROUNDS):
            raw = sample(Figure("raw", "rsa2048-sign"), subject, environment, load, SECONDS).rate
            began = time.perf_counter()
            asyncio.run(_ask(port, body, CALLERS, REQUESTS // CALLERS))
            rates.append(REQUESTS / (time.perf_counter() - began))
            ratios.append(rates[-1] / raw)
    told = (
        f"{median(rates):,.0f} requests/s, {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) of one session's signatures/s, "
        f"{CALLERS} callers, none failed"
    )
    return Outcome(None, {SHARE_OF_RAW: median(ratios)}, told)


def _body(environment: Environment) -> bytes:
    pair = {"key_type": "rsa:2048", "label": "bench-csr", "id": "6273"}
    token = {"label": environment.token, "pin": environment.pin}
    return json.dumps({"token": token, "cert": {"key_pair": pair, "subject": "/CN=bench", "pem": ""}}).encode()


@contextmanager
def _api(directory: Path, socket: Path) -> Iterator[int]:
    """Run `keyway api` and give its port."""
    config, log = directory / "api.toml", directory / "api.log"
    config.write_text(_CONFIG.format(socket=socket))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "keyway.cli", "api", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stderr=out,
            env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
        )
    try:
        deadline = time.monotonic() + START_DEADLINE
        while not (text := log.read_text()).endswith("\n"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"keyway api did not start: {text[-300:]}")
            time.sleep(0.01)
        yield int(json.loads(text.splitlines()[0])["address"].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


async def _ask(port: int, body: bytes, callers: int, each: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(_caller(port, body, each))


async def _caller(port: int, body: bytes, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /pkcs11/csr HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(count):
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"a request failed: {answer[:40]!r}")
        (length,) = (
            int(line.partition(b":")[2])
            for line in answer.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        await reader.readexactly(length)
    writer.close()
