"""The test suite of PyKCS11."""

from __future__ import annotations

import subprocess

from tests.fidelity.outcomes import Outcome
from tests.fidelity.suites import python_suite
from tests.fidelity.target import Target

DISTRIBUTION = python_suite.Distribution(
    name="PyKCS11",
    version="1.5.20",
    sha256="1f7a7c8164fac636382aa7b0d70279ad5581379748fc17a20bc0be8fe574c259",
    folder="test",
)


USER_PIN, SO_PIN = "1234", "123456"  # written into the suite


def _change_pins(target: Target) -> None:
    tool = ["pkcs11-tool", "--module", str(target.module), "--token-label", target.label, "--login", "--change-pin"]
    for who, old, new in (("so", target.so_pin, SO_PIN), ("user", target.pin, USER_PIN)):
        pin = "--so-pin" if who == "so" else "--pin"
        command = [*tool, "--login-type", who, pin, old, "--new-pin", new]
        subprocess.run(command, check=False, timeout=60)


def run(target: Target) -> dict[str, Outcome]:
    """Every test of the suite, after the token was given the PINs that it wants."""
    _change_pins(target)
    home = python_suite.unpacked(DISTRIBUTION)
    environment = {"PYKCS11LIB": str(target.posing)}
    return python_suite.run(home, DISTRIBUTION.folder, environment, target.workdir)
