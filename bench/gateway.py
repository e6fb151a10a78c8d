"""A daemon that listens for p11-kit's clients and for TLS, over the same module and tokens as the others, with hosts as `keyway run` has them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["SERVER_NAME", "Daemon", "Gateway", "gateway", "tls_variables"]

START_DEADLINE: Final = 10.0  # seconds that the daemon may take to listen
SERVER_NAME: Final = "gateway.bench"

REQUEST: Final = """\
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
authorityKeyIdentifier = keyid
subjectAltName = DNS:gateway.bench
[client]
basicConstraints = critical, CA:FALSE
authorityKeyIdentifier = keyid
subjectAltName = DNS:client.bench
"""

CONFIG: Final = """\
[log]
format = "json"
[listen]
socket = "{directory}/native.sock"
[backend.softhsm]
module = "{module}"
start = "copy"
environment = {environment}
[listener.p11-kit]
address = "unix:{directory}/front.sock"
protocol = "p11-kit"
[listener.tls]
address = "tls://127.0.0.1:0"
certificate = "{directory}/server.pem"
key = "{directory}/server.key"
ca = "{directory}/ca.pem"
"""


@dataclass(frozen=True)
class Gateway:
    """A daemon that listens.

    Attributes:
        pid: Its process.
        front: The socket of its listener for p11-kit's clients.
        tls: host:port of its listener for TLS.
        variables: What libkeyway.so needs in its environment to trust it, and to be trusted.
    """

    pid: int
    front: Path
    tls: str
    variables: dict[str, str]


class Daemon:
    """A `keyway serve` that can be started more than once, and its log, which has to be written as JSON.

    Attributes:
        pid: Its process.
        ready_at: When it was seen to listen, by the monotonic clock, in nanoseconds.
    """

    def __init__(self, directory: Path, config: str, variables: Mapping[str, str] | None = None) -> None:
        """Write the configuration.

        Args:
            directory: Where configuration and log go.
            config: The configuration.
            variables: What its environment needs in addition.
        """
        self._environment = {**os.environ, **(variables or {})}
        self.ready_at = 0
        self._config = directory / "keyway.toml"
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config.write_text(config)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> str:
        """Start it, and wait until it listens. Return why it does not; empty if it does."""
        command = [sys.executable, "-m", "keyway.cli", "serve", "-c", str(self._config)]
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=out, env=self._environment)
        deadline = time.monotonic() + START_DEADLINE
        while self._process.poll() is None and time.monotonic() < deadline:
            if self.events("ready"):
                self.ready_at = time.monotonic_ns()
                return ""
            time.sleep(0.002)
        return f"keyway serve did not start: {self._log.read_text().strip()[-300:]}"

    def events(self, event: str) -> list[dict[str, str]]:
        """The log's entries of one kind."""
        # The last line may be half written.
        lines = self._log.read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [entry for entry in entries if entry["event"] == event]

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Have it end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()


def _issue(directory: Path, name: str) -> None:
    """Make a key and a certificate for a day; all are signed by the one called ca, which has to be the first."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-config", str(directory / "request"), "-extensions", name, "-subj", f"/CN={name}.bench"]
    command += ["-keyout", str(directory / f"{name}.key"), "-out", str(directory / f"{name}.pem")]
    if name != "ca":
        command += ["-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key")]
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def gateway(module: Path, directory: Path) -> Iterator[Gateway | str]:
    """Run the daemon.

    Args:
        module: The vendor module to serve.
        directory: Where its files go; a unix socket's path has to be short.

    Yields:
        The daemon, or why there is none.
    """
    try:
        (directory / "request").write_text(REQUEST)
        for name in ("ca", "server", "client"):
            _issue(directory, name)
    except (OSError, subprocess.CalledProcessError) as error:
        yield f"no certificates could be made: {error}"
        return
    conf = os.environ.get("SOFTHSM2_CONF")
    environment = f'{{ SOFTHSM2_CONF = "{conf}" }}' if conf else "{}"
    config = CONFIG.format(directory=directory, module=module, environment=environment)
    with contextlib.closing(Daemon(directory, config)) as daemon:
        if why := daemon.start():
            yield why
            return
        listening = [event["address"] for event in daemon.events("listening")]
        tls = next(address.removeprefix("tls://") for address in listening if address.startswith("tls://"))
        yield Gateway(daemon.pid, directory / "front.sock", tls, tls_variables(directory))


def tls_variables(directory: Path) -> dict[str, str]:
    """Return what libkeyway.so needs in its environment to trust this daemon, and to be trusted.

    Args:
        directory: Where its files are.
    """
    return {
        "KEYWAY_CA": str(directory / "ca.pem"),
        "KEYWAY_CERTIFICATE": str(directory / "client.pem"),
        "KEYWAY_KEY": str(directory / "client.key"),
        "KEYWAY_SERVER_NAME": SERVER_NAME,
    }
