"""What the README and the guides tell people to type exists."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = re.compile(r"^```(?:sh|console|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
GROUPS = {"audit", "cert", "csr", "key", "policy", "pool", "strongswan", "token"}
"""Commands that have commands of their own."""
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]+)[^)]*\)")


def pages(root: Path) -> list[Path]:
    return [root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").rglob("*.md"))]


def commands(root: Path, program: str) -> Iterator[list[str]]:
    """Every use of a program in the shell blocks of the pages, split into words."""
    use = re.compile(rf"(?:^|\$ |sudo |\$\()({program} [^)#]*)")
    for page in pages(root):
        for block in BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                yield from (found.split() for found in use.findall(line))


def test_make_targets_exist(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    targets = {words[1] for words in commands(root, "make")}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"no such target: make {target}"


def test_keyway_commands_and_their_options_exist(root: Path, keyway: Path) -> None:
    used: dict[tuple[str, ...], set[str]] = {}
    for words in commands(root, "keyway"):
        own = words[: words.index("--")] if "--" in words else words
        command = tuple(own[1:3] if own[1] in GROUPS else own[1:2])
        used.setdefault(command, set()).update(word.split("=")[0] for word in own[2:] if word.startswith("-"))
    assert {("run",), ("serve",), ("check",), ("module",)} <= used.keys()
    for command, options in used.items():
        if command[0].startswith("-"):
            continue
        done = subprocess.run([str(keyway), *command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"no such command: keyway {' '.join(command)}"
        for option in options:
            assert re.search(rf"(^|[\s,]){re.escape(option)}\b", done.stdout), f"keyway {command} has no {option}"


def test_links_lead_somewhere(root: Path) -> None:
    broken = [
        f"{page.relative_to(root)}: {target}"
        for page in pages(root)
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


@pytest.mark.parametrize("word", ["/root/", "/home/"])
def test_pages_know_no_particular_machine(root: Path, word: str) -> None:
    assert not [str(page) for page in pages(root) if word in page.read_text()]
