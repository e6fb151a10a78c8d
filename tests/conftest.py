"""What all tests share: how Hypothesis runs."""

import signal

from hypothesis import HealthCheck, settings

# A busy machine is slow; that says nothing about the code.
settings.register_profile("keyway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("keyway")


# Who runs the tests in the background may have SIGINT ignored, which programs that the tests interrupt would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
