"""LoRAX for the conformance tests: backends that talk to one peer."""

from contextlib import contextmanager

from lagent_llms import AsyncLoRAX, LoRAX
from lagent_llms.testing.conformance import BackendUnderTest
from tests import lorax_peer


class Backend(BackendUnderTest):
    """Backends that talk to one server."""

    defaults = {"meta_template": "internlm2-lagent"}

    def __init__(self, peer):
        self._peer = peer

    @property
    def config(self):
        return {"type": "LoRAX", "url": self._peer.url}

    def make(self, asynchronous, **kwargs):
        return self.connect(asynchronous, self._peer.url, **kwargs)

    def connect(self, asynchronous, url, **kwargs):
        return (AsyncLoRAX if asynchronous else LoRAX)(url, **kwargs)

    def running(self):
        return self._peer.running()


@contextmanager
def backend():
    with lorax_peer.server() as peer:
        yield Backend(peer)
