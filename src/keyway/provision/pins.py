"""PINs that stay in the gateway: which one a caller may use for which token."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from keyway.config import ApiPinOptions
from keyway.observe.log import event
from keyway.provision.models import MAX_PIN, Pin
from keyway.provision.private import PrivateFileError, read_private
from keyway.provision.problems import Problem

__all__ = ["PinBook"]


class PinBook:
    """The references of the configuration."""

    def __init__(self, options: Mapping[str, ApiPinOptions]) -> None:
        self._options = options

    def named(self, name: str, token: str, user: str, caller: str) -> Pin:
        """Return the PIN of a reference.

        Args:
            name: The reference.
            token: Label of the token.
            user: user or so.
            caller: Who asks.

        Raises:
            Problem: `pin-reference-missing`: there is none, or it is for another token, user or caller. They are not told apart.
        """
        options = self._options.get(name)
        if options is None or not _serves(options, token, user, caller):
            raise Problem("pin-reference-missing", f"{name[:40]!r}")
        return _read(name, options)

    def default(self, token: str, user: str, caller: str) -> Pin | None:
        """Return the PIN that the gateway has for a token, None if it has none for this caller.

        Raises:
            Problem: `pin-reference-missing`: its file can't be used.
        """
        for name, options in self._options.items():
            if _serves(options, token, user, caller):
                return _read(name, options)
        return None


def _serves(options: ApiPinOptions, token: str, user: str, caller: str) -> bool:
    return options.token == token and options.user == user and (not options.callers or caller in options.callers)


def _read(name: str, options: ApiPinOptions) -> Pin:
    try:
        return Pin(read_private(options.file, MAX_PIN + 2).rstrip(b"\r\n"))
    except PrivateFileError as error:
        event(logging.ERROR, "PIN file not used", reference=name, error=str(error))
        raise Problem(
            "pin-reference-missing", f"the file of {name!r} can't be used; the log of the API says why"
        ) from None
