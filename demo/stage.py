"""How the demonstration talks: numbered steps, the commands as typed, their result, one tick each."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Stage", "StepError"]


class StepError(Exception):
    """A step did not show what it should have shown."""


class Stage:
    """Prints the steps and runs their programs."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._step = 0

    def title(self, text: str) -> None:
        """Print a heading."""
        print(f"\n{self._paint('1', text)}")

    def step(self, text: str) -> None:
        """Begin the next step: one line that says what it is about to show."""
        self._step += 1
        print(f"\n{self._paint('1;36', str(self._step))}  {self._paint('1', text)}")

    def say(self, text: str) -> None:
        """Print an explaining line."""
        print(f"   {text}")

    def ok(self, text: str) -> None:
        """Print what has been shown."""
        print(f"   {self._paint('32', 'ok')} {text}")

    def fail(self, text: str) -> None:
        """Print why the demonstration ends here."""
        print(f"   {self._paint('1;31', 'FAILED')} {text}")

    def run(
        self, command: Sequence[str], *, common: Sequence[str] = (), show: Sequence[str] = (), expect: int = 0
    ) -> str:
        """Run a program and print it as one would type it.

        Args:
            command: the program and its arguments; `$NAME` stands for that environment variable.
            common: further arguments, the same each time and so not printed.
            show: for each of these words print the first line of output that contains it.
            expect: the exit status that makes this step a success.

        Returns:
            What the program wrote, both streams together.

        Raises:
            StepError: the program ended with another status.
        """
        print(self._paint("2", f"   $ {' '.join(word if '$' in word else shlex.quote(word) for word in command)}"))
        done = subprocess.run(
            [os.path.expandvars(word) for word in (*command, *common)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != expect:
            raise StepError(f"{command[0]} ended with status {done.returncode}:\n{done.stdout}")
        lines = done.stdout.splitlines()
        for word in show:
            self.say(next((f"  {line.strip()}" for line in lines if word in line), f"  (no {word})"))
        return done.stdout

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour else text
