"""TritonClient for the contract: clients of one tritonserver, on the dialect that can honour everything."""

from lagent_llms import AsyncTritonClient, TritonClient
from lagent_llms.backends.jax import EMBEDDED_MODEL

DEFAULTS = {
    "temperature": 0, "max_new_tokens": 64, "meta_template": "internlm2-lagent", "tokenizer": EMBEDDED_MODEL,
}  # fmt: skip


class Client:
    """Clients of one model of the peer."""

    for_logprobs = {}

    def __init__(self, peer, model="vllm"):
        self._peer, self._model = peer, model

    def make(self, asynchronous, **kwargs):
        cls = AsyncTritonClient if asynchronous else TritonClient
        return cls(self._peer.grpc, self._model, **{**DEFAULTS, **kwargs})

    def running(self):
        return self._peer.running()
