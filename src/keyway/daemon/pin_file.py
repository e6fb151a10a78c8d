"""PINs that the gateway holds itself, in files that nobody else can read."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

from keyway.observe.log import event

__all__ = ["read_pin_file"]

_LONGEST: Final = 4096
"""Bytes of a line."""


def read_pin_file(path: Path, token: str, option: str = "pin_file") -> bytes | None:
    """Return the PIN in a file: its first line. None, which is logged, if it can't be read, or others can read it, too.

    Args:
        path: The file.
        token: The name of the token's section, for the log.
        option: The option that names the file, for the log.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and not found.st_mode & 0o077:
                return file.readline(_LONGEST).rstrip(b"\r\n")
            reason = "it is no regular file, or others may read it"
    except OSError as error:
        reason = error.strerror or str(error)
    event(logging.ERROR, f"{option} can't be used", token=token, file=str(path), reason=reason)
    return None
