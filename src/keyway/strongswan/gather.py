"""What `diagnosis` wants to know of this machine, and what the file leaves open."""

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from keyway.strongswan.facts import Charon, Facts, SeenSlot
from keyway.strongswan.look import LookError, Pin, look
from keyway.strongswan.options import Setup
from keyway.strongswan.surroundings import engines

__all__ = ["PinFileError", "facts_of", "module_environment", "read_pin", "tokens_there"]

LOOK_TIMEOUT: Final = 60.0
PAUSE: Final = 0.5
LONGEST_PIN: Final = 4096


class PinFileError(Exception):
    """A file with a PIN that can't be used. The text says why."""


def read_pin(path: Path) -> str:
    """Return the PIN in a file: its first line.

    Raises:
        PinFileError: It can't be read, or others can read it, too.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise PinFileError(f"{path} is no regular file")
            if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise PinFileError(
                    f"{path} can be read by others than its owner (mode {stat.S_IMODE(found.st_mode):04o}); chmod 0600"
                )
            pin = file.readline(LONGEST_PIN).rstrip(b"\r\n").decode()
    except OSError as error:
        raise PinFileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PinFileError(f"{path} holds no UTF-8 text") from error
    if not pin:
        raise PinFileError(f"{path} holds no PIN")
    return pin


def module_environment(setup: Setup, charon: Charon | None, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the module is asked: what charon has, with the address that it shall have.

    Args:
        setup: What charon is to do.
        charon: charon.
        own: The environment of this process.
    """
    given = {setup.module.variable: setup.module.address} if setup.module.address else {}
    return {**own, **(charon.environment if charon is not None else {}), **given}


def tokens_there(setup: Setup, environment: Mapping[str, str], wait: float = 0.0) -> tuple[SeenSlot, ...]:
    """Return what the module shows, as soon as all tokens of a set-up are there, or the time is over.

    Args:
        setup: What charon is to do.
        environment: For the module.
        wait: Seconds.

    Raises:
        LookError: The module can't be asked.
    """
    deadline = time.monotonic() + wait
    while True:
        found = look(setup.module.path, environment, (), LOOK_TIMEOUT)
        there = {each.number for each in found} | {each.label for each in found}
        if all((each.slot if each.slot >= 0 else each.label) in there for each in setup.tokens.values()):
            return found
        if time.monotonic() >= deadline:
            return found
        time.sleep(PAUSE)


def facts_of(
    setup: Setup, charon: Charon | None, environment: Mapping[str, str], module_file: Path, *, login: bool = False
) -> Facts:
    """Look at the tokens and at this machine.

    Args:
        setup: What charon is to do.
        charon: charon.
        environment: For the module.
        module_file: Where libkeyway.so looks when it is told nothing.
        login: Whether PINs are tried, once each.
    """
    problems: dict[str, str] = {}
    pins = _pins(setup, problems)
    slots: tuple[SeenSlot, ...] = ()
    failure = ""
    try:
        slots = look(setup.module.path, environment, pins if login else (), LOOK_TIMEOUT)
    except LookError as error:
        failure = str(error)
    return Facts(
        slots=slots,
        failure=failure,
        charon=charon,
        has_own_file=module_file.is_file(),
        engines=engines(),
        pin_files=problems,
    )


def _pins(setup: Setup, problems: dict[str, str]) -> list[Pin]:
    """Return the PINs, and note what is wrong with files."""
    pins = []
    for name, token in setup.tokens.items():
        pin = token.pin
        if token.pin_file is not None:
            try:
                pin = read_pin(token.pin_file)
            except PinFileError as error:
                problems[name] = str(error)
        if pin:
            pins.append(Pin(token.slot, token.label, pin))
    return pins
