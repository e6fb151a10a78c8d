"""What all tests share: how Hypothesis runs, what is run first, and that programs can be interrupted."""

import signal

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow; that says nothing about the code.
settings.register_profile("keyway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("keyway")


# Who runs the tests in the background may have SIGINT ignored, which programs that the tests interrupt would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that none of them runs alone at the end when files run side by side."""
    items.sort(key=lambda item: item.path.parent.name != "fidelity")
