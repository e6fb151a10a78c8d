"""`keyway agent`: a user's own daemon, for tokens behind a gateway elsewhere."""

import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click

from keyway.address import AddressError, Unix, parse
from keyway.cli.place import private_directory, runtime_directory
from keyway.cli.served import checked, host_environment
from keyway.cli.shell import ADDRESS, address_text, exports
from keyway.config import BackendOptions, Config, ConfigError, ListenerOptions, ListenOptions, LogOptions, load

__all__ = ["agent"]

BACKEND: Final = "gateway"
LISTENER: Final = "p11-kit"
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True)


@click.command()
@click.option(
    "--to",
    metavar="ADDRESS",
    help="The gateway: tls://host:port, gss://host:port, unix:/path, vsock:cid=N;port=N, or '|command'.",
)
@click.option("--ca", type=_FILE, help="TLS: certificates of the CAs that the gateway's may come from.")
@click.option("--certificate", type=_FILE, help="TLS: our certificate.")
@click.option("--key", type=_FILE, help="TLS: its private key.")
@click.option("--crl", type=_FILE, help="TLS: revocation lists of the CAs.")
@click.option(
    "--server-name", default="", metavar="NAME", help="TLS: name in the gateway's certificate. Default: the host."
)
@click.option("--kerberos", is_flag=True, help="TLS: show our Kerberos ticket inside. A gss address does so anyway.")
@click.option("--service", default="", metavar="NAME", help="Kerberos: name of the gateway. Default: pkcs11@HOST.")
@click.option("--keytab", type=_FILE, help="Kerberos: a key to get tickets with. Default: the ticket that is there.")
@click.option("--protocol", type=click.Choice(["keyway", "p11-kit"]), default="keyway", help="What the gateway speaks.")
@click.option("-c", "--config", "path", type=_FILE, help="A configuration file with backends, in place of --to.")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    help="Where libkeyway.so connects. Default: $XDG_RUNTIME_DIR/keyway/agent.sock.",
)
@click.option(
    "--p11-kit",
    "p11kit",
    type=click.Path(path_type=Path),
    help="Where p11-kit-client.so connects. Default: $XDG_RUNTIME_DIR/keyway/p11-kit.sock.",
)
@click.option("-q", "--quiet", "level", flag_value="error", help="Log errors only.")
@click.option("-v", "--verbose", "level", flag_value="info", help="Log who comes and goes.")
def agent(
    to: str | None, path: Path | None, socket: Path | None, p11kit: Path | None, level: str | None, **options: Any
) -> None:
    """Give your programs the tokens of a gateway elsewhere, on two sockets of your own, until Ctrl-C.

    The agent keeps certificate and key, or finds the Kerberos ticket, so that no program needs them. It prints what to set for programs to find it.
    """
    if (to is None) is (path is None):
        raise click.UsageError("one of --to and --config is needed")
    config = _loaded(path) if path is not None else _made(to or "", options)
    native = (socket or _place("agent.sock")).absolute()
    stock = (p11kit or _place("p11-kit.sock")).absolute()
    listener = ListenerOptions(address=Unix(str(stock)), protocol="p11-kit", mode=0o600)
    config = replace(
        config,
        listen=ListenOptions(socket=native, mode=0o600),
        listeners=MappingProxyType({**config.listeners, LISTENER: listener}),
        log=replace(config.log, level=level or config.log.level),
    )
    _serve(config, exports({"KEYWAY_ADDRESS": f"unix:{native}", ADDRESS: address_text(str(stock))}))


def _loaded(path: Path) -> Config:
    try:
        return load(path)
    except ConfigError as error:
        raise click.ClickException("\n".join(error.problems)) from error


def _made(to: str, options: dict[str, Any]) -> Config:
    """Return a configuration with one gateway. The options of the command are called as those of a backend are."""
    backend = replace(_backend(to), **options)
    return checked(Config(backends=MappingProxyType({BACKEND: backend}), log=LogOptions(level="warning")))


def _serve(config: Config, text: str) -> None:
    from keyway.cli.daemon import Told, found_host, make_daemon, running, stopped
    from keyway.cli.loop import run_loop
    from keyway.observe.log import configure
    from keyway.transport.errors import AddressError as ListenError

    configure(config.log.level, config.log.format)
    binary = found_host()

    async def serve() -> None:
        told = Told(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        async with running(make_daemon(config, binary, host_environment()), told):
            click.echo(f"{text}# Ready. Ctrl-C ends it.")
            await stopped(told)

    try:
        run_loop(serve())
    except ListenError as error:
        raise click.ClickException(str(error)) from error


def _backend(to: str) -> BackendOptions:
    try:
        if to.startswith("|"):
            command = tuple(shlex.split(to[1:]))
            if not command:
                raise click.BadParameter("there is no command behind |", param_hint="--to")
            return BackendOptions(command=command, working_directory=Path.cwd())
        return BackendOptions(address=parse(to))
    except (AddressError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--to") from error


def _place(name: str) -> Path:
    return private_directory(runtime_directory(os.environ, os.getuid()) / "keyway") / name
