"""`keyway api`: provisioning over HTTP."""

import os
import signal
from importlib.metadata import version
from pathlib import Path

import click

from keyway.address import Unix
from keyway.cli.daemon import Told
from keyway.cli.loop import run_loop
from keyway.cli.serve import DEFAULT_FILE
from keyway.config import Config, ConfigError, ListenOptions, load
from keyway.daemon.systemd import notify
from keyway.observe.log import configure
from keyway.provision.callers import TokensError
from keyway.provision.private import PrivateFileError
from keyway.transport.errors import AddressError, TlsError

__all__ = ["api"]


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True)
def api(path: Path) -> None:
    """Serve the provisioning API of a configuration file (section api) until told to stop.

    It is a client of the daemon, and goes on when the daemon is restarted.
    """
    try:
        config = load(path, serves=False)
    except ConfigError as error:
        raise click.ClickException("\n".join(error.problems)) from error
    if config.api is None:
        raise click.ClickException(f"{path}: there is no section [api]: it says where to listen, and who is let in")
    configure(config.log.level, config.log.format)

    try:
        run_loop(_serve(config, os.environ.pop("NOTIFY_SOCKET", "")))
    except (AddressError, PrivateFileError, TlsError, TokensError) as error:
        raise click.ClickException(str(error)) from error


async def _serve(config: Config, service_manager: str) -> None:
    # Late: what needs aiohttp takes its time to load, and the other errors need not wait.
    from keyway.provision.start import api_server

    assert config.api is not None
    told = Told(signal.SIGTERM, signal.SIGINT)
    listen = config.listen or ListenOptions()
    server, service = api_server(config, Unix(str(config.api.socket or listen.socket)), version("keyway"))
    await server.start()
    try:
        notify(service_manager, "READY=1")
        await told.once.wait()
    finally:
        notify(service_manager, "STOPPING=1")
        await server.stop(config.limits.drain)
        service.close()
