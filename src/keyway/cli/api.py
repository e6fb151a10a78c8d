"""`keyway api`: provisioning over HTTP."""

import asyncio
import os
import signal
from importlib.metadata import version
from pathlib import Path

import click

from keyway.address import Unix
from keyway.cli.loop import run_loop
from keyway.config import Config, ConfigError, ListenOptions, load
from keyway.daemon.systemd import notify
from keyway.observe.log import configure
from keyway.transport.errors import AddressError, KerberosError, TlsError

__all__ = ["api"]

DEFAULT_FILE = "/etc/keyway/keyway.toml"


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
    # Late: it takes its time to load, and a mistake in the file need not wait for that.
    from keyway.provision.bearers import BearersError

    try:
        run_loop(_serve(config, os.environ.pop("NOTIFY_SOCKET", "")))
    except (AddressError, BearersError, KerberosError, TlsError) as error:
        raise click.ClickException(str(error)) from error


async def _serve(config: Config, service_manager: str) -> None:
    from keyway.provision.start import api_server

    assert config.api is not None
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    listen = config.listen or ListenOptions()
    server, service = api_server(config, Unix(str(config.api.socket or listen.socket)), version("keyway"))
    await server.start()
    try:
        notify(service_manager, "READY=1")
        await told.wait()
    finally:
        notify(service_manager, "STOPPING=1")
        await server.stop(config.limits.drain)
        service.close()
