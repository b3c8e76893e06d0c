"""OpenAIClient for the conformance tests: clients of servers of several kinds."""

from contextlib import contextmanager

from lagent_llms import AsyncOpenAIClient, JAXServer, OpenAIClient
from lagent_llms.testing.conformance import BackendUnderTest
from tests import openai_peers

TEMPLATE = {"meta_template": "internlm2-lagent"}


class Client(BackendUnderTest):
    """Creates clients of one server.

    Args:
        url: Its URL.
        running: Returns the number of its running generations.
        defaults: Arguments for every client.
        arguments_for: See `BackendUnderTest`.
    """

    def __init__(self, url, running, defaults, arguments_for=None):
        self._url, self._running = url, running
        self.defaults, self.arguments_for = defaults, arguments_for or {}

    @property
    def config(self):
        return {"type": "OpenAIClient", "base_url": self._url}

    def make(self, asynchronous, **kwargs):
        return (AsyncOpenAIClient if asynchronous else OpenAIClient)(self._url, **kwargs)

    def connect(self, asynchronous, url, **kwargs):
        return (AsyncOpenAIClient if asynchronous else OpenAIClient)(url, **kwargs)

    def running(self):
        return self._running()


@contextmanager
def serve():
    """Our own server's chat route; session_len needs prompts, which can be counted."""
    with JAXServer.load(config={"host": "127.0.0.1", "port": 0}) as server:
        server.fire()

        def running():
            stats = server.engine.stats()
            return stats.slots_in_use + stats.waiting

        yield Client(f"{server.url}/v1", running, {"flavour": "lagent_llms"}, {"session_len": TEMPLATE})


@contextmanager
def llamacpp():
    """llama.cpp's completions route, with prompts that the client renders; its default of min_p is 0.05."""
    with openai_peers.llamacpp() as peer:
        yield Client(peer.url, peer.running, {"flavour": "llama.cpp", "min_p": 0, **TEMPLATE})
