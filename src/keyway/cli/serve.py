"""`keyway serve` and `keyway check`."""

import asyncio
import os
import signal
from pathlib import Path

import click

from keyway.cli.daemon import Told, found_host, make_daemon, running, stopped
from keyway.cli.loop import run_loop
from keyway.config import Config, ConfigError, identity_rules_of, load, missing_modules, resolved
from keyway.daemon.systemd import notify
from keyway.observe.audit_errors import AuditError
from keyway.observe.log import configure
from keyway.observe.otlp import SpansError
from keyway.provision.apart import make_files
from keyway.transport.errors import AddressError

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
    """Serve the backends of a configuration file until told to stop (SIGTERM, SIGINT; twice: at once).

    SIGHUP: the file is read again, as by `keyway reload`.
    """
    config = _load(path)
    binary = found_host()
    configure(config.log.level, config.log.format)
    try:
        run_loop(_serve(config, path.absolute(), binary, os.environ.pop("NOTIFY_SOCKET", "")))
    except (AddressError, AuditError, ConfigError, SpansError) as error:
        raise click.ClickException(str(error)) from error


async def _serve(config: Config, path: Path, binary: Path, service_manager: str) -> None:
    told = Told(signal.SIGTERM, signal.SIGINT)
    daemon = make_daemon(config, binary, path=path)
    if config.listen is not None:
        # Those who ask this daemon to change tokens may not be allowed to make files beside its socket.
        make_files(config.listen.socket.parent)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, daemon.reload_soon)
    async with running(daemon, told):
        notify(service_manager, "READY=1")
        await stopped(told)
        notify(service_manager, "STOPPING=1")


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def check(path: Path) -> None:
    """Check a configuration file: every mistake is told with its line."""
    config = _load(path)
    if missing := missing_modules(path, config):
        raise click.ClickException("\n".join(missing))
    try:
        rules = resolved(identity_rules_of(config))
    except ValueError as error:
        raise click.ClickException(f"{path}: {error}") from error
    places = len(config.listeners) + (config.listen is not None)
    click.echo(
        f"{path}: good: {len(config.backends)} backend(s), {len(config.tokens)} token section(s), {places} listener(s), "
        f"{len(config.offers)} offer(s)"
    )
    for name, listener in config.listeners.items():
        click.echo(f"listener {name}: {listener.protocol} on {listener.address}{_shown(listener.tokens)}")
    for name, offer in config.offers.items():
        click.echo(f"offer {name}: to {offer.to}")
    for rule in rules:
        click.echo(f"identity {rule.name}: {', '.join(role.name for role in rule.roles)}")
    for name, token in config.tokens.items():
        for view in token.views:
            roles = config.views[view].roles
            click.echo(f"view {name}/{view}: {config.views[view].token}{', ' if roles else ''}{', '.join(roles)}")


def _shown(tokens: tuple[str, ...]) -> str:
    return f", only {' '.join(tokens)}" if tokens else ""
