"""HFTransformers for the conformance tests: objects that share one loaded model."""

import weakref
from contextlib import contextmanager

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lagent_llms import AsyncHFTransformers, HFTransformers
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.testing.conformance import BackendUnderTest


class Pipeline(BackendUnderTest):
    """Makes objects of one loaded model; `running` asks the engines of all of them."""

    defaults = {"meta_template": "internlm2-lagent"}
    config = {"type": "HFTransformers", "path": str(EMBEDDED_MODEL)}

    def __init__(self):
        self._pair = [cls.from_pretrained(EMBEDDED_MODEL) for cls in (AutoModelForCausalLM, AutoTokenizer)]
        self._made = weakref.WeakSet()

    def make(self, asynchronous, **kwargs):
        made = (AsyncHFTransformers if asynchronous else HFTransformers)(tuple(self._pair), **kwargs)
        self._made.add(made)
        return made

    def running(self):
        return sum(made.engine.in_flight for made in self._made)


@contextmanager
def pipeline():
    torch.set_num_threads(1)  # on a busy machine, threads that wait for each other take many times as long
    yield Pipeline()
