"""The `keyway` command."""

import click

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="keyway", prog_name="keyway")
def main() -> None:
    """A PKCS #11 gateway: use a token from anywhere, and go on when its module does not."""


def _add_commands() -> None:
    from keyway.cli.embedded import run, up
    from keyway.cli.look import slots, status
    from keyway.cli.module import module
    from keyway.cli.serve import check, serve
    from keyway.cli.trace import trace

    for command in (check, module, run, serve, slots, status, trace, up):
        main.add_command(command)


_add_commands()
