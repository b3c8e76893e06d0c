"""JAXClient for the conformance tests: clients of one server in this process."""

from contextlib import contextmanager

from lagent_llms import AsyncJAXClient, JAXClient, JAXServer
from lagent_llms.testing.conformance import BackendUnderTest


class Client(BackendUnderTest):
    """Creates clients of one server; `running` reads the state of its engine."""

    def __init__(self, server):
        self._server = server

    @property
    def config(self):
        return {"type": "JAXClient", "url": self._server.url}

    def make(self, asynchronous, **kwargs):
        return self.connect(asynchronous, self._server.url, **kwargs)

    def connect(self, asynchronous, url, **kwargs):
        return (AsyncJAXClient if asynchronous else JAXClient)(url, **kwargs)

    def running(self):
        stats = self._server.engine.stats()
        return stats.slots_in_use + stats.waiting


@contextmanager
def client():
    with JAXServer.load(config={"host": "127.0.0.1", "port": 0}) as server:
        server.fire()
        yield Client(server)
