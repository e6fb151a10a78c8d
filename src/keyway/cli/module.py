"""`keyway module`: where libkeyway.so is."""

import click

from keyway.config.locate import module_library

__all__ = ["module"]


@click.command()
def module() -> None:
    """Print the path of libkeyway.so, the module that applications load."""
    try:
        click.echo(module_library())
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
