"""A suite that is a list of commands: each must end as it does directly, and say the same.

What a program prints is compared too, once everything is taken out that differs between two equal runs: handles,
serials, slot ids, key material, paths.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.fidelity.outcomes import Outcome, Status

COMMAND_SECONDS = 30
SHOWN = 600

_VOLATILE = (
    (re.compile(r"\b0x[0-9a-fA-F]{3,}\b"), "0x#"),
    (re.compile(r"(?i)\b(serial(?: num(?:ber)?)?)(\s*[:=]\s*)[0-9a-fA-F:]+"), r"\1\2#"),
    (re.compile(r"(?i)\b(?:[0-9a-f]{2}[:\s-]){7,}[0-9a-f]{2}\b"), "#"),
    (re.compile(r"(?i)\b[0-9a-f]{16,}\b"), "#"),
    (re.compile(r"(?i)(?:%[0-9a-f]{2}){2,}"), "%#"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?\S*"), "DATE"),
    (re.compile(r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}\b"), "DATE"),
    (re.compile(r"(?i)\b(data object) \d+"), r"\1 #"),
    (re.compile(r"\s+"), " "),
)
_HEXADECIMAL = re.compile(r"[0-9a-fA-F#]*")


def normalised(text: str, names: Iterable[tuple[str, str]] = ()) -> str:
    """A text without what may differ between two equal runs.

    Args:
        text: What a program printed.
        names: Words to replace first, such as paths, each with what takes its place.
    """
    for word, placeholder in names:
        text = text.replace(word, placeholder)
    for pattern, placeholder in _VOLATILE:
        text = pattern.sub(placeholder, text)
    text = text.strip()
    return _shortened(text)


def unordered(text: str, names: Iterable[tuple[str, str]] = ()) -> str:
    """The same for a listing whose entries come in any order, such as the objects of a token.

    Lines of nothing but hexadecimal digits go: the rest of a value that was too long for one line.
    """
    lines = (normalised(line, names) for line in text.splitlines())
    return _shortened("; ".join(sorted(line for line in lines if not _HEXADECIMAL.fullmatch(line))))


def _shortened(text: str) -> str:
    if len(text) > SHOWN:
        rest = hashlib.sha256(text[SHOWN:].encode()).hexdigest()[:12]
        text = f"{text[:SHOWN]}... ({len(text)} characters, rest {rest})"
    return text


def anything(text: str, names: Iterable[tuple[str, str]] = ()) -> str:
    """Takes no notice of what is printed, being random."""
    return ""


Prints = Callable[[str, Iterable[tuple[str, str]]], str]


class Script:
    """Runs commands one after the other and keeps their outcomes.

    Attributes:
        directory: Where the commands run and their files lie.
        outcomes: What came of every command so far.
    """

    def __init__(self, directory: Path, names: Iterable[tuple[str, str]], **environment: str) -> None:
        self.directory = directory
        self.outcomes: dict[str, Outcome] = {}
        self._names = [*names, (str(directory), "DIR")]
        self._environment: Mapping[str, str] = {**os.environ, "LC_ALL": "C.UTF-8", **environment}

    def path(self, name: str, content: bytes | None = None) -> str:
        """The full path of a file in the directory, written first if a content is given."""
        path = self.directory / name
        if content is not None:
            path.write_bytes(content)
        return str(path)

    def check(self, test: str, *argv: str, fails: bool = False, prints: Prints = normalised, produces: str = "") -> str:
        """Runs one command.

        Args:
            test: The name of the check, unique in the suite.
            argv: The command.
            fails: The command is meant to fail.
            prints: How what it prints enters the comparison.
            produces: A file whose length belongs to the outcome.

        Returns:
            What the command printed.
        """
        if produces:
            (self.directory / produces).unlink(missing_ok=True)
        try:
            done = subprocess.run(
                argv,
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.record(test, Outcome(Status.ERROR, "timeout"))
            return ""
        detail = [f"exit {done.returncode}"]
        if produces:
            path = self.directory / produces
            detail.append(f"{path.stat().st_size} bytes" if path.exists() else "no file")
        # Apart: in one pipe the two would cut each other's lines anywhere.
        detail += [prints(done.stdout, self._names), prints(done.stderr, self._names)]
        if done.returncode < 0:
            outcome = Outcome(Status.CRASH, detail[0])
        else:
            outcome = Outcome(
                Status.PASS if (done.returncode != 0) is fails else Status.FAIL, " ".join(filter(None, detail))
            )
        self.record(test, outcome)
        return done.stdout

    def same(self, test: str, left: str, right: str) -> None:
        """Checks that two files are there and equal."""
        files = [self.directory / left, self.directory / right]
        equal = all(file.exists() for file in files) and files[0].read_bytes() == files[1].read_bytes()
        self.record(test, Outcome(Status.PASS if equal else Status.FAIL))

    def record(self, test: str, outcome: Outcome) -> None:
        """Keeps an outcome that was come by otherwise."""
        if test in self.outcomes:
            raise ValueError(f"two checks are named {test}")
        self.outcomes[test] = outcome
