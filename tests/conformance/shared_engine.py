"""An engine in this process for all objects of a test run."""


class SharedEngine:
    """A shared engine, which no single pipeline closes."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def close(self):
        pass
