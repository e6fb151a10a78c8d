"""Where the streams of a configured backend come from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from keyway.address import Address, Unix
from keyway.backend.command import Command, CommandSettings, run
from keyway.backend.connection import Connection, connect
from keyway.backend.host import HostSettings
from keyway.backend.output import OutputReader
from keyway.backend.remote import RemoteSource
from keyway.backend.source import HostSource
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.backend.stream import Source
    from keyway.config import BackendOptions

__all__ = ["source_of"]


def source_of(
    name: str, options: BackendOptions, binary: Path, environment: Mapping[str, str], initialize: bytes
) -> Source:
    """Return what brings the streams of a backend.

    Args:
        name: The backend's name.
        options: Its section of the configuration.
        binary: Path of keyway-host.
        environment: What processes inherit of the daemon's environment.
        initialize: Body of the C_Initialize that streams will be sent.
    """
    environment = {**environment, **options.environment}
    is_p11kit = options.protocol == "p11-kit"
    if options.command:
        command = CommandSettings(
            name=name,
            arguments=options.command,
            environment=environment,
            working_directory=options.working_directory,
            note=_log_output(name, "command output"),
        )
        return RemoteSource(
            Command.kind, options.command[0], partial(run, command), options.start_timeout, is_p11kit=is_p11kit
        )
    if options.address is not None:
        where = str(options.address)
        open_ = partial(connect, name, where, partial(_dial, options.address))
        return RemoteSource(Connection.kind, where, open_, options.start_timeout, is_p11kit=is_p11kit)
    assert options.module is not None
    host = HostSettings(
        name=name,
        binary=binary,
        module=options.module,
        threads=options.threads,
        environment=environment,
        working_directory=options.working_directory,
        timeout=options.start_timeout,
    )
    return HostSource(
        host,
        OutputReader(_log_output(name, "module output")),
        initialize if options.warm_up else None,
        lambda reason: event(logging.INFO, "module hosts are not copies", backend=name, reason=reason),
        copies=options.start == "copy",
    )


def _log_output(backend: str, message: str) -> Callable[[str], None]:
    return lambda line: event(logging.WARNING, message, backend=backend, text=line)


async def _dial(address: Address, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
    assert isinstance(address, Unix)
    transport, _ = await asyncio.get_running_loop().create_unix_connection(protocol, address.path)
    return transport
