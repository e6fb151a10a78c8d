"""`keyway audit verify`: whether an audit log is as it was written."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from keyway.observe.audit import Findings, Verifier, read_header
from keyway.observe.audit.chain import MAX_LINE

__all__ = ["audit"]

_START: Final = b'{"seq":'


@click.group()
def audit() -> None:
    """Look at audit logs."""


@audit.command()
@click.option(
    "--key",
    "key_file",
    metavar="PUBLIC.pem",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Check the signatures of checkpoints with this public key.",
)
@click.option(
    "--expect",
    "expected",
    metavar="HASH",
    multiple=True,
    help="A line must have this hash, which was noted elsewhere: tells whether the end was cut off. May be repeated.",
)
@click.option(
    "--stream",
    is_flag=True,
    help="The files hold lines that came from syslog or standard output: in the order in which they are given, with a new chain at each start of the daemon.",
)
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def verify(key_file: Path | None, expected: tuple[str, ...], stream: bool, paths: tuple[Path, ...]) -> None:
    """Find lines that were changed, removed, inserted or moved in the files of an audit log, or in directories with nothing else.

    Files are taken in the order of their lines, whatever they are called. The exit status is 0 if there are lines, and nothing is wrong.
    """
    check = None
    if key_file is not None:
        from keyway.observe.audit.keys import check_with

        try:
            check = check_with(key_file.read_bytes())
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{key_file}: {error}") from error
    verifier = Verifier(check, [each.lower() for each in expected], begins_anew=stream)
    try:
        for path in paths if stream else _in_order(paths):
            verifier.file(str(path), needs_header=not stream)
            for line in _lines(path):
                # Syslog puts something before each line.
                verifier.line(line[max(0, line.find(_START)) :] if stream else line)
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror}") from error
    findings = verifier.end()
    for found in findings.found:
        place = f"{found.file}:{found.line}" if found.line else "log"
        click.echo(f"{place}: {found.what}")
    click.echo(_summary(findings, has_key=check is not None))
    sys.exit(not (findings.is_good and findings.lines))


def _in_order(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        files += sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    return sorted(dict.fromkeys(files), key=_start)


def _start(path: Path) -> int:
    """Return the number of the line before a file's first one; a file that does not say so comes first."""
    found = read_header(next(_lines(path), b""))
    return found[0] if found is not None else -1


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        # What is longer is no line, and might not fit into memory.
        yield from iter(lambda: file.readline(MAX_LINE), b"")


def _summary(findings: Findings, *, has_key: bool) -> str:
    if not findings.lines:
        return "no lines"
    count = len(findings.found) + findings.more
    where = f"lines {findings.first} to {findings.last}"
    if findings.chains > 1:
        where = f"{findings.lines} lines in {findings.chains} chains"
    parts = [
        f"{where}: {'good' if not count else f'{count} finding' + 's' * (count > 1)}",
        f"last hash {findings.head}",
        f"{findings.checkpoints} checkpoint{'s' * (findings.checkpoints != 1)}",
    ]
    if has_key:
        sealed = ", by the last line" if findings.is_sealed else ""
        parts.append(f"signed up to line {findings.signed_to}{sealed}" if findings.signed_to else "not signed")
    else:
        parts.append("signatures not checked: no --key")
    return "; ".join(parts)
