"""TritonClient for the conformance tests: clients of one tritonserver, on the dialects that differ most."""

from contextlib import contextmanager

from lagent_llms import AsyncTritonClient, TritonClient
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.testing.conformance import BackendUnderTest
from tests import triton_peer


class Client(BackendUnderTest):
    """Clients of one model of the peer."""

    async_streams_fork = False  # docs/triton.md
    constrains = False  # the peer checks the form only
    defaults = {"meta_template": "internlm2-lagent", "tokenizer": str(EMBEDDED_MODEL)}

    def __init__(self, peer, model):
        self._peer, self._model = peer, model

    @property
    def config(self):
        return {"type": "TritonClient", "tritonserver_addr": self._peer.grpc, "model_name": self._model}

    def make(self, asynchronous, **kwargs):
        cls = AsyncTritonClient if asynchronous else TritonClient
        return cls(self._peer.grpc, self._model, **kwargs)

    def running(self):
        return self._peer.running()


@contextmanager
def client(model="vllm", *beside):
    with triton_peer.served([model, *beside]) as peer:
        yield Client(peer, model)
