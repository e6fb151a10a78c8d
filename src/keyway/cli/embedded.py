"""`keyway run` and `keyway up`: a throw-away gateway over SoftHSM tokens, without a configuration file."""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from keyway.cli.daemon import make_daemon
from keyway.cli.loop import run_loop
from keyway.cli.tokens import make_tokens
from keyway.config import BackendOptions, Config, LimitOptions, ListenOptions, LogOptions
from keyway.config.locate import host_binary, module_library, softhsm_module
from keyway.cryptoki import CkError
from keyway.observe.log import configure
from keyway.transport.unix import AddressError

__all__ = ["run", "up"]

PIN: Final = "12345678"
SO_PIN: Final = "12345678"
DEFAULT_LABEL: Final = "keyway"
INTERRUPTED: Final = 130
"""Exit status of a run that was told to stop before its command was started."""

_OPTIONS: Final = (
    click.option(
        "--token", "labels", metavar="LABEL", multiple=True, help="Make a token with this label; may be repeated."
    ),
    click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        help="Keep the tokens in this directory.",
    ),
)


@dataclass(frozen=True)
class Place:
    """Where an embedded gateway has its things.

    Attributes:
        config: What the daemon runs with.
        socket: Where it listens.
        softhsm_conf: SoftHSM's configuration file.
        labels: Labels of the tokens.
        host: Path of keyway-host.
        library: Path of libkeyway.so.
    """

    config: Config
    socket: Path
    softhsm_conf: Path
    labels: tuple[str, ...]
    host: Path
    library: Path

    @property
    def environment(self) -> dict[str, str]:
        """What tells programs where the gateway is."""
        backend = self.config.backends["softhsm"]
        return {
            "KEYWAY_MODULE": str(self.library),
            "KEYWAY_ADDRESS": f"unix:{self.socket}",
            "KEYWAY_PIN": PIN,
            "KEYWAY_SO_PIN": SO_PIN,
            "KEYWAY_TOKEN": self.labels[0],
            "KEYWAY_DAEMON_PID": str(os.getpid()),
            "KEYWAY_DIRECT_MODULE": str(backend.module),
            "SOFTHSM2_CONF": str(self.softhsm_conf),
        }


@contextmanager
def _place(labels: tuple[str, ...], directory: Path | None) -> Iterator[Place]:
    try:
        host, library, module = host_binary(), module_library(), softhsm_module()
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    for label in labels:
        if not 0 < len(label.encode()) <= 32:
            raise click.BadParameter(f"a token's label has 1 to 32 bytes: {label!r}", param_hint="--token")
    with tempfile.TemporaryDirectory(prefix="keyway-") as name:
        home = Path(name)
        tokens = (directory.absolute() if directory else home) / "tokens"
        try:
            tokens.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise click.ClickException(f"{tokens}: {error.strerror}") from error
        conf = home / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        environment = MappingProxyType({"SOFTHSM2_CONF": str(conf)})
        # SoftHSM's random numbers come from OpenSSL, which notices a fork.
        backend = BackendOptions(module=module, environment=environment, start="copy", spares=2)
        config = Config(
            listen=ListenOptions(socket=home / "keyway.sock", mode=0o600),
            backends=MappingProxyType({"softhsm": backend}),
            log=LogOptions(level="warning"),
            limits=LimitOptions(drain=0.0, ending=2.0),
        )
        yield Place(config, home / "keyway.sock", conf, labels or (DEFAULT_LABEL,), host, library)


def _options(function: click.decorators.FC) -> click.decorators.FC:
    for option in _OPTIONS:
        function = option(function)
    return function


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(labels: tuple[str, ...], directory: Path | None, command: tuple[str, ...]) -> None:
    """Run COMMAND with a gateway of its own over fresh SoftHSM tokens, and end with its exit status.

    COMMAND finds KEYWAY_MODULE, KEYWAY_ADDRESS, KEYWAY_PIN, KEYWAY_SO_PIN and KEYWAY_TOKEN in its environment, and
    KEYWAY_DIRECT_MODULE and SOFTHSM2_CONF to use the same tokens without the gateway. Nothing is left behind; with
    --dir the tokens stay.
    """
    sys.exit(_run(labels, directory, command))


@click.command()
@_options
def up(labels: tuple[str, ...], directory: Path | None) -> None:
    """Keep a gateway over fresh SoftHSM tokens in the foreground until Ctrl-C, and print what to set."""
    sys.exit(_run(labels, directory, None))


def _run(labels: tuple[str, ...], directory: Path | None, command: tuple[str, ...] | None) -> int:
    with _place(labels, directory) as place:
        try:
            return run_loop(_embedded(place, command))
        except AddressError as error:
            raise click.ClickException(str(error)) from error
        except (CkError, LookupError) as error:
            raise click.ClickException(f"the tokens can't be made: {error}") from error


async def _embedded(place: Place, command: tuple[str, ...] | None) -> int:
    configure(place.config.log.level, place.config.log.format)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    daemon = make_daemon(place.config, place.host)
    await daemon.start()
    try:
        await asyncio.to_thread(make_tokens, place.socket, place.labels, SO_PIN, PIN)
        if command is None:
            return await _stay(place, stop)
        if stop.is_set():
            return INTERRUPTED
        return await _supervise(place, command)
    finally:
        await daemon.stop(0.0)


async def _stay(place: Place, stop: asyncio.Event) -> int:
    for name, value in place.environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo("# Ready. Ctrl-C ends it.")
    await stop.wait()
    return 0


async def _supervise(place: Place, command: tuple[str, ...]) -> int:
    loop = asyncio.get_running_loop()
    try:
        process = subprocess.Popen(command, env={**os.environ, **place.environment})  # noqa: ASYNC220
    except OSError as error:
        click.echo(f"keyway run: {command[0]}: {error.strerror}", err=True)
        return 126 if isinstance(error, PermissionError) else 127
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    # Ctrl-C reaches COMMAND by itself, as it shares the terminal; it decides what follows.
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, process.send_signal, number)
    await ended.wait()
    loop.remove_reader(descriptor)
    os.close(descriptor)
    status = process.wait()
    return status if status >= 0 else 128 - status
