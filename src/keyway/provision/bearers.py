"""The file of bearer tokens, read again when it changes."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from keyway.observe.log import event
from keyway.provision.callers import TokensError, parse_tokens
from keyway.provision.private import PrivateFileError, read_private

__all__ = ["Bearers", "BearersError"]

MAX_FILE: Final = 1_048_576


class BearersError(Exception):
    """A file of bearer tokens that can't be used. The text says which, and why."""


class Bearers:
    """Who has which bearer token. A changed file that can't be used lets nobody in, until it can."""

    def __init__(self, path: Path | None) -> None:
        """Read the file.

        Args:
            path: The file; None: nobody has one.

        Raises:
            BearersError: It can't be read, others can read it, or it holds something else.
        """
        self._path = path
        self._state = self._look()
        self._known: dict[bytes, str] = {} if path is None else _read(path)

    def known(self) -> Mapping[bytes, str]:
        """Return the callers' names by the digests of their tokens."""
        state = self._look()
        if self._path is not None and state != self._state:
            self._state = state
            try:
                self._known = _read(self._path)
                event(logging.INFO, "bearer tokens read again", callers=len(set(self._known.values())))
            except BearersError as error:
                self._known = {}
                event(logging.ERROR, "bearer tokens not used", error=str(error))
        return self._known

    def _look(self) -> tuple[int, ...]:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return ()
        return () if found is None else (found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode)


def _read(path: Path) -> dict[bytes, str]:
    try:
        return parse_tokens(read_private(path, MAX_FILE).decode())
    except UnicodeDecodeError:
        raise BearersError(f"{path}: it is not UTF-8") from None
    except TokensError as error:
        raise BearersError(f"{path}: {error}") from None
    except PrivateFileError as error:
        raise BearersError(str(error)) from None
