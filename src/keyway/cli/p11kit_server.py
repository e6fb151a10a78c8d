"""`keyway p11-kit-server`: what `p11-kit server` does, with its command line."""

import grp
import logging
import os
import pwd
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from keyway.address import Address, AddressError, Inherited, Unix, Vsock, parse
from keyway.cli.background import detach
from keyway.cli.daemon import Told, found_host, lonely, make_daemon, running, stopped
from keyway.cli.loop import run_loop
from keyway.cli.place import private_directory, runtime_directory
from keyway.cli.served import Served, config_of, log_skipped, served
from keyway.cli.shell import ADDRESS, PID, Shell, address_text, settings, unsettings
from keyway.config import Config, ListenerOptions
from keyway.observe.log import configure, event
from keyway.transport.errors import AddressError as ListenError
from keyway.transport.listen import FIRST_INHERITED, inherited

__all__ = ["p11_kit_server"]

SPARES: Final = 1
LISTENER: Final = "p11-kit"


class _Mode(click.ParamType[int]):
    name = "mode"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not re.fullmatch("0?[0-7]{3}", text):
            self.fail(f"{text} is not permissions as an octal number, such as 0660", param, ctx)
        return int(text, 8)


@click.command("p11-kit-server")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground.")
@click.option(
    "-n", "--name", metavar="SOCKET", help="Path of the socket. Default: $XDG_RUNTIME_DIR/p11-kit/pkcs11-PID."
)
@click.option("-p", "--provider", metavar="MODULE", help="The module whose tokens the URIs name.")
@click.option("-u", "--user", help="The user who may connect; default: the one who runs the server.")
@click.option("-g", "--group", help="The group whose members may connect.")
@click.option("--mode", type=_Mode(), help="Permissions of the socket, octal. Default: 0600, with --group 0660.")
@click.option("-a", "--run-as-user", metavar="USER", help="Become this user first.")
@click.option("-z", "--run-as-group", metavar="GROUP", help="Become a member of this group only first.")
@click.option(
    "-t", "--timeout", metavar="SECS", type=click.FloatRange(min=0), help="End after so long without a client."
)
@click.option("-k", "--kill", is_flag=True, help="End the server whose process P11_KIT_SERVER_PID names.")
@click.option("-c", "--csh", "shell", flag_value="C", help="Print lines for a C shell.")
@click.option("-s", "--sh", "shell", flag_value="BOURNE", help="Print lines for a Bourne shell. Default: as SHELL is.")
@click.option(
    "--native",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Listen here, too, for libkeyway.so, `keyway status` and `keyway trace`.",
)
@click.option("-q", "--quiet", "level", flag_value="error", help="Log errors only.")
@click.option("-v", "--verbose", "level", flag_value="info", help="Log who comes and goes.")
@click.argument("served_", metavar="URI...|MODULE", nargs=-1)
def p11_kit_server(
    foreground: bool,
    name: str | None,
    provider: str | None,
    user: str | None,
    group: str | None,
    mode: int | None,
    run_as_user: str | None,
    run_as_group: str | None,
    timeout: float | None,
    kill: bool,
    shell: str | None,
    native: Path | None,
    level: str | None,
    served_: tuple[str, ...],
) -> None:
    """Serve tokens to p11-kit-client.so on a unix socket: to be used in place of `p11-kit server`.

    Tokens are named by PKCS #11 URIs; without --provider those of the modules that p11-kit is configured to use. A URI may end in
    ?write-protected=yes. With a MODULE instead, all its slots are served under its own numbers.
    """
    form = Shell[shell] if shell else Shell.of(os.environ.get("SHELL", ""))
    if kill:
        _kill(form)
        return
    what = served(served_, provider, spares=SPARES)
    owner = None if user is None else _user(user, "--user").pw_uid
    if group is not None:
        _group(group, "--group")
    _become(run_as_user, run_as_group)
    background = None if foreground else detach()
    address = _address(name)
    permissions = mode if mode is not None else 0o600 if user is not None or group is None else 0o660
    listener = ListenerOptions(address=address, protocol="p11-kit", mode=permissions, group=group or "")
    config = config_of(what, {LISTENER: listener}, native=native, level=level or "warning")

    def ready(pid: int) -> None:
        if owner is not None and isinstance(address, Unix):
            _give(address.path, owner)
        text = settings(form, {ADDRESS: _shown(address, name), PID: str(pid)})
        if background is not None:
            background.report(text)
        else:
            click.echo(text, nl=False)

    _serve(config, what, ready, timeout)


