"""What `keyway p11-kit-server`, `remote` and `forward` serve: from their arguments to a configuration."""

import logging
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from keyway.address import AddressError, Unix, parse
from keyway.cli.p11kit_modules import ConfiguredModule, configured_modules, find_module
from keyway.config import BackendOptions, Config, ListenerOptions, LogOptions, SandboxOptions
from keyway.config.rules import completed
from keyway.observe.log import event

__all__ = ["FIRST_SLOT", "Served", "checked", "config_of", "host_environment", "log_skipped", "served"]

FIRST_SLOT: Final = 0x11
"""The number of the first slot where URIs say what is served; p11-kit's own number, which configurations rely on."""

_OURS: Final = (
    "P11_KIT_SERVER_ADDRESS",
    "P11_KIT_SERVER_PID",
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)
"""Variables that speak of this process: a module that finds a p11-kit server by them would find this one, and wait for itself."""

_MARK: Final = "KEYWAY_SERVES_P11_KIT"
"""Tells the processes below that p11-kit's configuration is being served. One that would serve it again has been started by that
configuration (remote: |keyway remote pkcs11:), and would start itself without end."""

_SCHEME: Final = "pkcs11:"


@dataclass(frozen=True, slots=True)
class Served:
    """What is served.

    Attributes:
        backends: Where the tokens are, by name.
        uris: Which of them are served; without any, all slots under the module's own numbers.
        is_configured: Whether the backends are those of p11-kit's configuration.
        skipped: What that names and can't be served, with the reason.
    """

    backends: Mapping[str, BackendOptions]
    uris: tuple[str, ...] = ()
    is_configured: bool = False
    skipped: tuple[str, ...] = ()

    @property
    def first_slot(self) -> int:
        """The number of the first slot; -1: the module's own numbers."""
        return FIRST_SLOT if self.uris else -1

    @property
    def environment(self) -> dict[str, str]:
        """What module hosts and commands inherit."""
        return {**host_environment(), **({_MARK: "1"} if self.is_configured else {})}


def served(arguments: tuple[str, ...], provider: str | None, *, spares: int) -> Served:
    """Return what a command line asks for.

    Args:
        arguments: PKCS #11 URIs, or one module.
        provider: The module whose tokens the URIs name; None: those that p11-kit is configured to use.
        spares: How many hosts of each module shall wait.

    Raises:
        click.ClickException: There is no such thing.
        click.UsageError: The command line makes no sense.
    """
    if not arguments:
        raise click.UsageError("name a module, or tokens by their PKCS #11 URIs (pkcs11: is all of them)")
    uris = tuple(each for each in arguments if each.startswith(_SCHEME))
    if not uris:
        if len(arguments) > 1 or provider is not None:
            raise click.UsageError(f"{arguments[-1]}: one module, or PKCS #11 URIs")
        return Served({"module": _of_file(arguments[0], spares)})
    if len(uris) < len(arguments):
        other = next(each for each in arguments if not each.startswith(_SCHEME))
        raise click.UsageError(f"{other}: a module can't be mixed with PKCS #11 URIs; name it with --provider")
    if provider is not None:
        return Served({"module": _of_file(provider, spares)}, uris)
    if _MARK in os.environ:
        raise click.ClickException(
            "a module of p11-kit's configuration would serve that configuration: name a module with --provider"
        )
    return _configured(configured_modules(os.environ, os.getuid()), uris, spares)


def log_skipped(what: Served) -> None:
    """Write what is not served although p11-kit's configuration names it."""
    for each in what.skipped:
        event(logging.WARNING, "a module that p11-kit is configured to use can't be served", reason=each)


def checked(config: Config) -> Config:
    """Return a configuration made from a command line with what follows from it filled in.

    Raises:
        click.UsageError: It contradicts itself.
    """
    problems: list[str] = []
    config = completed(config, lambda path, what: problems.append(": ".join([*path[2:], what])))
    if problems:
        raise click.UsageError("\n".join(problems))
    return config


def config_of(what: Served, listeners: Mapping[str, ListenerOptions], *, native: Path | None, level: str) -> Config:
    """Return the configuration of a daemon that serves something.

    Args:
        what: What is served; each of the listeners shows it.
        listeners: Where, by name.
        native: The socket of the native wire; None if there shall be none.
        level: The least severe messages to write.
    """
    if native is not None:
        listeners = {**listeners, "native": ListenerOptions(address=Unix(str(native.absolute())), mode=0o600)}
    shown = {name: replace(each, tokens=what.uris, first_slot=what.first_slot) for name, each in listeners.items()}
    return checked(
        Config(
            listen=None,
            listeners=MappingProxyType(shown),
            backends=MappingProxyType({name: _as_with_p11_kit(each) for name, each in what.backends.items()}),
            log=LogOptions(level=level),
        )
    )


def host_environment() -> dict[str, str]:
    """Return what module hosts and commands inherit: all of it, since it is where modules are told where their configuration is."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}


def _as_with_p11_kit(backend: BackendOptions) -> BackendOptions:
    """Leave a module the network and its user, which it has in a process of p11-kit: there is no file to say so in."""
    if backend.module is None:
        return backend
    return replace(backend, sandbox=SandboxOptions(network=True, user="root" if os.geteuid() == 0 else ""))


def _of_file(name: str, spares: int, init_string: str = "") -> BackendOptions:
    try:
        module = find_module(name)
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    return BackendOptions(module=module, spares=spares, init_string=init_string, working_directory=Path.cwd())


def _configured(modules: Iterable[ConfiguredModule], uris: tuple[str, ...], spares: int) -> Served:
    backends: dict[str, BackendOptions] = {}
    skipped = []
    for each in modules:
        try:
            backends[each.name] = _of_remote(each) if each.remote else _of_file(each.module, spares, each.init_reserved)
        except click.ClickException as error:
            if each.is_critical:
                raise
            skipped.append(f"{each.name}: {error.message}")
    if not backends:
        raise click.ClickException(
            "\n".join(["p11-kit has no modules on this machine; name one with --provider", *skipped])
        )
    return Served(backends, uris, is_configured=True, skipped=tuple(skipped))


def _of_remote(module: ConfiguredModule) -> BackendOptions:
    try:
        if module.remote.startswith("|"):
            command = tuple(shlex.split(module.remote[1:]))
            if not command:
                raise click.ClickException("remote: has no command")
            return BackendOptions(
                command=command, protocol="p11-kit", init_string=module.init_reserved, working_directory=Path.cwd()
            )
        return BackendOptions(address=parse(module.remote), protocol="p11-kit", init_string=module.init_reserved)
    except (AddressError, ValueError) as error:
        raise click.ClickException(f"remote: {error}") from error
