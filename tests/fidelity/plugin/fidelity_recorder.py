"""A pytest plugin that writes each outcome down at once, so that a crash leaves all that came before it."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

RECORD = Path(os.environ["FIDELITY_RECORD"])


def _write(*row: str) -> None:
    with RECORD.open("a", encoding="utf-8") as record:
        record.write(json.dumps(row) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    _write(nodeid, "start", "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        _write(item.nodeid, "skip", reason)
    elif report.failed:
        kind = call.excinfo.typename if call.excinfo else "unexpected success"
        _write(item.nodeid, "fail" if report.when == "call" else "error", kind)
    elif report.when == "call":
        _write(item.nodeid, "pass", "")
    return report
