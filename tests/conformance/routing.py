"""FallbackLLM and RouterLLM for the conformance tests: clients of one server, and one of a dead server."""

from contextlib import contextmanager

from lagent_llms import AsyncFallbackLLM, AsyncRouterLLM, FallbackLLM, RouterLLM
from lagent_llms.testing.conformance import BackendUnderTest
from tests import openai_peers
from tests.scripted_server import free_port

KINDS = {"fallback": (FallbackLLM, AsyncFallbackLLM), "router": (RouterLLM, AsyncRouterLLM)}


class Members(BackendUnderTest):
    """Makes objects of one kind.

    Args:
        kind: A key of `KINDS`.
        url: The server.
        running: Returns the number of its running generations.
        alive: Number of members on it.
    """

    defaults = {"meta_template": "internlm2-lagent"}
    secrets = {}

    def __init__(self, kind, url, running, alive=1):
        self._kind, self._url, self._running, self._alive = kind, url, running, alive
        self._dead = f"http://127.0.0.1:{free_port()}"

    def _llms(self, url, count, **kwargs):
        """The members: the dead one first."""
        member = {"type": "OpenAIClient", "model": "embedded", "flavour": "llama.cpp", "min_p": 0, **kwargs}
        dead = {**member, "base_url": self._dead, "retry": {"max_retries": 0}}
        return [dead, *({**member, "base_url": url} for _ in range(count))]

    @property
    def config(self):
        return {"type": KINDS[self._kind][0].__name__, "llms": self._llms(self._url, self._alive)}

    def make(self, asynchronous, **kwargs):
        return KINDS[self._kind][asynchronous](self._llms(self._url, self._alive), **kwargs)

    def connect(self, asynchronous, url, *, max_retries, **kwargs):
        return KINDS[self._kind][asynchronous](
            self._llms(url, 1, retry={"max_retries": max_retries}), **kwargs
        )

    def running(self):
        return self._running()


@contextmanager
def backend(kind, alive):
    """Members on llama.cpp's server."""
    with openai_peers.llamacpp() as peer:
        yield Members(kind, peer.url, peer.running, alive)
