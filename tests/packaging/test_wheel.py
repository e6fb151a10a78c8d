"""One wheel holds the Python package and both native programs, for any Python 3 of the platform."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)


def test_contents(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        host = archive.getinfo("keyway/_native/keyway-host")
        assert archive.read("keyway/_native/libkeyway.so").startswith(b"\x7fELF")
    sources = {
        str(path.relative_to(root / "src")) for path in (root / "src").rglob("*") if path.suffix in {".py", ".typed"}
    }
    assert sources <= names
    assert host.external_attr >> 16 & 0o111, "keyway-host is not executable"
    strangers = {name for name in names if not name.startswith("keyway/") and ".dist-info/" not in name}
    assert not strangers
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_tag(wheel: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")


def test_installed_command_names_its_own_module(installed: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        [str(installed / "keyway"), "module"], capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/site-packages/keyway/_native/libkeyway.so")
    assert str(installed.parent) in done.stdout


def test_installed_gateway_serves_a_token(installed: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    listing = ["sh", "-c", 'pkcs11-tool --module "$KEYWAY_MODULE" --list-token-slots']
    done = subprocess.run(
        [str(installed / "keyway"), "run", "--token", "from-the-wheel", "--", *listing],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert "from-the-wheel" in done.stdout
