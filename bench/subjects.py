"""The three ways to reach the same token: the vendor module itself, Keyway, and `p11-kit server`."""

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

__all__ = ["DIRECT", "KEYWAY", "P11KIT", "Environment", "Subject", "p11kit_server", "subjects"]

DIRECT = "direct"
KEYWAY = "keyway"
P11KIT = "p11-kit"

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
        name: DIRECT, KEYWAY or P11KIT.
        module: The Cryptoki module that an application loads.
        variables: What the application's environment needs in addition.
        missing: Why this subject can't be measured here; empty where it can.
        server: Process id of the daemon or server behind the module, if any.
        socket: The unix socket that the module connects to, if any.
        address_variable: The variable that names the socket, and how, as (name, prefix).
    """

    name: str
    module: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    server: int | None = None
    socket: Path | None = None
    address_variable: tuple[str, str] = ("", "")

    def environment(self) -> dict[str, str]:
        """The environment of an application that uses this subject."""
        return {**os.environ, **self.variables}

    def adding(self, name: str, value: str) -> Subject:
        """The same subject with one more variable in the application's environment."""
        return replace(self, variables={**self.variables, name: value})

    def through(self, socket: Path) -> Subject:
        """The same subject with another socket (a relay) before its server."""
        name, prefix = self.address_variable
        return replace(self.adding(name, f"{prefix}{socket}"), socket=socket)


def unix_path(address: str) -> Path | None:
    """The socket path in `unix:path=/x`, `unix:///x`, `unix:/x` or `/x`; None for any other address."""
    for prefix in ("unix:path=", "unix://", "unix:"):
        if address.startswith(prefix):
            address = address[len(prefix) :]
            break
    return Path(address) if address.startswith("/") else None


def subjects(environment: Environment, p11kit: tuple[int, Path] | None) -> dict[str, Subject]:
    """All three subjects, those that can't be measured here with the reason.

    Args:
        environment: As `keyway run` set it.
        p11kit: Process id and socket of a running `p11-kit server`, or None.
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
            socket=environment.keyway_socket,
            address_variable=("KEYWAY_ADDRESS", prefix),
        ),
        P11KIT: Subject(
            P11KIT,
            P11KIT_CLIENT_MODULE,
            {"P11_KIT_SERVER_ADDRESS": f"unix:path={p11kit_socket}"},
            missing="" if p11kit else "p11-kit server or p11-kit-client.so is not installed",
            server=p11kit_pid,
            socket=p11kit_socket,
            address_variable=("P11_KIT_SERVER_ADDRESS", "unix:path="),
        ),
    }


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
