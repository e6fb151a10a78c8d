"""`keyway trace`: the calls that pass a running gateway."""

import json
import os
import sys

import click

from keyway.cli.client import Client
from keyway.cli.look import connect, socket_option
from keyway.cryptoki import RV, CkError
from keyway.daemon.control_numbers import STATUS, TRACE
from keyway.observe.trace import lines

__all__ = ["trace"]


@click.command()
@socket_option
@click.option(
    "--context", metavar="N", help="Show one context only, by its name in `keyway status` or the number in that."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def trace(address: str | None, context: str | None, as_json: bool) -> None:
    """Show calls live, until told to stop or the context ends. For the daemon's own user and root.

    PINs, keys and data are never shown.
    """
    with connect(address) as client:
        body = json.dumps({"context": _name(client, context)}).encode() if context else b""
        client.wait_for_ever()
        try:
            for rv, reply in client.follow(TRACE, body):
                if rv == RV.CKR_ARGUMENTS_BAD:
                    raise click.ClickException(f"no context {context}")
                if rv:
                    raise click.ClickException(f"the daemon refuses: {CkError(rv).name}")
                _print(json.loads(reply), as_json)
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # Whoever read the output has gone; nothing may be flushed into the void at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            raise click.ClickException(f"the daemon has gone: {error.strerror}") from error


def _name(client: Client, wanted: str) -> str:
    _, body = client.exchange(STATUS)
    names = [each["context"] for each in json.loads(body)["contexts"]] if body else []
    return next((name for name in names if name.partition("-")[2] == wanted), wanted)


def _print(told: dict[str, object], as_json: bool) -> None:
    if "contexts" in told:
        names = told["contexts"]
        assert isinstance(names, list)
        click.echo(f"tracing {', '.join(names) or 'contexts as they are opened'}", err=True)
    elif as_json:
        click.echo(json.dumps(told))
    else:
        click.echo("\n".join(lines(told)))
