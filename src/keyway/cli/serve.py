"""`keyway serve` and `keyway check`."""

import asyncio
import os
import signal
from pathlib import Path

import click

from keyway.cli.daemon import make_daemon
from keyway.cli.loop import run_loop
from keyway.config import Config, ConfigError, load, missing_modules
from keyway.config.locate import host_binary
from keyway.daemon.systemd import notify
from keyway.transport.unix import AddressError

__all__ = ["check", "serve"]

DEFAULT_FILE = "/etc/keyway/keyway.toml"


def _load(path: Path) -> Config:
    try:
        return load(path)
    except ConfigError as error:
        raise click.ClickException("\n".join(error.problems)) from error


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True)
def serve(path: Path) -> None:
    """Serve the backends of a configuration file until told to stop (SIGTERM, SIGINT; twice: at once)."""
    from keyway.observe.log import configure

    config = _load(path)
    try:
        binary = host_binary()
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    configure(config.log.level, config.log.format)
    try:
        run_loop(_serve(config, binary, os.environ.pop("NOTIFY_SOCKET", "")))
    except AddressError as error:
        raise click.ClickException(str(error)) from error


async def _serve(config: Config, binary: Path, service_manager: str) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    again = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _tell, told, again)
    daemon = make_daemon(config, binary)
    await daemon.start()
    notify(service_manager, "READY=1")
    await told.wait()
    notify(service_manager, "STOPPING=1")
    await daemon.stop(config.limits.drain, again)


def _tell(first: asyncio.Event, second: asyncio.Event) -> None:
    (second if first.is_set() else first).set()


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def check(path: Path) -> None:
    """Check a configuration file: every mistake is told with its line."""
    config = _load(path)
    if missing := missing_modules(path, config):
        raise click.ClickException("\n".join(missing))
    click.echo(f"{path}: good: {len(config.backends)} backend(s), {len(config.tokens)} token section(s)")
