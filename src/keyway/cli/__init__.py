"""The `keyway` command."""

from importlib import import_module
from typing import Final

import click

__all__ = ["main"]

_COMMANDS: Final = {
    "agent": "agent:agent",
    "api": "api:api",
    "audit": "audit:audit",
    "cert": "cert:cert",
    "check": "serve:check",
    "csr": "key:csr",
    "drain": "operate:drain",
    "forward": "forward:forward",
    "key": "key:key",
    "module": "module:module",
    "p11-kit-server": "p11kit_server:p11_kit_server",
    "policy": "policy:policy",
    "pool": "pool:pool",
    "reload": "operate:reload",
    "remote": "remote:remote",
    "resume": "operate:resume",
    "run": "embedded:run",
    "serve": "serve:serve",
    "slots": "look:slots",
    "strongswan": "strongswan:strongswan",
    "status": "look:status",
    "token": "token:token",
    "top": "top:top",
    "trace": "trace:trace",
    "up": "embedded:up",
}
"""Module and function of each command. A command is imported when it is used: `keyway remote` starts for every connection."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _, function = _COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(f"keyway.cli.{module}"), function)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="keyway", prog_name="keyway")
def main() -> None:
    """A PKCS #11 gateway: use a token from anywhere, and go on when its module does not."""
