"""What policy and audit cost: the same signatures through a daemon without, with identities and roles, and with the audit log as well."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from failover import Outcome
from measure import Figure, samples_in_turn
from pools import pooled
from subjects import PLAIN, Environment

__all__ = ["AUDITED", "GUARDED", "HOSTED", "hosted"]

HOSTED: Final = "hosted p256-sign x8"
GUARDED: Final = "with policy, of without"
AUDITED: Final = "with policy and audit, of without"
"""Names of quantities."""

ROUNDS: Final = 31
SECONDS: Final = 0.4
"""Short and many: a sample may be a quarter faster than the next one of the same daemon, as its threads come to be placed."""
_FIGURE: Final = Figure(HOSTED, "p256-sign", threads=8)

_POLICY: Final = """\
[identity.bench]
listener = [""]
roles = ["signer"]
[role.signer]
tokens = ["pkcs11:"]
objects = [{label = "*"}]
mechanisms = ["ECDSA", "RSA", "SHA-2"]
functions = ["find", "sign", "verify"]
"""
_AUDIT: Final = """\
[audit]
file = "{directory}/audit.log"
"""


def hosted(environment: Environment, directory: Path, load: Path) -> Outcome:
    """Sign in turn at three daemons over copies of the same token.

    Args:
        environment: Token and modules.
        directory: Where the daemons' files go.
        load: The compiled load generator.

    Raises:
        RuntimeError: A daemon does not come up, or a signature failed.
    """
    ways: Mapping[str, str] = {"": "", GUARDED: _POLICY, AUDITED: _POLICY + _AUDIT.format(directory=directory)}
    with ExitStack() as stack:
        subjects = {
            name: stack.enter_context(pooled(PLAIN, environment, directory, more=more)).subject
            for name, more in ways.items()
        }
        taken = samples_in_turn(_FIGURE, subjects, environment, load, ROUNDS, SECONDS)
    rates = {name: [each.rate for each in samples] for name, samples in taken.items()}
    plain = sum(rates[""])
    # Of all rounds together: a median of the rounds' own ratios keeps the spread of two samples each.
    ratios = {name: sum(rates[name]) / plain for name in (GUARDED, AUDITED)}
    told = ", ".join(f"{name}: {ratio:.3f}" for name, ratio in ratios.items())
    spread = ", ".join(f"{min(each):,.0f}-{max(each):,.0f}/s" for each in rates.values())
    return Outcome(None, ratios, f"{median(rates['']):,.0f}/s; {told}; {spread}")
