"""The kept counts, printed at the end of the run."""

from __future__ import annotations

import pytest

PROPERTY = "fidelity"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per suite, whether it passed or not."""
    lines = [
        str(value)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == PROPERTY and report.when == "call"
    ]
    if lines:
        terminalreporter.section("fidelity: kept outcomes, Keyway beside the vendor module", sep="-")
        for line in lines:
            terminalreporter.line(line)
