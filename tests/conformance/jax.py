"""JAXPipeline for the conformance tests: pipelines on one shared engine."""

from contextlib import contextmanager

from lagent_llms import AsyncJAXPipeline, JAXPipeline
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.jax_engine import Engine
from lagent_llms.testing.conformance import BackendUnderTest


class Pipeline(BackendUnderTest):
    """Creates pipelines on one engine; `running` reads the state of the engine."""

    def __init__(self, engine):
        self._engine = engine

    config = {"type": "JAXPipeline"}

    def make(self, asynchronous, **kwargs):
        return (AsyncJAXPipeline if asynchronous else JAXPipeline)(engine=self._engine, **kwargs)

    def running(self):
        stats = self._engine.stats()
        return stats.slots_in_use + stats.waiting


@contextmanager
def pipeline():
    with Engine.load(EMBEDDED_MODEL, max_slots=8) as engine:
        yield Pipeline(engine)
