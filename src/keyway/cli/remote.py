"""`keyway remote`: tokens for whoever is at the other end of standard input and output."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, cast

import click

from keyway.address import Inherited
from keyway.cli.daemon import Told, found_host, make_daemon, running, stopped
from keyway.cli.loop import run_loop
from keyway.cli.served import config_of, log_skipped, served
from keyway.config import EntranceOptions, LimitOptions, ListenerOptions
from keyway.daemon.client import ClientConnection
from keyway.daemon.p11kit_client import P11KitConnection
from keyway.daemon.server import Daemon
from keyway.daemon.view import View
from keyway.observe.log import configure
from keyway.transport.descriptor import DescriptorTransport
from keyway.wire.header import VERSION_BASE

__all__ = ["remote"]

_INPUT: Final = 0
_OUTPUT: Final = 1
NAME: Final = "stdio"
PATIENCE: Final = 365 * 86_400.0
"""Seconds that may pass until C_Initialize: this process has nothing better to do, and may be somebody's spare."""


@click.command()
@click.option("-p", "--provider", metavar="MODULE", help="The module whose tokens the URIs name.")
@click.option("-q", "--quiet", "level", flag_value="error", help="Log errors only.")
@click.option("-v", "--verbose", "level", flag_value="info", help="Log who comes and goes.")
@click.argument("served_", metavar="URI...|MODULE", nargs=-1)
def remote(provider: str | None, level: str | None, served_: tuple[str, ...]) -> None:
    """Serve tokens on standard input and output, to one client: to be used in place of `p11-kit remote`, over ssh, say.

    The client speaks p11-kit's protocol, or Keyway's own: its first byte tells. Tokens are named by PKCS #11 URIs; without --provider
    those of the modules that p11-kit is configured to use. With a MODULE instead, all its slots are served under its own numbers.
    """
    if os.isatty(_INPUT):
        raise click.UsageError("a program must be at the other end of standard input, not a terminal")
    what = served(served_, provider, spares=0)
    config = config_of(what, {NAME: ListenerOptions(address=Inherited(NAME))}, native=None, level=level or "warning")
    binary = found_host()
    configure(config.log.level, config.log.format)
    log_skipped(what)
    options = config.listeners[NAME]
    limits = LimitOptions(greeting=PATIENCE, drain=0.0)
    config = replace(config, listeners=MappingProxyType({}), limits=limits)
    try:
        streams = _streams()
        run_loop(_serve(lambda: make_daemon(config, binary, what.environment), options, *streams))
    except OSError as error:
        # A file can't be waited for (EPERM); a closed stream has no number (EBADF).
        if error.errno not in (errno.EPERM, errno.EBADF):
            raise
        raise click.ClickException("standard input and output must be pipes or sockets") from error


async def _serve(made: Callable[[], Daemon], options: ListenerOptions, reading: int, writing: int) -> None:
    told = Told(signal.SIGTERM, signal.SIGHUP)
    # Ctrl-C is meant for the application in the same terminal, which need not end of it. When it does, the stream ends.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    daemon = made()
    async with running(daemon, told):
        opening = _Opening(daemon, _Entrance(options, daemon.view(options)))
        DescriptorTransport(reading, writing, opening)
        await stopped(told, opening.wait_ended())


@dataclass(slots=True)
class _Entrance:
    options: EntranceOptions
    view: View
    name: str = NAME
    contexts: int = 0
    is_offer: bool = False


class _Opening(asyncio.Protocol):
    """Chooses the protocol by the first byte."""

    def __init__(self, daemon: Daemon, entrance: _Entrance) -> None:
        self._daemon = daemon
        self._entrance = entrance
        self._is_over = asyncio.Event()

    async def wait_ended(self) -> None:
        """Wait until the client has gone."""
        await self._is_over.wait()
        await self._daemon.wait_idle()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        kind = ClientConnection if data[0] >= VERSION_BASE else P11KitConnection
        connection = kind(self._daemon, self._entrance)
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        self._is_over.set()
        connection.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over.set()


def _streams() -> tuple[int, int]:
    """Return standard input and output, and keep everybody else from using them.

    Raises:
        OSError: One of them is closed.
    """
    for each in (_INPUT, _OUTPUT):
        os.fstat(each)
    streams = os.dup(_INPUT), os.dup(_OUTPUT)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, _INPUT)
    # What a library prints goes to standard error, if there is one.
    os.dup2(nothing if sys.stderr is None else sys.stderr.fileno(), _OUTPUT)
    os.close(nothing)
    return streams
