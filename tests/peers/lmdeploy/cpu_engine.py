"""lmdeploy's real server and pipeline without a GPU: only the engine is replaced.

Tokens come from a transformers model on the CPU. Everything above ``AsyncEngine._build_pytorch`` and
``_build_turbomind`` is lmdeploy's own: command line, HTTP app, validation, keys, chat template, tokenizer,
detokenizer, sessions, parsers, errors, health, metrics, proxy. Only `install` patches it.
"""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import prometheus_client
import torch
from faults import Faults
from lmdeploy.messages import (
    EngineOutput,
    GenerationConfig,
    RequestMetrics,
    ResponseType,
    ScheduleMetrics,
)
from lmdeploy.pytorch.engine.base import EngineBase, EngineInstanceBase
from lmdeploy.pytorch.engine.guided_process import GuidedDecodingManager
from sampler import Sampler
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH = 32


class CPUEngine(EngineBase):
    """An engine with the interface of lmdeploy's engines, over a transformers model.

    Args:
        path: The model directory.
        config: A PytorchEngineConfig (which may name LoRA adapters) or a TurbomindEngineConfig.
    """

    def __init__(self, path, config, *, turbomind):
        self.engine_config = config
        config.max_batch_size = config.max_batch_size or BATCH
        self.turbomind = turbomind
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.adapters = dict(getattr(config, "adapters", None) or {})
        self.current = None  # the active adapter
        if self.adapters:
            self._load_adapters()
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.guided = GuidedDecodingManager(self.tokenizer, self.model.config.vocab_size)
        # One step at a time, so that requests alternate.
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="cpu-engine")
        self.numbers = itertools.count()
        self.active, self.cancelled = set(), set()
        self.tick = 0

    def _load_adapters(self):
        from peft import PeftModel

        for number, (name, path) in enumerate(self.adapters.items()):
            if number == 0:
                self.model = PeftModel.from_pretrained(self.model, path, adapter_name=name).eval()
            else:
                self.model.load_adapter(path, adapter_name=name)
        self.model.base_model.disable_adapter_layers()

    def _use(self, adapter):
        """Activate `adapter` (None for the base model), only on a change: it visits all layers."""
        if adapter == self.current:
            return
        if adapter is None:
            self.model.base_model.disable_adapter_layers()
        else:
            self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(adapter)
        self.current = adapter

    @torch.inference_mode()
    def forward(self, ids, cache, adapter):
        """Return the logits after `ids` (one row per token), and the cache for the next step."""
        self.tick += 1
        self._use(adapter)
        out = self.model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)
        return out.logits[0].float(), out.past_key_values

    def create_instance(self, cuda_stream_id=0):
        return CPUEngineInstance(self)

    def start_loop(self):
        return True

    def close(self):
        self.worker.shutdown(wait=False, cancel_futures=True)
        self.model = None

    def end_session(self, session_id):
        return session_id in self.active

    def get_schedule_metrics(self):
        return ScheduleMetrics(active_seqs=len(self.active), scheduler_tick=self.tick)

    async def get_health_status(self):
        return {"alive": True, "message": "", "schedule_metrics": self.get_schedule_metrics()}

    async def sleep(self, level=1):
        pass

    def wakeup(self, tags=None):
        pass


class CPUEngineInstance(EngineInstanceBase):
    """One request at a time."""

    def __init__(self, engine):
        self._engine = engine

    async def async_cancel(self, session_id):
        if session_id not in self._engine.active:
            return ResponseType.SESSION_NOT_EXIST
        self._engine.cancelled.add(session_id)
        return ResponseType.SUCCESS

    async def async_end(self, session_id):
        return ResponseType.SUCCESS

    async def async_stream_infer(
        self, session_id, input_ids, gen_config=None, multimodal=None, adapter_name=None, **_
    ):
        engine, config = self._engine, gen_config or GenerationConfig()
        refusal = None
        if multimodal or (adapter_name is not None and adapter_name not in engine.adapters):
            refusal = ResponseType.NOT_SUPPORTED
        elif len(input_ids) > engine.engine_config.session_len:
            refusal = ResponseType.INPUT_LENGTH_ERROR
        elif session_id in engine.active:
            refusal = ResponseType.SESSION_REPEAT
        if refusal is not None:
            yield EngineOutput(refusal, [])
            return
        number = next(engine.numbers)
        engine.active.add(session_id)
        try:
            async for output in self._tokens(session_id, list(input_ids), config, adapter_name, number):
                yield output
        finally:
            engine.active.discard(session_id)
            engine.cancelled.discard(session_id)
            engine.guided.remove_processor(number)

    async def _tokens(self, session_id, prompt, config, adapter, number):
        engine, loop = self._engine, asyncio.get_running_loop()
        faults = Faults(engine.tokenizer.decode(prompt))
        grammar = config.response_format or {"type": "text"}
        matcher = None if grammar["type"] == "text" else engine.guided.get_processor(number, 0, grammar)
        sample = Sampler(config, prompt, matcher, engine.guided, ban_ends=not engine.turbomind)
        ends = set() if config.ignore_eos else set(config.stop_token_ids or [])
        limit = min(config.max_new_tokens, engine.engine_config.session_len - len(prompt))
        feed, cache = prompt, None
        for count in itertools.count():
            if (output := await faults.before(count)) is not None:
                yield output
                return
            if session_id in engine.cancelled:
                yield EngineOutput(ResponseType.CANCEL, [])
                return
            logits, cache = await loop.run_in_executor(engine.worker, engine.forward, feed, cache, adapter)
            everything = logits if count == 0 and config.output_logits == "all" else None
            if limit <= 0:
                yield EngineOutput(ResponseType.FINISH, [], logits=everything)
                return
            token, logprobs = sample(logits[-1:].clone())
            done = token in ends or count + 1 >= limit
            yield EngineOutput(
                ResponseType.FINISH if done else ResponseType.SUCCESS,
                [token],
                logprobs=logprobs,
                logits=everything,
                req_metrics=RequestMetrics(token_timestamp=time.time()),
            )
            if done:
                return
            feed = [token]


def install():
    """Make lmdeploy create a `CPUEngine`, and disable its checks for a GPU."""
    import lmdeploy.archs
    import lmdeploy.cli.serve
    from lmdeploy.serve.core import AsyncEngine

    torch.set_num_threads(1)  # more threads slow down so small a model

    def build(turbomind):
        def build_engine(self, model_path, backend_config=None, **_):
            engine = CPUEngine(model_path, backend_config, turbomind=turbomind)
            _show(engine)
            return engine

        return build_engine

    AsyncEngine._build_pytorch, AsyncEngine._build_turbomind = build(False), build(True)
    lmdeploy.archs.autoget_backend = lambda *args, **kwargs: "turbomind"
    lmdeploy.cli.serve.get_max_batch_size = lambda device: BATCH


_gauge_lock = threading.Lock()
_gauge = None


def _show(engine):
    """Add the current number of sequences to /metrics: lmdeploy updates its own figures every 10 s."""
    global _gauge
    with _gauge_lock:
        if _gauge is None:
            _gauge = prometheus_client.Gauge("cpu_engine_sequences", "Sequences being generated right now.")
    _gauge.set_function(lambda: len(engine.active))
