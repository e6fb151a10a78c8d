"""The module a suite is aimed at, and the fresh token it finds there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Target:
    """One Cryptoki module with one empty token, and a directory to work in.

    Attributes:
        module: Path of the shared object.
        label: Label of the token.
        pin: The user's PIN.
        so_pin: The security officer's PIN.
        workdir: An empty directory of the run's own.
    """

    module: Path
    label: str
    pin: str = field(repr=False)
    so_pin: str = field(repr=False)
    workdir: Path

    @property
    def posing(self) -> Path:
        """The module under the vendor's file name: some suites ask the name what to skip."""
        link = self.workdir / "posing" / "libsofthsm2.so"
        if not link.exists():
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(self.module)
        return link


def from_environment(module: Path, workdir: Path, environment: Mapping[str, str] = os.environ) -> Target:
    """The target that `keyway run` and `subjects.direct` describe in the environment."""
    return Target(
        module=module.resolve(),
        label=environment.get("KEYWAY_TOKEN", "keyway"),
        pin=environment.get("KEYWAY_PIN", "12345678"),
        so_pin=environment.get("KEYWAY_SO_PIN", "12345678"),
        workdir=workdir,
    )
