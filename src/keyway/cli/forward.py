"""`keyway forward`: this machine's tokens, for programs on another one, over ssh."""

import asyncio
import secrets
import shlex
import signal
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from keyway.address import Unix
from keyway.cli.served import Served, config_of, log_skipped, served
from keyway.cli.shell import ADDRESS, address_text, exports
from keyway.config import Config, ListenerOptions

__all__ = ["forward", "ssh_command"]

LISTENER: Final = "p11-kit"
SPARES: Final = 1
READY: Final = "keyway-forward-ready"
"""What the other machine says when its sockets are there."""
FAILED: Final = 255
"""Exit status of ssh when it failed itself."""
PARTING: Final = 5.0
"""Seconds that ssh has to remove the sockets on the other machine and to end."""


@click.command()
@click.option("-p", "--provider", metavar="MODULE", help="The module whose tokens the URIs name.")
@click.option(
    "-o",
    "--ssh-option",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    help="An option for ssh, as in ssh_config(5); may be repeated.",
)
@click.option(
    "--remote-socket", metavar="PATH", help="Where p11-kit-client.so connects over there. Nothing may be there yet."
)
@click.option(
    "--remote-native",
    metavar="PATH",
    help="Where libkeyway.so connects over there. Without both options: new names in /tmp.",
)
@click.option("-q", "--quiet", "level", flag_value="error", help="Log errors only.")
@click.option("-v", "--verbose", "level", flag_value="info", help="Log who comes and goes.")
@click.argument("host", metavar="[USER@]HOST")
@click.argument("served_", metavar="[URI...|MODULE]", nargs=-1)
def forward(
    provider: str | None,
    options: tuple[str, ...],
    remote_socket: str | None,
    remote_native: str | None,
    level: str | None,
    host: str,
    served_: tuple[str, ...],
) -> None:
    """Let programs on HOST use tokens of this machine, for as long as this runs, and print what to set there.

    Tokens are named as for `keyway p11-kit-server`; without a name, all of them are forwarded. Whoever is the same user on HOST, or root
    there, can use them.
    """
    if host.startswith("-"):
        raise click.UsageError(f"{host} is no host")
    what = served(served_ or ("pkcs11:",), provider, spares=SPARES)
    if remote_socket is None and remote_native is None:
        fresh = f"/tmp/keyway-{secrets.token_hex(8)}"  # noqa: S108 (nobody can guess the name)
        remote_socket, remote_native = f"{fresh}.p11-kit", f"{fresh}.sock"
    stock, native = _path(remote_socket, "--remote-socket"), _path(remote_native, "--remote-native")
    with tempfile.TemporaryDirectory(prefix="keyway-") as name:
        _forward(what, Path(name), stock, native, ssh=(host, options), level=level or "warning")


def _path(text: str | None, option: str) -> str | None:
    if text is not None and (not text.startswith("/") or any(each in text for each in "\0\n:'\"")):
        raise click.BadParameter("an absolute path without colons and quotes is needed", param_hint=option)
    return text


def ssh_command(host: str, options: tuple[str, ...], sockets: Mapping[str, Path]) -> list[str]:
    """Return the command line of ssh.

    Args:
        host: The other machine, perhaps with a user.
        options: Options as in ssh_config(5); they go first, since ssh takes the first value that it finds.
        sockets: The sockets here, by the paths that they shall have there.
    """
    ours = (
        "ExitOnForwardFailure=yes",
        "ControlPath=none",  # A connection shared with others would keep the sockets when we are gone.
        "ServerAliveInterval=15",
    )
    # The sockets would stay there when the connection ends, as sshd leaves them; so a command waits for the end and removes them.
    command = f"echo {READY}; cat >/dev/null; rm -f {' '.join(map(shlex.quote, sockets))}"
    return [
        "ssh",
        "-T",
        *(word for each in (*options, *ours) for word in ("-o", each)),
        *(word for there, here in sockets.items() for word in ("-R", f"{there}:{here}")),
        "--",
        host,
        command,
    ]


def _forward(
    what: Served, home: Path, stock: str | None, native: str | None, *, ssh: tuple[str, tuple[str, ...]], level: str
) -> None:
    from keyway.cli.loop import run_loop
    from keyway.observe.log import configure
    from keyway.transport.errors import AddressError

    sockets: dict[str, Path] = {}
    variables: dict[str, str] = {}
    if stock is not None:
        sockets[stock] = home / "p11-kit"
        variables[ADDRESS] = address_text(stock)
    if native is not None:
        sockets[native] = home / "native"
        variables["KEYWAY_ADDRESS"] = f"unix:{native}"
    listener = ListenerOptions(address=Unix(str(home / "p11-kit")), protocol="p11-kit", mode=0o600)
    config = config_of(what, {LISTENER: listener}, native=home / "native", level=level)
    configure(config.log.level, config.log.format)
    log_skipped(what)
    host, options = ssh
    text = f"# On {host}:\n{exports(variables)}# Ready. Ctrl-C ends it.\n"
    try:
        problem = run_loop(_run(config, what, ssh_command(host, options, sockets), text))
    except AddressError as error:
        raise click.ClickException(str(error)) from error
    if problem:
        raise click.ClickException(problem)


async def _run(config: Config, what: Served, command: list[str], text: str) -> str:
    """Forward until told to stop, or until ssh ends; return what was wrong with that."""
    from keyway.backend.process import describe_exit
    from keyway.cli.daemon import Told, found_host, make_daemon, running, stopped

    told = Told(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    is_ready = asyncio.Event()
    async with running(make_daemon(config, found_host(), what.environment), told):
        try:
            ssh = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        except OSError as error:
            return f"ssh: {error.strerror}"
        try:
            await stopped(told, _follow(ssh, text, is_ready))
        finally:
            await _part(ssh)
    if told.once.is_set():
        return ""
    assert ssh.returncode is not None
    hint = (
        ""
        if is_ready.is_set()
        else "; if ssh says that a port forwarding failed, choose another path there, or remove what is there"
    )
    return f"ssh {describe_exit(ssh.returncode)}{hint if ssh.returncode == FAILED else ''}"


async def _follow(ssh: Process, text: str, is_ready: asyncio.Event) -> None:
    """Say when the sockets are there, and wait until ssh ends."""
    assert ssh.stdout is not None
    while True:
        try:
            line = await ssh.stdout.readline()
        except ValueError:
            continue  # A line longer than anybody reads is passed over.
        if not line:
            break
        if line.decode(errors="replace").rstrip() == READY:
            is_ready.set()
            click.echo(text, nl=False)
        else:
            click.echo(line, err=True, nl=False)
    await ssh.wait()


async def _part(ssh: Process) -> None:
    """Let the command on the other machine remove the sockets, and ssh end."""
    if ssh.returncode is not None:
        return
    assert ssh.stdin is not None
    ssh.stdin.close()
    try:
        async with asyncio.timeout(PARTING):
            await ssh.wait()
    except TimeoutError:
        ssh.terminate()
        await ssh.wait()