def _serve(config: Config, what: Served, ready: Callable[[int], None], timeout: float | None) -> None:
    binary = found_host()
    configure(config.log.level, config.log.format)
    log_skipped(what)

    async def serve() -> None:
        told = Told(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        daemon = make_daemon(config, binary, what.environment)
        async with running(daemon, told):
            ready(os.getpid())
            await stopped(told, *([] if timeout is None else [lonely(daemon, timeout)]))
            if not told.once.is_set():
                event(logging.WARNING, "no connections", seconds=timeout)

    try:
        run_loop(serve())
    except ListenError as error:
        raise click.ClickException(str(error)) from error


def _address(name: str | None) -> Address:
    """Return where to listen: a socket that the service manager hands over, the named one, or the usual one."""
    if inherited(os.environ, os.getpid()):
        return Inherited("")
    if name is None:
        directory = private_directory(runtime_directory(os.environ, os.getuid()) / "p11-kit")
        return Unix(str(directory / f"pkcs11-{os.getpid()}"))
    try:
        address = parse(name) if name.startswith(("unix:", "vsock:")) else Unix(str(Path(name).absolute()))
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="--name") from error
    assert isinstance(address, Unix | Vsock)
    return address


def _shown(address: Address, name: str | None) -> str:
    """Return the address as p11-kit's client takes it."""
    if isinstance(address, Inherited):
        with socket.socket(fileno=os.dup(FIRST_INHERITED)) as listener:
            path = listener.getsockname() if listener.family == socket.AF_UNIX else name or str(address)
        return address_text(str(path))
    return address_text(address.path) if isinstance(address, Unix) else str(address)


def _kill(form: Shell) -> None:
    text = os.environ.get(PID, "")
    if not text:
        raise click.ClickException(f"{PID} is not set, so nobody knows which server to end")
    # Zero and negative numbers mean groups of processes.
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise click.ClickException(f"{PID} is not the number of a process: {text}")
    try:
        os.kill(int(text), signal.SIGTERM)
    except (OSError, OverflowError) as error:
        raise click.ClickException(f"process {text} can't be ended: {getattr(error, 'strerror', error)}") from error
    click.echo(unsettings(form, (ADDRESS, PID)), nl=False)


def _user(name: str, option: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise click.BadParameter(f"there is no user {name}", param_hint=option) from error


def _group(name: str, option: str) -> grp.struct_group:
    try:
        return grp.getgrnam(name)
    except KeyError as error:
        raise click.BadParameter(f"there is no group {name}", param_hint=option) from error


def _become(user: str | None, group: str | None) -> None:
    """Give up the rights of the user who started us."""
    who = None if user is None else _user(user, "--run-as-user")
    group_number = None if group is None else _group(group, "--run-as-group").gr_gid
    try:
        if group_number is not None:
            os.setgroups([group_number])
            os.setgid(group_number)
        elif who is not None:
            os.initgroups(who.pw_name, who.pw_gid)
            os.setgid(who.pw_gid)
        if who is not None:
            os.setuid(who.pw_uid)
    except PermissionError as error:
        raise click.ClickException("only root may run the server as somebody else") from error


def _give(path: str, owner: int) -> None:
    try:
        os.chown(path, owner, -1)
    except OSError as error:
        raise click.ClickException(f"{path}: can't be given to the user: {error.strerror}") from error
