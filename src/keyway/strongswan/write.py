"""Putting files in place: each is there as a whole, or as it was."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from keyway.strongswan.render import MARK, RenderedFile

__all__ = ["ForeignFileError", "write"]

_OWN: Final = 0o600
_ALL: Final = 0o644


class ForeignFileError(OSError):
    """A file is there that somebody else has written. The text names it."""


def write(files: Iterable[RenderedFile], directory: Path, *, replace_foreign: bool = False) -> tuple[Path, ...]:
    """Write files into a directory, which is made if it is not there; return their paths.

    Who may read a file is settled before its first byte is written. Nothing is written at all if one of the files is somebody else's.

    Args:
        files: The files.
        directory: Where.
        replace_foreign: Whether files are replaced that were not written by this command.

    Raises:
        ForeignFileError: See replace_foreign.
        OSError: A file can't be written.
    """
    files = tuple(files)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not replace_foreign:
        for each in files:
            if _is_foreign(path := directory / each.name):
                raise ForeignFileError(f"{path}: was not written by this command")
    return tuple(_write(each, directory / each.name) for each in files)


def _is_foreign(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().rstrip("\n") != MARK
    except FileNotFoundError:
        return False


def _write(file: RenderedFile, path: Path) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # For the owner alone.
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), _OWN if file.is_secret else _ALL)
            out.write(file.text)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path
