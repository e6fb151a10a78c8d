"""What all tests share: how Hypothesis runs."""

from hypothesis import HealthCheck, settings

# A busy machine is slow; that says nothing about the code.
settings.register_profile("keyway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("keyway")
