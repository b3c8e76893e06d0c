"""Fixtures: a shared tritonserver with every model of the peer, and a separate one that a test may kill."""

import pytest

from lagent_llms import AsyncTritonClient, JAXPipeline, TritonClient
from lagent_llms.testing.conformance import Caller
from tests import triton_peer


@pytest.fixture(scope="package")
def peer():
    with triton_peer.served() as peer:
        yield peer


@pytest.fixture
def killable_server():
    """A server that a test may kill."""
    with triton_peer.served(["trtllm-scripted"]) as peer:
        yield peer


@pytest.fixture(scope="package")
def jax():
    """The in-process engine, whose answers are the expected answers of the embedded model."""
    with JAXPipeline(temperature=0, max_new_tokens=64) as llm:
        yield llm


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def make(request):
    """Factory of callers of a synchronous or asynchronous client; closes them after the test."""
    made = []

    def make(address, model=None, **kwargs):
        cls = AsyncTritonClient if request.param else TritonClient
        made.append(Caller(cls(address, model, **{"temperature": 0, "max_new_tokens": 64, **kwargs})))
        return made[-1]

    yield make
    for caller in made:
        caller.close()


@pytest.fixture
def events(peer):
    """Function that returns the events recorded by the models of `peer` since the test began."""
    before = {event["id"] for event in peer.events()}

    def since(kind=None):
        return [event for event in peer.events(kind) if event["id"] not in before]

    return since
