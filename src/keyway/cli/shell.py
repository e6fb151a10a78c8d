"""Lines for a shell to evaluate."""

import os
import shlex
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final
from urllib.parse import quote

__all__ = ["ADDRESS", "PID", "Shell", "address_text", "exports", "settings", "unsettings"]

ADDRESS: Final = "P11_KIT_SERVER_ADDRESS"
PID: Final = "P11_KIT_SERVER_PID"


class Shell(Enum):
    """The two families of shells."""

    BOURNE = ("{name}={value}; export {name};", "unset {name};")
    C = ("setenv {name} {value};", "unsetenv {name};")

    @classmethod
    def of(cls, path: str) -> "Shell":
        """Return the family of a login shell.

        Args:
            path: The value of SHELL.
        """
        return cls.C if path.endswith("csh") else cls.BOURNE


def settings(shell: Shell, variables: Mapping[str, str]) -> str:
    """Return lines that set and export variables, in the form of `p11-kit server`."""
    return "".join(
        shell.value[0].format(name=name, value=shlex.quote(value)) + "\n" for name, value in variables.items()
    )


def unsettings(shell: Shell, names: Iterable[str]) -> str:
    """Return lines that take variables away."""
    return "".join(shell.value[1].format(name=name) + "\n" for name in names)


def exports(variables: Mapping[str, str]) -> str:
    """Return lines that set and export variables in a POSIX shell, for people to copy."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def address_text(path: str) -> str:
    """Return the address of a unix socket as p11-kit's client takes it."""
    return f"unix:path={quote(os.fsencode(path), safe='/')}"
