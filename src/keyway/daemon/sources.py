"""Where the streams of a configured backend come from."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyway.address import Gss, Tls
from keyway.backend.command import Command, CommandSettings, run
from keyway.backend.connection import Connection, Dial, connect
from keyway.backend.greeting import describe_error
from keyway.backend.host import HostSettings
from keyway.backend.offered import OfferedSource
from keyway.backend.output import OutputReader
from keyway.backend.remote import RemoteSource
from keyway.backend.sandbox import LACKING, Sandbox
from keyway.backend.source import HostSource
from keyway.backend.stream import StreamError
from keyway.config import ids_of
from keyway.observe.log import event
from keyway.transport.connect import connect as transport_connect
from keyway.transport.errors import AddressError, ConnectError, KerberosError, TlsError
from keyway.transport.kerberos import Initiator
from keyway.transport.tls import Credentials, describe_refusal

if TYPE_CHECKING:
    from keyway.backend.stream import Source
    from keyway.config import BackendOptions, SandboxOptions

__all__ = ["source_of"]

_MOST_LACKING: Final = 8


def source_of(
    name: str,
    options: BackendOptions,
    binary: Path,
    environment: Mapping[str, str],
    initialize: bytes,
    own_user: int | None,
) -> Source:
    """Return what brings the streams of a backend.

    Args:
        name: The backend's name.
        options: Its section of the configuration.
        binary: Path of keyway-host.
        environment: What processes inherit of the daemon's environment.
        initialize: Body of the C_Initialize that streams will be sent.
        own_user: Number of the user that hosts run as unless the section says otherwise; None: that of the daemon.

    Raises:
        AddressError: The files for TLS can't be used, or hosts can't run as the user that they shall.
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
        open_ = partial(connect, name, where, _dial(name, options), _describe)
        # With TLS 1.3 the handshake is over before the other end has looked at a certificate.
        hint = ": does it accept our certificate?" if isinstance(options.address, Tls) else ""
        return RemoteSource(Connection.kind, where, open_, options.start_timeout, is_p11kit=is_p11kit, hint=hint)
    if offerer := options.offered or options.offered_principal:
        return OfferedSource(offerer)
    assert options.module is not None
    host = HostSettings(
        name=name,
        binary=binary,
        module=options.module,
        threads=options.threads,
        environment=environment,
        working_directory=options.working_directory,
        timeout=options.start_timeout,
        sandbox=_sandbox(name, options.sandbox, own_user),
        shared_memory=options.shared_memory,
    )
    return HostSource(
        host,
        OutputReader(_log_host_output(name)),
        initialize if options.warm_up else None,
        lambda reason: event(logging.INFO, "module hosts are not copies", backend=name, reason=reason),
        copies=options.start == "copy",
    )


def _log_output(backend: str, message: str) -> Callable[[str], None]:
    return lambda line: event(logging.WARNING, message, backend=backend, text=line)


def _log_host_output(backend: str) -> Callable[[str], None]:
    """Return what logs the output of hosts; each of them says the same of what it lacks."""
    log = _log_output(backend, "module output")
    told: set[str] = set()

    def note(line: str) -> None:
        # A module may write what it likes, also lines that begin like that, without end.
        if not line.startswith(LACKING) or len(told) > _MOST_LACKING:
            log(line)
        elif line not in told:
            told.add(line)
            lacking = line.removeprefix(LACKING)
            event(logging.WARNING, "module hosts are less confined", backend=backend, lacking=lacking)

    return note


def _sandbox(name: str, options: SandboxOptions, own_user: int | None) -> Sandbox | None:
    if not options.enabled:
        return None
    user = None
    if options.user:
        try:
            user = ids_of(options.user)
        except LookupError as error:
            raise AddressError(f"backend {name}: sandbox.user: {error}") from error
        if os.geteuid() != 0:
            raise AddressError(f"backend {name}: sandbox.user: only root can run hosts as somebody else")
        own_user = None
        if user[0] == 0:
            user = None
    return Sandbox(
        user=user,
        own_user=own_user,
        read=options.read,
        write=options.write,
        network=options.network,
        processes=options.processes,
        memory=options.memory,
        files=options.open_files,
    )


def _describe(error: Exception) -> str:
    return describe_refusal(error) if isinstance(error, ssl.SSLError) else describe_error(error)


def _kerberos(name: str, options: BackendOptions) -> Initiator | None:
    address = options.address
    if not options.speaks_kerberos or not isinstance(address, Gss | Tls):
        return None
    try:
        return Initiator(options.service, address.host, options.keytab)
    except KerberosError as error:
        raise AddressError(f"backend {name}: {error}") from error


def _dial(name: str, options: BackendOptions) -> Dial:
    assert options.address is not None
    credentials = None
    if isinstance(options.address, Tls):
        report = partial(event, logging.WARNING, "TLS files", backend=name)
        try:
            credentials = Credentials(options, is_server=False, report=lambda what: report(what=what))
        except TlsError as error:
            raise AddressError(f"backend {name}: {error}") from error
    dial = partial(
        transport_connect,
        options.address,
        credentials=credentials,
        server_name=options.server_name,
        kerberos=_kerberos(name, options),
        seconds=options.start_timeout,
    )

    async def dialled(protocol: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        try:
            transport, _ = await dial(protocol)
        except ConnectError as error:
            raise StreamError(str(error)) from error
        return transport

    return dialled
