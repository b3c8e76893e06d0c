"""The backends the contract is tested on, each with its real peer and the embedded model under it."""

import pytest

from lagent_llms import AsyncJAXPipeline, JAXPipeline
from lagent_llms.backends.jax import EMBEDDED_MODEL
from lagent_llms.jax_engine import Engine

from .calling import Caller

GREEDY = {"temperature": 0, "max_new_tokens": 64}


@pytest.fixture(scope="session")
def engine():
    with Engine.load(EMBEDDED_MODEL, max_slots=8) as engine:
        yield engine


class JAX:
    """Makes pipelines on one shared engine, and looks into it."""

    def __init__(self, engine):
        self._engine = engine

    def make(self, asynchronous, **kwargs):
        cls = AsyncJAXPipeline if asynchronous else JAXPipeline
        return cls(engine=self._engine, **{**GREEDY, **kwargs})

    def running(self):
        """How many generations are going on at the peer."""
        stats = self._engine.stats()
        return stats.slots_in_use + stats.waiting


@pytest.fixture(scope="session", params=["JAXPipeline"])
def backend(request):
    return {"JAXPipeline": lambda: JAX(request.getfixturevalue("engine"))}[request.param]()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def make(request, backend):
    """Makes callers of the backend; closes them in the end."""
    made = []

    def make(**kwargs):
        made.append(Caller(backend.make(request.param, **kwargs)))
        return made[-1]

    yield make
    for caller in made:
        caller.close()
