"""`keyway top`: a running gateway, live."""

import json
import math
import os
import shutil
import sys
import time
from typing import Any, Final

import click

from keyway.cli.look import connect, socket_option
from keyway.cli.picture import picture
from keyway.cryptoki import CkError
from keyway.daemon.control import STATUS

__all__ = ["top"]

_CLEAR: Final = "\x1b[H\x1b[2J"
_HOME: Final = "\x1b[H"
_END_OF_LINE: Final = "\x1b[K"
_BELOW: Final = "\x1b[J"


@click.command()
@socket_option
@click.option("--once", is_flag=True, help="Print one picture and end.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks at the daemon.",
)
def top(address: str | None, once: bool, interval: float) -> None:
    """Show pools, backends and contexts of a running daemon, until Ctrl-C. For its own user and root."""
    if math.isnan(interval):
        raise click.BadParameter("nan is no time", param_hint="--interval")
    try:
        _watch(address, interval, pictures=1 if once else 0)
    except KeyboardInterrupt:
        click.echo()
    except BrokenPipeError:
        # Whoever read the output has gone; nothing may be flushed into the void at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _watch(address: str | None, interval: float, pictures: int) -> None:
    is_live = sys.stdout.isatty() and not pictures
    before: dict[str, Any] | None = _look(address)
    asked = time.monotonic()
    if is_live:
        click.echo(_CLEAR, nl=False)
    if not pictures:
        _show(picture(None, before or {}, 0.0, *_room(is_live)), is_live=is_live)
    while True:
        time.sleep(interval)
        try:
            now = _look(address)
        except click.ClickException as error:
            if pictures:
                raise
            before = None
            _show([f"{error.message}; trying again"], is_live=is_live)
            continue
        since, asked = asked, time.monotonic()
        _show(picture(before, now, asked - since, *_room(is_live)), is_live=is_live)
        if pictures:
            return
        before = now


def _look(address: str | None) -> dict[str, Any]:
    """Return what the daemon tells.

    Raises:
        click.ClickException: There is none, or it refuses.
    """
    try:
        with connect(address) as client:
            rv, body = client.exchange(STATUS)
    except OSError as error:
        raise click.ClickException(f"the daemon has gone: {error.strerror or error}") from error
    if rv:
        raise click.ClickException(f"the daemon refuses: {CkError(rv).name}")
    told: dict[str, Any] = json.loads(body)
    return told


def _room(is_live: bool) -> tuple[int, int]:
    """Return how many columns and rows there are."""
    size = shutil.get_terminal_size()
    # A line that fills the last column would leave the terminal between two lines.
    return (size.columns - 1, size.lines) if is_live else (size.columns, 0)


def _show(lines: list[str], *, is_live: bool) -> None:
    if is_live:
        # Each line is written over the one before, so nothing flickers.
        click.echo(_HOME + f"{_END_OF_LINE}\n".join(lines) + _END_OF_LINE + _BELOW, nl=False)
    else:
        click.echo("\n".join([*lines, ""]))
