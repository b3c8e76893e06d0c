"""Conformance tests: the requirements on every backend, as a pytest suite for any backend.

Subclass `BackendUnderTest` to make the backend, return it from a fixture named `subject`, and subclass
`Conformance` to collect the tests::

    from lagent_llms.testing.conformance import Conformance, BackendUnderTest

    class MyBackend(BackendUnderTest):
        def make(self, asynchronous, **kwargs):
            return (AsyncMyLLM if asynchronous else MyLLM)("http://127.0.0.1:8000", **kwargs)

    @pytest.fixture(scope="session")
    def subject():
        return MyBackend()

    class TestMyLLM(Conformance):
        pass

``pytest -p lagent_llms.testing.conformance.table --promises FILE`` writes a table of the outcomes.
"""

import pytest

for _name in ("answers", "faults", "injection", "keeping", "processes", "requirement", "sessions", "streams"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from .answers import Answers, Batches, Parameters  # noqa: E402  (after the registration above)
from .backend import BackendUnderTest  # noqa: E402
from .calling import Caller  # noqa: E402
from .faults import Faults  # noqa: E402
from .injection import Injection  # noqa: E402
from .keeping import Keeping  # noqa: E402
from .processes import Processes  # noqa: E402
from .requirement import ConformanceTests, requirement  # noqa: E402
from .sessions import Sessions  # noqa: E402
from .streams import StopWords, Streams  # noqa: E402

__all__ = [
    "Answers",
    "BackendUnderTest",
    "Batches",
    "Caller",
    "Conformance",
    "ConformanceTests",
    "Faults",
    "Injection",
    "Keeping",
    "Parameters",
    "Processes",
    "Sessions",
    "StopWords",
    "Streams",
    "requirement",
]


class Conformance(
    Answers, Parameters, Batches, Streams, StopWords, Sessions, Injection, Keeping, Faults, Processes
):
    """All conformance tests. Subclass it in a test file that has a fixture `subject`."""


_FORMER_NAMES = {"Promises": ConformanceTests, "Subject": BackendUnderTest, "promise": requirement}


def __getattr__(name: str) -> object:
    if name in _FORMER_NAMES:
        return _FORMER_NAMES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
