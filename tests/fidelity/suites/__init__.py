"""One module per suite: `run(target)` runs it and says how every test ended."""

from __future__ import annotations

from collections.abc import Callable

from tests.fidelity.outcomes import Outcome
from tests.fidelity.suites import abi, gnutls, java, nss, openssl, p11test, pkcs11_tool, pykcs11, python_pkcs11, ssh
from tests.fidelity.target import Target

SUITES: dict[str, Callable[[Target], dict[str, Outcome]]] = {
    "abi": abi.run,
    "python-pkcs11": python_pkcs11.run,
    "pykcs11": pykcs11.run,
    "pkcs11-tool": pkcs11_tool.run,
    "java": java.run,
    "nss": nss.run,
    "gnutls": gnutls.run,
    "ssh": ssh.run,
    "openssl": openssl.run,
    "p11test": p11test.run,
    "checks": abi.run_checks,
}
"""All suites by name. "checks" is none to compare: it asks for what SoftHSM does not have."""

COMPARED: tuple[str, ...] = tuple(name for name in SUITES if name != "checks")
