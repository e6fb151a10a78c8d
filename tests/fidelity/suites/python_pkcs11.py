"""The test suite of python-pkcs11."""

from __future__ import annotations

from tests.fidelity.outcomes import Outcome
from tests.fidelity.suites import python_suite
from tests.fidelity.target import Target

DISTRIBUTION = python_suite.Distribution(
    name="python-pkcs11",
    version="0.10.1",
    sha256="e0d7ccede3b3145a678d7c8c59b3c64dcebeb77c9146ad3394a4b1309c4ab2a2",
    folder="tests",
)


def run(target: Target) -> dict[str, Outcome]:
    """Every test of the suite. It asks the module's file name which tests SoftHSM is to be spared."""
    environment = {
        "PKCS11_MODULE": str(target.posing),
        "PKCS11_TOKEN_LABEL": target.label,
        "PKCS11_TOKEN_PIN": target.pin,
        "PKCS11_TOKEN_SO_PIN": target.so_pin,
    }
    home = python_suite.unpacked(DISTRIBUTION)
    return python_suite.run(home, DISTRIBUTION.folder, environment, target.workdir)
