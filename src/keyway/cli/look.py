"""`keyway status` and `keyway slots`: a look into a running gateway."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from keyway.address import AddressError, Unix, parse
from keyway.cli.client import Client
from keyway.cli.tokens import slots_of
from keyway.cryptoki import CkError, Null, TokenInfo, unpadded
from keyway.cryptoki.constants import CKF_TOKEN_INITIALIZED
from keyway.daemon.control_numbers import STATUS

__all__ = ["connect", "slots", "socket_option", "status", "unix_socket"]

TIMEOUT: Final = 30.0
DEFAULT_SOCKET: Final = "/run/keyway/keyway.sock"

socket_option = click.option(
    "--socket",
    "address",
    metavar="PATH",
    help=f"The daemon's socket. Default: KEYWAY_ADDRESS, else {DEFAULT_SOCKET}.",
)


def connect(address: str | None) -> Client:
    """Connect to the daemon.

    Args:
        address: What the option says.

    Raises:
        click.ClickException: There is none.
    """
    path = unix_socket(address)
    try:
        return Client(path, TIMEOUT)
    except OSError as error:
        raise click.ClickException(f"no daemon at {path}: {error.strerror or error}") from error


def unix_socket(address: str | None) -> Path:
    """Return the path of the daemon's socket.

    Args:
        address: What the option says.

    Raises:
        click.ClickException: There is no unix socket among the addresses that are given.
    """
    return _path(address or os.environ.get("KEYWAY_ADDRESS") or DEFAULT_SOCKET)


def _path(text: str) -> Path:
    """Return the path of the first unix socket among addresses; a daemon answers its owner's questions there only."""
    if "/" in text and ":" not in text:
        return Path(text)
    for each in text.split():
        try:
            address = parse(each)
        except AddressError as error:
            raise click.ClickException(f"{each}: {error}") from error
        if isinstance(address, Unix):
            return Path(address.path)
    raise click.ClickException(f"{text}: a daemon is asked at its unix socket: --socket PATH")


@click.command()
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's own JSON.")
def status(address: str | None, as_json: bool) -> None:
    """Show what a running daemon is doing. For its own user and root."""
    with connect(address) as client:
        rv, body = client.exchange(STATUS)
    if rv:
        raise click.ClickException(f"the daemon refuses: {CkError(rv).name}")
    told = json.loads(body)
    click.echo(json.dumps(told, indent=2) if as_json else _shown(told))


def _shown(told: dict[str, Any]) -> str:
    place = f", {told['socket']}" if told["socket"] else ""
    lines = [f"keyway {told['version']}, process {told['pid']}, up {told['uptime']:.0f} s{place}"]
    for name, backend in told["backends"].items():
        lines.append(
            f"backend {name}: {backend['source']}: {backend['hosts']} {backend['kind']}s ({_waiting(backend)}), "
            f"{backend['started']} started, {backend['crashes']} crashed"
        )
        if backend["error"]:
            lines.append(f"  failing: {backend['error']}")
    for name, pool in told["pools"].items():
        lines += _pool(name, pool)
    for name, offer in told["offers"].items():
        lines.append(f"offer {name}: {offer['to']}: {offer['waiting']} connections wait")
        if offer["error"]:
            lines.append(f"  failing: {offer['error']}")
    if (audit := told.get("audit")) is not None:
        lines += _audit(audit)
    for context in told["contexts"]:
        hosts = ", ".join(f"{name} {pid}" for name, pid in context["hosts"].items()) or "none"
        lines.append(
            f"context {context['context']}: {context['application'] or context.get('program') or '?'} ({_where(context)}), "
            f"{context['age']:.0f} s, {context['sessions']} sessions, "
            f"{context['in_flight']} calls in flight, hosts: {hosts}"
        )
        lines += [
            f"  {name}: session {each['session']} stays at {each['member']}: {', '.join(each['reasons'])}"
            for name, bound in context["pools"].items()
            for each in bound
        ]
    return "\n".join(lines)


def _audit(audit: dict[str, Any]) -> Iterator[str]:
    last = audit["checkpoint"]
    checkpoint = (
        "no checkpoint yet" if last is None else f"{'signed' if last['signed'] else 'not signed'} up to {last['of']}"
    )
    yield (
        f"audit: {', '.join(audit['sinks'])}: line {audit['seq']}, {audit['records']} written, {audit['dropped']} dropped, {checkpoint}"
    )
    if audit["error"]:
        yield f"  failing: {audit['error']}"


def _pool(name: str, pool: dict[str, Any]) -> Iterator[str]:
    agree = f", {pool['disagreements']} disagreements" if pool.get("disagreements") else ""
    yield (
        f"pool {name}: {pool['policy']}, writes {pool['writes']}: {pool['contexts']} contexts, {pool['sessions']} sessions "
        f"({pool['bound']} stay at their member), {pool['failovers']} failovers{agree}"
    )
    for member in pool["members"]:
        words = [
            member["state"],
            *(["standby"] if member["standby"] else []),
            *(["drained"] if member["drained"] else []),
        ]
        yield (
            f"  {member['member']}, backend {member['backend']}: {', '.join(words)}, {member['outstanding']} calls under way, "
            f"{member['served']} served, {member['failures']} failures"
        )
        if member["parked"]:
            yield f"    parked: {member['parked']}"
        if member["error"]:
            yield f"    failing: {member['error']}"


def _waiting(backend: dict[str, Any]) -> str:
    return f"{backend['spares']} spare" + (f", {backend['offered']} offered" if "offered" in backend else "")


def _where(context: dict[str, Any]) -> str:
    if "pid" in context:
        return f"process {context['pid']}, user {context['uid']}"
    names = [f", {context[fact]}" for fact in ("certificate", "principal") if fact in context]
    return f"{context.get('transport', 'unknown')} {context.get('address', '')}{''.join(names)}"


@click.command()
@socket_option
def slots(address: str | None) -> None:
    """List the slots that clients see, with the tokens in them."""
    with connect(address) as client:
        try:
            client.call("C_Initialize", 0, Null(), b"keyway slots")
            for slot in slots_of(client):
                click.echo(_slot(client, slot))
            client.call("C_Finalize")
        except (CkError, OSError) as error:
            raise click.ClickException(str(error)) from error


def _slot(client: Client, slot: int) -> str:
    try:
        (token,) = client.call("C_GetTokenInfo", True, target=slot)
    except CkError as error:
        return f"{slot}: no token: {error.name}"
    assert isinstance(token, TokenInfo)
    if not token.flags & CKF_TOKEN_INITIALIZED:
        return f"{slot}: a token that is not initialised ({unpadded(token.model)})"
    label, model, serial = map(unpadded, (token.label, token.model, token.serial_number))
    return f"{slot}: {label} ({model}, serial number {serial})"
