"""Clients of one `JAXServer` on the engine that all JAX backends of the contract share."""

from lagent_llms import AsyncJAXClient, JAXClient
from lagent_llms.serving.jax_server import JAXServer

DEFAULTS = {"temperature": 0, "max_new_tokens": 64}


class Client:
    """Makes clients of a server in this process, and looks into its engine."""

    for_logprobs = {}

    def __init__(self, engine):
        self._engine = engine
        self.server = JAXServer(engine, {"host": "127.0.0.1", "port": 0})
        self.server.fire()

    def make(self, asynchronous, **kwargs):
        cls = AsyncJAXClient if asynchronous else JAXClient
        return cls(self.server.url, **{**DEFAULTS, **kwargs})

    def running(self):
        stats = self._engine.stats()
        return stats.slots_in_use + stats.waiting
