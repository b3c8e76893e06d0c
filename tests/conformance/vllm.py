"""VLLMPipeline for the conformance tests: objects on one engine. Runs where vLLM is installed."""

import os
from contextlib import contextmanager
from pathlib import Path

import lagent_llms
from lagent_llms import AsyncVLLMPipeline, VLLMPipeline
from lagent_llms.testing.conformance import BackendUnderTest

from .shared_engine import SharedEngine

EMBEDDED_MODEL = Path(lagent_llms.__file__).parent / "models" / "embedded"
ARGUMENTS = {"dtype": "float32", "max_num_seqs": 64, "enforce_eager": True}


class Pipeline(BackendUnderTest):
    """Pipelines on the engine of the first one."""

    defaults = {"meta_template": "internlm2-lagent"}
    config = {"type": "VLLMPipeline", "path": str(EMBEDDED_MODEL), "engine_args": ARGUMENTS}

    def __init__(self):
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        self.first = VLLMPipeline(EMBEDDED_MODEL, engine_args=ARGUMENTS)

    def make(self, asynchronous, **kwargs):
        engine = self.first.engine

        class Shared(AsyncVLLMPipeline if asynchronous else VLLMPipeline):
            def _load(self, *args):
                return SharedEngine(engine)

        return Shared(EMBEDDED_MODEL, **kwargs)

    def running(self):
        return self.first.engine.in_flight


@contextmanager
def pipeline():
    subject = Pipeline()
    yield subject
    subject.first.close()
