"""Every backend passes the conformance tests."""

from lagent_llms.testing.conformance import Conformance


class TestPromises(Conformance):
    """The suite, on the backends of conftest.py."""
