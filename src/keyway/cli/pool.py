"""`keyway pool`: what can be asked about pools."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from keyway.cli.look import socket_option
from keyway.cli.operate import told
from keyway.daemon.control_numbers import CHECK

__all__ = ["pool"]

_WORDS: Final = {
    "missing": "{what}: not at {members}",
    "different": "{what}: different keys at {members}, which are tokens with different keys",
    "twins": "{what}: more than one at {members}, and nothing tells them apart",
    "mechanisms": "mechanisms that {members} can't do: {what}",
    "same": "{members} are the same token ({what})",
    "copy": "warning: {members} are copies of one token, or one that is reached in several ways ({what})",
    "absent": "{members}: can't be asked: {what}",
    "pin": "{members}: can't be logged in there with the PIN of pin_file: {what}",
    "unused": "{members}: not asked: {what}",
}


@click.group()
def pool() -> None:
    """Look after pools of tokens."""


@pool.command()
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's own JSON.")
@click.argument("name", required=False)
def check(address: str | None, as_json: bool, name: str | None) -> None:
    """Compare what the members of a pool have, or of all pools. For the daemon's own user and root.

    Each member is asked afresh, with one login if the pool has a pin_file, else for public objects only. The exit status is 0 if all agree.
    """
    (answer,) = told(address, CHECK, {} if name is None else {"pool": name})
    pools = answer["pools"]
    if as_json:
        click.echo(json.dumps(pools, indent=2))
    else:
        for each, report in pools.items():
            click.echo("\n".join(_shown(each, report)))
    sys.exit(not all(report["agrees"] for report in pools.values()))


def _shown(name: str, report: Mapping[str, Any]) -> Iterator[str]:
    counts = ", ".join(f"{member} has {count} objects" for member, count in report["objects"].items())
    yield f"pool {name}: {'the members agree' if report['agrees'] else 'the members do not agree'}{counts and ': '}{counts}"
    if report["public_only"]:
        yield "  only public objects were compared: the pool has no pin_file, or it can't be read"
    for each in report["findings"]:
        yield "  " + _WORDS[each["kind"]].format(what=each["what"], members=", ".join(each["members"]))
