"""Which suites a test is run for, and the kept counts, printed at the end of the run."""

from __future__ import annotations

import pytest
from tests.fidelity.verdicts import PROPERTY, OfSuites


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is asked of suites for each of them."""
    if metafunc.cls is not None and issubclass(metafunc.cls, OfSuites):
        metafunc.parametrize("suite", metafunc.cls.suites)


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
