"""What holds for all tests: patience, one cache of compiled graphs, and how two workers share them."""

import os
from pathlib import Path

import pytest

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # an environment of a peer
    pass
else:  # a machine that is busy for a moment is not the fault of the code
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


CACHE = Path(__file__).parents[1] / ".pytest_cache" / "xla"


def pytest_configure():
    """Let all processes of a run, and later runs, share the graphs that JAX compiles."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Keep tests that share servers and engines on one worker: those of a backend, and those of a file."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            backend = getattr(item, "callspec", None) and item.callspec.params.get("subject")
            item.add_marker(pytest.mark.xdist_group(backend or item.nodeid.partition("::")[0]))
