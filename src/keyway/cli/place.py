"""Where a user's sockets are."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import click

__all__ = ["private_directory", "runtime_directory"]


def runtime_directory(environment: Mapping[str, str], user: int) -> Path:
    """Return the directory for what lasts as long as the user is logged in.

    Args:
        environment: With XDG_RUNTIME_DIR, perhaps.
        user: Number of the user.

    Raises:
        click.ClickException: There is none.
    """
    given = Path(environment.get("XDG_RUNTIME_DIR", ""))
    if given.is_absolute():
        return given
    usual = Path(f"/run/user/{user}")
    if usual.is_dir():
        return usual
    raise click.ClickException(f"XDG_RUNTIME_DIR is not set and {usual} is not there: say where the socket shall be")


def private_directory(path: Path) -> Path:
    """Return a directory, which is made for this user alone if it is not there.

    Raises:
        click.ClickException: It can't be made, or somebody else could put other sockets there, and would be told PINs.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise click.ClickException(f"{path}: belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise click.ClickException(f"{path}: others may write to it")
    return path
