"""`Engine`: load a checkpoint, submit prompts from any thread, receive tokens through callbacks."""

from __future__ import annotations

import os
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ..core.engine_thread import check_max_queue
from ..core.token_events import check_prompt_ids
from ..errors import InvalidArgument, LLMError
from ..structured.grammar import Grammar, GrammarCompiler
from .compile_cache import enable_compile_cache
from .config import ModelConfig
from .model_runner import ModelRunner
from .sampling import SamplingParams
from .sharding import build_mesh, shard
from .tokenizer import Tokenizer
from .weights import load_weights
from .worker import EngineJob, EngineStats, Listener, OnEvent, OnWait, Worker

__all__ = ["Engine", "Handle", "check_dtype"]

_DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}
_DEFAULT_MAX_LEN = 4096
_PREFILL_CHUNK = 512


class Handle:
    """Handle of a submitted request."""

    def __init__(self, worker: Worker, job: EngineJob) -> None:
        self._worker, self._job = worker, job

    def cancel(self) -> None:
        """Stop the generation; its slot is free after at most one decode chunk. Idempotent."""
        self._worker.cancel(self._job)


class Engine:
    """Inference engine with continuous batching. Created by `load`.

    Attributes:
        path: Directory of the checkpoint.
        config: The network.
        tokenizer: Tokenizer of the checkpoint.
        max_len: Longest prompt and answer together, in tokens.
        max_slots: Largest number of requests in one batch; further requests wait.
    """

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        tokenizer: Tokenizer,
        runner: ModelRunner,
        max_slots: int,
        max_len: int,
        seed: int | None = None,
        max_queue: int | None = None,
    ) -> None:
        self.path = path
        self.config, self.tokenizer = config, tokenizer
        self.max_slots, self.max_len = max_slots, max_len
        self._seeds: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
        self._grammars = GrammarCompiler(tokenizer.to_json, config.vocab_size, tokenizer.eos_ids)
        self._worker = Worker(runner, tokenizer.eos_ids, max_slots, config.rope_switch, max_queue)
        # Also runs at interpreter exit; the worker holds no reference to this object.
        self._finalizer = weakref.finalize(self, self._worker.close)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        dtype: str = "float32",
        max_slots: int = 8,
        max_len: int | None = None,
        decode_chunk: int = 8,
        adapter: str | os.PathLike[str] | None = None,
        mesh_axes_names: Sequence[str] = ("dp", "fsdp", "mp"),
        mesh_axes_shape: Sequence[int] = (1, -1, 1),
        seed: int | None = None,
        cache_dir: str | os.PathLike[str] | Literal[False] | None = None,
        progress: Callable[[str], None] | None = None,
        max_queue: int | None = None,
    ) -> Engine:
        """Load a Hugging Face checkpoint of the Llama family.

        Args:
            path: Directory with config.json, safetensors files and tokenizer.json.
            dtype: 'float32', 'bfloat16' or 'float16', or 'fp32', 'bf16', 'fp16'. On a CPU float16 computes
                in float32.
            max_slots: Largest number of requests in one batch (default 8).
            max_len: Longest prompt and answer together, in tokens; None is the model's
                max_position_embeddings, at most 4096.
            decode_chunk: Largest number of decode steps before new requests are admitted (default 8).
            adapter: Directory of a PEFT LoRA adapter to merge into the weights.
            mesh_axes_names: Names of the device mesh's axes; 'dp', 'fsdp' and 'mp' are used.
            mesh_axes_shape: Sizes of the axes; one may be -1, for all remaining devices.
            seed: Seed of the generator that seeds requests without a seed, in order of submission; None uses
                the system's randomness.
            cache_dir: Directory of the compilation cache; None is the user's cache directory, False turns the
                cache off. A cache that is already configured in JAX stays as it is.
            progress: Called with a message for each slow step.
            max_queue: Most requests that wait for a slot; None is no limit.

        Raises:
            ModelLoadError: The checkpoint is missing, damaged or not supported.
            InvalidArgument: An argument is out of range.
        """
        report = progress or (lambda _: None)
        directory = Path(path).expanduser()
        config = ModelConfig.from_directory(directory)
        max_len = _check_max_len(max_len, config)
        for name, value in (("max_slots", max_slots), ("decode_chunk", decode_chunk)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidArgument(f"{name}={value!r}: allowed is an integer of 1 or more", argument=name)
        check_max_queue(max_queue)
        array_type = check_dtype(dtype)
        enable_compile_cache(cache_dir)
        mesh = build_mesh(mesh_axes_names, mesh_axes_shape)
        report("reading the tokenizer")
        tokenizer = Tokenizer(directory, config)
        report("reading weights")
        weights = load_weights(
            directory,
            config,
            array_type,
            None if adapter is None else Path(adapter).expanduser(),
            lambda name, array: shard(mesh, name, array),
        )
        runner = ModelRunner(
            config,
            weights,
            tuple(tokenizer.eos_ids),
            slots=max_slots,
            max_len=max_len,
            max_steps=decode_chunk,
            prefill_chunk=_PREFILL_CHUNK,
            dtype=array_type,
            mesh=mesh,
            progress=report,
        )
        return cls(directory, config, tokenizer, runner, max_slots, max_len, seed, max_queue)

    def submit(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        on_event: OnEvent,
        on_wait: OnWait | None = None,
    ) -> Handle:
        """Queue a prompt and return at once.

        Args:
            prompt_ids: Token ids of the prompt, at least one.
            params: Decoding parameters. An answer that reaches `max_len` ends with 'length'.
            on_event: Called in the engine's thread with every event; it should return quickly. If it raises,
                the request is cancelled.
            on_wait: Called with True when the request begins to wait for a slot (at once, in this thread) or
                for the compilation of a graph, and with False when the engine works on it.

        Raises:
            InvalidArgument: The prompt is empty or has ids outside the vocabulary, or `response_format`
                cannot be compiled.
            MissingDependency: llguidance is not installed, for `response_format`.
            ContextLengthExceeded: The prompt leaves no room for an answer.
            RateLimited: `max_queue` requests wait already.
            LLMError: The engine is closed.
        """
        prompt = check_prompt_ids(prompt_ids, self.max_len)
        if min(prompt) < 0 or max(prompt) >= self.config.vocab_size:
            wrong = min(prompt) if min(prompt) < 0 else max(prompt)
            raise InvalidArgument(
                f"prompt_ids has {wrong}: allowed are ids from 0 to {self.config.vocab_size - 1}",
                argument="prompt_ids",
            )
        if params.logit_bias and max(params.logit_bias) >= self.config.vocab_size:
            raise InvalidArgument(
                f"logit_bias: the model has no token {max(params.logit_bias)}; its ids end at "
                f"{self.config.vocab_size - 1}",
                argument="logit_bias",
            )
        seed = self._seeds.getrandbits(63) if params.seed is None else params.seed
        limit = min(params.max_new_tokens, self.max_len - len(prompt))
        listener = Listener(on_event) if on_wait is None else Listener(on_event, on_wait)
        job = EngineJob(prompt, params, seed, listener, limit, self.compile_grammar(params.response_format))
        self._worker.submit(job)
        return Handle(self._worker, job)

    def compile_grammar(self, response_format: Mapping[str, Any] | None) -> Grammar | None:
        """Compile a checked `response_format`, so that a following `submit` with it does not have to.

        Raises:
            InvalidArgument: It cannot be compiled.
            MissingDependency: llguidance is not installed.
        """
        return None if response_format is None else self._grammars.compile(response_format)

    def warm_up(self, *, greedy: bool = False) -> Future[None]:
        """Compile the graphs of usual requests, so that none of them waits for that; return at once.

        Requests submitted meanwhile wait. Only the first call compiles.

        Args:
            greedy: True for greedy requests, False for sampled ones.

        Raises:
            LLMError: The engine is closed.
        """
        return self._worker.warm_up(greedy=greedy)

    def stats(self) -> EngineStats:
        """Counters of the engine.

        Raises:
            LLMError: The engine is closed.
        """
        if not self._finalizer.alive:
            raise LLMError("the engine is closed")
        return self._worker.stats()

    def close(self) -> None:
        """Stop the engine; unfinished requests get an error event. Idempotent."""
        self._finalizer()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_dtype(dtype: str) -> jnp.dtype:
    """Convert the name of a type; 'float16' is float32 on a CPU.

    Raises:
        InvalidArgument: The name is not one of those of `Engine.load`.
    """
    if dtype not in _DTYPES:
        raise InvalidArgument(f"dtype={dtype!r}: allowed are {', '.join(_DTYPES)}", argument="dtype")
    name = _DTYPES[dtype]
    return jnp.dtype("float32" if name == "float16" and jax.default_backend() == "cpu" else name)


def _check_max_len(max_len: int | None, config: ModelConfig) -> int:
    if max_len is None:
        return min(config.max_positions, _DEFAULT_MAX_LEN)
    if isinstance(max_len, bool) or not isinstance(max_len, int) or not 2 <= max_len <= config.max_positions:
        raise InvalidArgument(
            f"max_len={max_len!r}: allowed is None or an integer from 2 to {config.max_positions} "
            "(the model's max_position_embeddings)",
            argument="max_len",
        )
    return max_len
