"""What holds for all tests."""

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # an environment of a peer's
    pass
else:  # a machine that is busy for a moment is no fault of ours
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
