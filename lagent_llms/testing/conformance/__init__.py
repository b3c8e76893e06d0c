"""The promises every backend keeps, as a test suite to run against any backend (needs pytest).

A `Subject` says how to make the backend, a fixture `subject` gives it, a subclass of `Conformance` is the
suite::

    from lagent_llms.testing.conformance import Conformance, Subject

    class MySubject(Subject):
        def make(self, asynchronous, **kwargs):
            return (AsyncMyLLM if asynchronous else MyLLM)("http://127.0.0.1:8000", **kwargs)

    @pytest.fixture(scope="session")
    def subject():
        return MySubject()

    class TestMyLLM(Conformance):
        pass

``pytest -p lagent_llms.testing.conformance.table --promises FILE`` writes the table of promises.
"""

import pytest

for _name in ("answers", "promise", "sessions", "streams"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from .answers import Answers, Batches, Parameters  # noqa: E402  (rewritten from here on)
from .calling import Caller  # noqa: E402
from .promise import Promises, promise  # noqa: E402
from .sessions import Sessions  # noqa: E402
from .streams import StopWords, Streams  # noqa: E402
from .subject import Subject  # noqa: E402

__all__ = [
    "Answers",
    "Batches",
    "Caller",
    "Conformance",
    "Parameters",
    "Promises",
    "Sessions",
    "StopWords",
    "Streams",
    "Subject",
    "promise",
]


class Conformance(Answers, Parameters, Batches, Streams, StopWords, Sessions):
    """All promises. Subclass it in a test file with a fixture `subject`."""
