"""`keyway drain`, `keyway resume` and `keyway reload`: what is done to a running gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from keyway.cli.look import connect, socket_option
from keyway.cryptoki import CkError
from keyway.daemon.control_numbers import DRAIN, RELOAD, RESUME

__all__ = ["drain", "reload", "resume", "told"]

_member = click.argument("member")


@click.command()
@socket_option
@click.option("--no-wait", is_flag=True, help="Do not wait until nothing holds the member any more.")
@_member
def drain(address: str | None, no_wait: bool, member: str) -> None:
    """Take a member of a pool out of use: TOKEN/NAME, or NAME if that is enough. For the daemon's own user and root.

    It gets no new work. When nothing holds it any more it is closed, and its token may be taken away.
    """
    for state in told(address, DRAIN, {"member": member, "wait": not no_wait}):
        click.echo(_state(state))
        if not state["serving"]:
            click.echo("no member of this pool serves now", err=True)


@click.command()
@socket_option
@_member
def resume(address: str | None, member: str) -> None:
    """Give a member of a pool work again that was drained or parked. For the daemon's own user and root."""
    (state,) = told(address, RESUME, {"member": member})
    if not state["serves"]:
        raise click.ClickException(f"{state['member']}: does not serve yet: {state['error'] or state['state']}")
    click.echo(f"{state['member']}: serves")


@click.command()
@socket_option
def reload(address: str | None) -> None:
    """Have a running daemon read its configuration file again and go by it. For the daemon's own user and root.

    No client loses anything. If something is wrong in the file, nothing changes, and every mistake is told with its line.
    """
    (outcome,) = told(address, RELOAD, {})
    if outcome["problems"]:
        raise click.ClickException("\n".join(outcome["problems"]))
    click.echo("\n".join(outcome["changes"]) or "nothing has changed")
    for name in outcome["needs_restart"]:
        click.echo(f"{name}: needs a restart, and stays as it is until then", err=True)


def told(address: str | None, number: int, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Ask the daemon for something that takes its time, and yield what it tells.

    Args:
        address: What the option says.
        number: Number of the control call.
        asked: What is asked for.

    Raises:
        click.ClickException: The daemon refuses, or has gone.
    """
    with connect(address) as client:
        client.wait_for_ever()
        try:
            for rv, body in client.follow(number, json.dumps(asked).encode()):
                answer = json.loads(body) if body else {}
                if rv:
                    raise click.ClickException(answer.get("error") or f"the daemon refuses: {CkError(rv).name}")
                yield answer
                if not answer.get("more"):
                    return
        except OSError as error:
            raise click.ClickException(f"the daemon has gone: {error.strerror or error}") from error
    raise click.ClickException("the daemon has gone")


def _state(state: Mapping[str, Any]) -> str:
    name, sessions = state["member"], state["sessions"]
    if state["done"]:
        return f"{name}: drained, nothing holds it"
    if not sessions:
        return f"{name}: gets no new work, is being closed"
    lines = [f"{name}: gets no new work, still held by {len(sessions)} session(s)"]
    for each in sessions:
        reasons = ", ".join(each["reasons"])
        lines.append(
            f"  context {each['context']} ({each['application'] or '?'}), session {each['session']}: {reasons}"
        )
    return "\n".join(lines)
