"""The ways to reach the same token: the vendor module itself, Keyway with each of its clients, and `p11-kit server`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway import Gateway

__all__ = [
    "COUNTING",
    "DIRECT",
    "FRONT",
    "KEYWAY",
    "ONE",
    "OURS",
    "P11KIT",
    "PLAIN",
    "POOL",
    "TLS",
    "Environment",
    "Subject",
    "p11kit_server",
    "subjects",
]

DIRECT = "direct"
KEYWAY = "keyway"
P11KIT = "p11-kit"
FRONT = "front"  # p11-kit-client.so in front of Keyway
TLS = "tls"  # libkeyway.so over TLS
POOL = "pool"  # two tokens as one
ONE = "one"  # a pool with one member
PLAIN = "plain"  # that member without a pool
OURS = (KEYWAY, FRONT, TLS, POOL, ONE, PLAIN)
COUNTING = (KEYWAY, TLS, POOL, ONE, PLAIN)  # libkeyway.so counts its round trips

P11KIT_CLIENT_MODULE = Path("/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so")
START_DEADLINE = 10.0  # seconds that a server may take to listen


@dataclass(frozen=True)
class Environment:
    """What `keyway run` tells the command that it runs.

    Attributes:
        direct_module: The vendor module.
        token: Label of the token under test.
        pin: Its user PIN.
        keyway_module: libkeyway.so, or None where there is none.
        keyway_daemon: Process id of the daemon, or None where it is not known.
        keyway_socket: The daemon's unix socket, or None where the address is of another kind.
    """

    direct_module: Path
    token: str
    pin: str = field(repr=False)
    keyway_module: Path | None
    keyway_daemon: int | None
    keyway_socket: Path | None

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """Read the variables set by `keyway run`.

        Raises:
            KeyError: One of those that every subject needs is missing.
        """
        module = variables.get("KEYWAY_MODULE", "")
        daemon = variables.get("KEYWAY_DAEMON_PID", "")
        return cls(
            direct_module=Path(variables["KEYWAY_DIRECT_MODULE"]),
            token=variables["KEYWAY_TOKEN"],
            pin=variables["KEYWAY_PIN"],
            keyway_module=Path(module) if module else None,
            keyway_daemon=int(daemon) if daemon else None,
            keyway_socket=unix_path(variables.get("KEYWAY_ADDRESS", "")),
        )


@dataclass(frozen=True)
class Subject:
    """One way to the token.

    Attributes:
        name: DIRECT, P11KIT, or one of OURS.
        module: The Cryptoki module that an application loads.
        variables: What the application's environment needs in addition.
        missing: Why this subject can't be measured here; empty where it can.
        server: Process id of the daemon or server behind the module, if any.
        endpoint: What the module connects to: the path of a unix socket, or host:port; empty if nothing.
        protocol: What is spoken there: native or p11-kit; empty where nobody could read it.
        address_variable: The variable that names the endpoint, and how, as (name, prefix).
    """

    name: str
    module: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    server: int | None = None
    endpoint: str = ""
    protocol: str = ""
    address_variable: tuple[str, str] = ("", "")

    def environment(self) -> dict[str, str]:
        """The environment of an application that uses this subject."""
        return {**os.environ, **self.variables}

    def adding(self, name: str, value: str) -> Subject:
        """The same subject with one more variable in the application's environment."""
        return replace(self, variables={**self.variables, name: value})

    def through(self, endpoint: str) -> Subject:
        """The same subject with another endpoint (a relay) before its server."""
        name, prefix = self.address_variable
        return replace(self.adding(name, f"{prefix}{endpoint}"), endpoint=endpoint)


def unix_path(address: str) -> Path | None:
    """The socket path in `unix:path=/x`, `unix:///x`, `unix:/x` or `/x`; None for any other address."""
    for prefix in ("unix:path=", "unix://", "unix:"):
        if address.startswith(prefix):
            address = address[len(prefix) :]
            break
    return Path(address) if address.startswith("/") else None


