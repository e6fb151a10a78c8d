"""libkeyway.so is loaded into other people's processes: it brings nothing and shows three symbols."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = {"libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
"""The C library and the unwinder: in every process already, or harmless there."""

ENTRY_POINTS = {"C_GetFunctionList", "C_GetInterface", "C_GetInterfaceList"}


@pytest.fixture(params=["libkeyway.so", "keyway-host"])
def native(request: pytest.FixtureRequest, root: Path) -> Path:
    path: Path = root / "target" / "release" / request.param
    assert path.exists(), "make build first"
    return path


def test_links_against_the_system_only(native: Path) -> None:
    dynamic = tool("readelf", "--dynamic", "--wide", str(native))
    needed = set(re.findall(r"\(NEEDED\).*\[(.+?)\]", dynamic))
    assert "libc.so.6" in needed, "readelf was not understood"
    assert needed <= SYSTEM


def test_exports_the_three_entry_points_only(root: Path) -> None:
    library = root / "target" / "release" / "libkeyway.so"
    symbols = tool("nm", "--dynamic", "--defined-only", "--format=posix", str(library))
    assert {line.split()[0] for line in symbols.splitlines()} == ENTRY_POINTS


def test_has_no_run_path_and_no_executable_stack(native: Path) -> None:
    dynamic = tool("readelf", "--dynamic", "--wide", str(native))
    assert not re.search(r"\((RPATH|RUNPATH|TEXTREL)\)", dynamic)
    headers = tool("readelf", "--program-headers", "--wide", str(native))
    assert re.search(r"GNU_STACK\s.*\sRW\s", headers), "the stack is executable"
    assert "GNU_RELRO" in headers


def tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
