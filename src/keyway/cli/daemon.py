"""Running a daemon, for the commands that do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keyway.backend.process import INHERITED
from keyway.config import Config
from keyway.config.locate import host_binary
from keyway.daemon.server import Daemon
from keyway.transport.listen import inherited as listening_sockets

if TYPE_CHECKING:
    from keyway.observe.audit_sinks import Signer

__all__ = ["Told", "found_host", "lonely", "make_daemon", "running", "stopped"]


def make_daemon(
    config: Config, binary: Path, environment: Mapping[str, str] | None = None, path: Path | None = None
) -> Daemon:
    """Return a daemon with what it needs of this process. Needs a running loop.

    Args:
        config: The configuration.
        binary: Path of keyway-host.
        environment: What hosts inherit; None: the few variables that are harmless.
        path: Where the configuration was read, and can be again; None if it was not.
    """
    if environment is None:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    sockets = listening_sockets(os.environ, os.getpid())
    return Daemon(config, binary, environment, version("keyway"), sockets, path, _signer(config))


def _signer(config: Config) -> Callable[[Callable[[], socket.socket]], Signer] | None:
    """Return what makes what signs checkpoints of the audit log: a client like others, of the daemon that is to be."""
    if not config.audit.checkpoint_key or config.listen is None:
        return None
    from keyway.provision.checkpoints import TokenSigner

    return lambda connect: TokenSigner(connect, config.audit.checkpoint_key, config.audit.checkpoint_pin_file)


def found_host() -> Path:
    """Return the path of keyway-host.

    Raises:
        click.ClickException: It is not there.
    """
    try:
        return host_binary()
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error


class Told:
    """Whether the process was told to stop by a signal, and whether twice, which means at once.

    Attributes:
        once: Set when it was.
        twice: Set when it was told again.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        """Listen for signals. Needs a running loop.

        Args:
            numbers: The signals.
        """
        self.once = asyncio.Event()
        self.twice = asyncio.Event()
        for number in numbers:
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

    def stop(self) -> None:
        """Tell it."""
        (self.twice if self.once.is_set() else self.once).set()


@asynccontextmanager
async def running(daemon: Daemon, told: Told) -> AsyncIterator[None]:
    """Start a daemon; afterwards let its clients end, and stop it.

    Args:
        daemon: The daemon.
        told: A second word ends it at once.

    Raises:
        AddressError: An address can't be listened on.
        AuditError: The audit log can't be opened.
        SpansError: Traces can't be sent.
    """
    await daemon.start()
    try:
        yield
    finally:
        await daemon.stop(daemon.config.limits.drain, told.twice)


async def stopped(told: Told, *events: Coroutine[Any, Any, object]) -> None:
    """Wait until the process is told to stop, or something else happens.

    Args:
        told: The process's signals.
        events: What else ends the wait.
    """
    waits = [asyncio.get_running_loop().create_task(each) for each in (told.once.wait(), *events)]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for wait in waits:
            wait.cancel()


async def lonely(daemon: Daemon, seconds: float) -> None:
    """Wait until a daemon has had no client for a time.

    Args:
        daemon: The daemon.
        seconds: How long.
    """
    while True:
        await daemon.wait_idle()
        if (since := daemon.idle_since) is None:
            continue
        left = since + seconds - daemon.now()
        if left <= 0:
            return
        await asyncio.sleep(left)
