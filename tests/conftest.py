"""Settings for all tests: hypothesis without deadlines, one cache of compiled graphs, grouping for xdist."""

import gc
import os
import re
import sys
from pathlib import Path

import pytest

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # the environment of a peer has no hypothesis
    pass
else:  # a busy machine must not fail a test
    settings.register_profile("no_deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("no_deadline")


BACKEND = re.compile(
    r"^tests/conformance/.*\[.*?\b(JAX\w+|HF\w+|LMDeployPipeline-\w+|LMDeploy\w+|LoRAX|TritonClient-\w+|OpenAIClient-[\w.]+)"
)
#: Folders whose files share servers: on one worker these start once. They come before files of other folders.
FOLDER = re.compile(r"^tests/integration/(?:lmdeploy|lorax|triton)(?=/)")
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "xla"


def pytest_configure():
    """Share the graphs that JAX compiles among processes and with later runs; give each process one thread.

    The models are small, and threads that wait for each other on busy cores took 2.7 times the CPU time.
    """
    os.environ.setdefault("NPROC", "1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import the tests, and jax and torch with them, without garbage collections: they took 40 % of it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Begin with the largest groups, so that no worker has one left when the others are done."""
    items.sort(key=lambda item: 0 if BACKEND.search(item.nodeid) else 1 if FOLDER.search(item.nodeid) else 2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Say in the report of a failed test which child servers have ended, how, and what they logged last."""
    report = yield
    process = sys.modules.get("lagent_llms.child.process")
    if report.failed and process is not None:
        for child in list(process._children):
            if ended := child.ended():
                report.sections.append((f"the child server {child.pid} {ended}", child.log_tail))
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep tests that share servers and engines on one worker: groups by backend or folder, else by file."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):  # pytest 9.2 ignores the group names of xdist 3.8
            if backend := BACKEND.search(nodeid):
                return backend[1]
            folder = FOLDER.search(nodeid)
            return folder[0] if folder else nodeid.partition("::")[0]

    return Groups(config, log)
