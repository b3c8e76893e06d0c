"""The backends the contract is tested on, each with its real peer and the embedded model under it.

LMDeployPipeline is tested where lmdeploy is installed (``.venv-lmdeploy``), all others where it is not.
"""

import importlib.util

import pytest

from lagent_llms import AsyncJAXPipeline, JAXPipeline
from lagent_llms.backends.jax import EMBEDDED_MODEL
from lagent_llms.jax_engine import Engine
from tests import lmdeploy_peer

from . import jax_server, lmdeploy
from .calling import Caller

GREEDY = {"temperature": 0, "max_new_tokens": 64}


@pytest.fixture(scope="session")
def engine():
    with Engine.load(EMBEDDED_MODEL, max_slots=8) as engine:
        yield engine


class JAX:
    """Makes pipelines on one shared engine, and looks into it."""

    for_logprobs = {}

    def __init__(self, engine):
        self._engine = engine

    def make(self, asynchronous, **kwargs):
        cls = AsyncJAXPipeline if asynchronous else JAXPipeline
        return cls(engine=self._engine, **{**GREEDY, **kwargs})

    def running(self):
        """How many generations are going on at the peer."""
        stats = self._engine.stats()
        return stats.slots_in_use + stats.waiting


@pytest.fixture(scope="session")
def api_server():
    with lmdeploy_peer.api_server() as peer:
        yield peer


@pytest.fixture(scope="session")
def lmdeploy_server():
    server = lmdeploy.Server()
    yield server
    server.first.close()


@pytest.fixture(scope="session")
def lmdeploy_turbomind():
    pipeline = lmdeploy.Pipeline("turbomind")
    yield pipeline
    pipeline.first.close()


@pytest.fixture(scope="session")
def lmdeploy_pytorch():
    pipeline = lmdeploy.Pipeline("pytorch")
    yield pipeline
    pipeline.first.close()


@pytest.fixture(scope="session")
def jax_client(engine):
    client = jax_server.Client(engine)
    yield client
    client.server.end()


HERE = {
    "JAXPipeline": lambda request: JAX(request.getfixturevalue("engine")),
    "JAXClient": lambda request: request.getfixturevalue("jax_client"),
    "LMDeployClient": lambda request: lmdeploy.Client(request.getfixturevalue("api_server")),
    "LMDeployServer": lambda request: request.getfixturevalue("lmdeploy_server"),
}
IN_PROCESS = {
    f"LMDeployPipeline-{engine}": lambda request, engine=engine: request.getfixturevalue(f"lmdeploy_{engine}")
    for engine in ("turbomind", "pytorch")
}
BACKENDS = HERE if importlib.util.find_spec("lmdeploy") is None else IN_PROCESS


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request):
    return BACKENDS[request.param](request)


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
