"""Build hook of the wheel: compile the two native programs and ship them inside the package.

An editable install skips this. The code then finds `target/release` beside the source tree, which
`make build` keeps fresh.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = ("libkeyway.so", "keyway-host")
"""What cargo leaves in `target/release` and the wheel holds under `keyway/_native/`."""


class NativeBuildHook(BuildHookInterface[Any]):
    """Runs cargo and adds its two products to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling what to include and how to tag the wheel.

        Args:
            version: "standard" for a real wheel, "editable" for `pip install -e`.
            build_data: hatchling's instructions for this build; changed in place.

        Raises:
            RuntimeError: cargo is not installed, or the compilation failed.
        """
        if version == "editable":
            return
        release = _compile(Path(self.root))
        for name in NATIVE:
            build_data["force_include"][str(release / name)] = f"keyway/_native/{name}"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        # Any Python 3 will do: nothing here links against the interpreter.
        build_data["tag"] = f"py3-none-{platform}"


def _compile(root: Path) -> Path:
    """Run the release build and return the directory of its products."""
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo/bin"))
    if cargo is None:
        raise RuntimeError("keyway needs a Rust toolchain to build (https://rustup.rs): no cargo found")
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve()
    command = [cargo, "build", "--release", "--locked", "-p", "keyway-module", "-p", "keyway-host"]
    if subprocess.run(command, cwd=root, check=False).returncode != 0:
        raise RuntimeError("cargo build failed; its messages are above")
    return target / "release"
