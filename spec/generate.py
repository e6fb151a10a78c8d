"""Writes what is derived from spec/*.toml: `python3 spec/generate.py` writes, `--check` only tells what is stale.

Each module spec/emit_*.py has a function `emit(spec) -> {path from the top of the repository: text}`.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import layout
import model

FOLDER = Path(__file__).resolve().parent
TOP = FOLDER.parent

Emitter = Callable[[model.Spec], dict[str, str]]


def emitters() -> list[Emitter]:
    """The `emit` functions of all modules spec/emit_*.py, in the order of their names."""
    names = sorted(path.stem for path in FOLDER.glob("emit_*.py"))
    return [cast(Emitter, importlib.import_module(name).emit) for name in names]


def rustfmt(path: str, text: str) -> str:
    """`text` as rustfmt lays it out.

    Raises:
        SystemExit: it is not valid Rust; the message has the place.
    """
    command = ["rustfmt", "--edition", "2021", "--emit", "stdout", "--quiet"]
    # rustfmt looks for its configuration in the working directory.
    done = subprocess.run(command, cwd=TOP, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{path}: {done.stderr}")
    return done.stdout


def generate(spec: model.Spec) -> dict[str, str]:
    """All generated files, path to text."""
    files: dict[str, str] = {}
    for emit in emitters():
        for path, text in emit(spec).items():
            files[path] = rustfmt(path, text) if path.endswith(".rs") else text
    return files


def stale(files: dict[str, str]) -> list[str]:
    """The paths whose text on disk differs from `files`."""
    return [path for path, text in files.items() if not (TOP / path).is_file() or (TOP / path).read_text() != text]


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    check: bool = parser.parse_args().check
    spec = model.load(FOLDER)
    layout.check(spec)
    files = generate(spec)
    paths = stale(files)
    for path in paths:
        print(f"{'stale' if check else 'written'}: {path}")
        if not check:
            (TOP / path).parent.mkdir(parents=True, exist_ok=True)
            (TOP / path).write_text(files[path])
    return 1 if check and paths else 0


if __name__ == "__main__":
    sys.exit(main())