def subjects(environment: Environment, p11kit: tuple[int, Path] | None, gateway: Gateway | str) -> dict[str, Subject]:
    """All subjects, those that can't be measured here with the reason.

    Args:
        environment: As `keyway run` set it.
        p11kit: Process id and socket of a running `p11-kit server`, or None.
        gateway: A daemon that listens for p11-kit's clients and for TLS, or why there is none.
    """
    keyway = environment.keyway_module
    if keyway is None:
        why_no_keyway = "KEYWAY_MODULE is not set"
    else:
        why_no_keyway = "" if keyway.is_file() else f"{keyway} does not exist"
    address = os.environ.get("KEYWAY_ADDRESS", "")
    prefix = address.removesuffix(str(environment.keyway_socket)) if environment.keyway_socket else ""
    p11kit_pid, p11kit_socket = p11kit if p11kit else (None, None)
    return {
        DIRECT: Subject(DIRECT, environment.direct_module),
        KEYWAY: Subject(
            KEYWAY,
            keyway or Path(),
            missing=why_no_keyway,
            server=environment.keyway_daemon,
            endpoint=str(environment.keyway_socket or ""),
            protocol="native",
            address_variable=("KEYWAY_ADDRESS", prefix),
        ),
        P11KIT: Subject(
            P11KIT,
            P11KIT_CLIENT_MODULE,
            {"P11_KIT_SERVER_ADDRESS": f"unix:path={p11kit_socket}"},
            missing="" if p11kit else "p11-kit server or p11-kit-client.so is not installed",
            server=p11kit_pid,
            endpoint=str(p11kit_socket or ""),
            protocol="p11-kit",
            address_variable=("P11_KIT_SERVER_ADDRESS", "unix:path="),
        ),
        FRONT: _front(gateway),
        TLS: _tls(gateway, keyway, why_no_keyway),
    }


def _front(gateway: Gateway | str) -> Subject:
    if isinstance(gateway, str):
        return Subject(FRONT, P11KIT_CLIENT_MODULE, missing=gateway)
    front = Subject(
        FRONT,
        P11KIT_CLIENT_MODULE,
        missing="" if P11KIT_CLIENT_MODULE.is_file() else "p11-kit-client.so is not installed",
        server=gateway.pid,
        protocol="p11-kit",
        address_variable=("P11_KIT_SERVER_ADDRESS", "unix:path="),
    )
    return front.through(str(gateway.front))


def _tls(gateway: Gateway | str, module: Path | None, why_no_keyway: str) -> Subject:
    if isinstance(gateway, str):
        return Subject(TLS, module or Path(), missing=gateway)
    tls = Subject(
        TLS,
        module or Path(),
        gateway.variables,
        missing=why_no_keyway,
        server=gateway.pid,
        address_variable=("KEYWAY_ADDRESS", "tls://"),
    )
    return tls.through(gateway.tls)


@contextlib.contextmanager
def p11kit_server(module: Path, directory: Path, *, whole_module: bool) -> Iterator[tuple[int, Path] | None]:
    """Run `p11-kit server` over a module.

    Args:
        module: The vendor module to serve.
        directory: Where the socket goes.
        whole_module: Serve the module as it is; otherwise its tokens by URI, the documented form, which puts
            p11-kit's proxy between.

    Yields:
        Process id and socket path, or None where p11-kit is not installed.

    Raises:
        RuntimeError: The server does not come up.
    """
    program = shutil.which("p11-kit")
    if program is None or not P11KIT_CLIENT_MODULE.is_file():
        yield None
        return
    path = directory / "p11-kit.sock"
    what = [str(module)] if whole_module else ["--provider", str(module), "pkcs11:"]
    process = subprocess.Popen(
        [program, "server", "-f", "-n", str(path), *what], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_DEADLINE
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("p11-kit server did not start")
            time.sleep(0.02)
        yield process.pid, path
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
