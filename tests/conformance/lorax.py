"""LoRAX for the contract: clients of one peer."""

from lagent_llms import AsyncLoRAX, LoRAX

DEFAULTS = {"temperature": 0, "max_new_tokens": 64, "meta_template": "internlm2-lagent"}


class Backend:
    """Backends that talk to one server."""

    for_logprobs = {}

    def __init__(self, peer):
        self._peer = peer

    def make(self, asynchronous, **kwargs):
        cls = AsyncLoRAX if asynchronous else LoRAX
        return cls(self._peer.url, **{**DEFAULTS, **kwargs})

    def running(self):
        return self._peer.running()
