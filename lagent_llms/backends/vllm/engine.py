"""vLLM's `AsyncLLMEngine` on an event loop in its own thread. The only file that depends on vLLM's API."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
import random
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from vllm import AsyncEngineArgs, AsyncLLMEngine, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from ... import forks
from ...core.token_events import TokenEvent, TokenLogprobs, check_prompt_ids
from ...errors import InvalidArgument, LLMError, ModelLoadError, ServerError, nearest
from ...params import GenerationParams
from ...structured.formats import kind_of, regex_of, schema_of
from ..transformers.tokenizer import EngineTokenizer

__all__ = ["VLLMEngine"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


class VLLMEngine:
    """Runs a model with vLLM.

    Args:
        path: Model directory, or id on the Hugging Face hub.
        tokenizer: The tokenizer of the model.
        options: Further engine arguments of vLLM.
        adapters: LoRA adapters, ``{name: directory}``.
        stop_token_ids: Further tokens that end an answer.

    Attributes:
        tokenizer: See above.
        max_len: Longest prompt and answer together, in tokens.
        slots: Number of requests that run at once.

    Raises:
        InvalidArgument: vLLM has no such engine argument.
        ModelLoadError: The model cannot be loaded.
    """

    def __init__(
        self,
        path: str,
        tokenizer: EngineTokenizer,
        options: Mapping[str, Any],
        adapters: Mapping[str, str],
        stop_token_ids: Sequence[int],
    ) -> None:
        arguments = _engine_arguments(path, {"enable_lora": True, **options} if adapters else options)
        self._adapters = {
            name: LoRARequest(name, number, path) for number, (name, path) in enumerate(adapters.items(), 1)
        }
        self.tokenizer = tokenizer
        self._stop_token_ids = [*stop_token_ids]
        self._numbers = itertools.count()
        self._running: dict[concurrent.futures.Future[None], Callable[[TokenEvent], None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._generation = forks.generation
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-engine", daemon=True)
        self._thread.start()
        try:
            self._engine: AsyncLLMEngine = self._await(_make(arguments))
        except BaseException as error:
            self._end_thread()
            if not isinstance(error, Exception):
                raise
            raise ModelLoadError(f"{path}: vLLM cannot load the model: {error}") from error
        self.max_len: int = self._engine.model_config.max_model_len
        self.slots: int = self._engine.vllm_config.scheduler_config.max_num_seqs

    @property
    def in_flight(self) -> int:
        """Number of requests that run or wait."""
        return len(self._tasks)

    def submit(
        self,
        prompt_ids: list[int],
        params: GenerationParams,
        adapter: str | None,
        on_event: Callable[[TokenEvent], None],
    ) -> concurrent.futures.Future[None]:
        """Start a generation and return at once.

        Args:
            prompt_ids: Token ids of the prompt.
            params: How to decode. An answer that reaches `max_len` ends with 'length'.
            adapter: Name of the adapter to answer with, None for none.
            on_event: Called in the engine's thread with every event.

        Returns:
            A future whose cancellation stops the generation.

        Raises:
            ContextLengthExceeded: The prompt leaves no room for an answer.
            InvalidArgument: The adapter is not loaded, or vLLM refuses a parameter.
            LLMError: The engine is closed, or runs in the process that forked this one.
        """
        forks.check(self._generation, "this engine was made", forks.MAKE_IN_CHILD)
        ids = check_prompt_ids(prompt_ids, self.max_len)
        if adapter is not None and adapter not in self._adapters:
            raise InvalidArgument(
                f"adapter_name={adapter!r}: loaded are {', '.join(self._adapters) or 'none'}",
                argument="adapter_name",
            )
        sampling = self._sampling(params, self.max_len - len(ids))
        lora = None if adapter is None else self._adapters[adapter]
        with self._lock:
            if self._closing:
                raise LLMError("the engine is closed")
            steps = self._generate(TokensPrompt(prompt_token_ids=ids), sampling, lora, on_event)
            future = asyncio.run_coroutine_threadsafe(steps, self._loop)
            self._running[future] = on_event
        future.add_done_callback(lambda ended: self._running.pop(ended, None))
        return future

    def close(self) -> None:
        """End the running generations with an error, and vLLM's processes. Idempotent."""
        if self._generation != forks.generation:  # forked: the engine runs on in the parent
            return
        with self._lock:
            if self._closing:
                return
            self._closing = True
            running = [*self._running.items()]
        for future, _ in running:
            future.cancel()
        self._await(self._settled())
        for _, on_event in running:
            on_event(TokenEvent(error=LLMError("the engine was closed")))
        self._engine.shutdown()
        self._end_thread()

    def _sampling(self, params: GenerationParams, room: int) -> SamplingParams:
        try:
            return SamplingParams(
                max_tokens=min(params.max_new_tokens, room),
                temperature=params.temperature,
                top_p=params.top_p,
                top_k=params.top_k or 0,
                min_p=params.min_p or 0.0,
                repetition_penalty=params.repetition_penalty,
                frequency_penalty=params.frequency_penalty or 0.0,
                presence_penalty=params.presence_penalty or 0.0,
                min_tokens=params.min_new_tokens or 0,
                logit_bias=dict(params.logit_bias) if params.logit_bias else None,
                structured_outputs=_structured_outputs(params.response_format),
                seed=random.getrandbits(63) if params.seed is None else params.seed,
                ignore_eos=params.ignore_eos,
                stop_token_ids=None if params.ignore_eos else self._stop_token_ids,
                logprobs=params.logprobs,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            )
        except ValueError as error:
            raise InvalidArgument(f"vLLM refuses a parameter: {error}") from error

    async def _generate(
        self,
        prompt: TokensPrompt,
        sampling: SamplingParams,
        lora: LoRARequest | None,
        on_event: Callable[[TokenEvent], None],
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            outputs = self._engine.generate(
                prompt, sampling, f"lagent_llms-{next(self._numbers)}", lora_request=lora
            )
            async with contextlib.aclosing(outputs):
                async for output in outputs:
                    on_event(_event(output.outputs[0], output.num_cached_tokens or 0))
        except asyncio.CancelledError:
            if not self._closing:
                on_event(TokenEvent(finish_reason="cancelled"))
            raise
        except Exception as error:  # noqa: BLE001 - raised by the reader of the events
            on_event(TokenEvent(error=error))
        finally:
            self._tasks.discard(task)

    async def _settled(self) -> None:
        """Wait until the cancelled generations have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    def _await(self, steps: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(steps, self._loop).result()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=60)


async def _make(arguments: AsyncEngineArgs) -> AsyncLLMEngine:
    """Make the engine on the loop that it will use."""
    return AsyncLLMEngine.from_engine_args(arguments)


def _engine_arguments(path: str, options: Mapping[str, Any]) -> AsyncEngineArgs:
    known = {item.name for item in dataclasses.fields(AsyncEngineArgs)}
    for name in options:
        if name not in known or name == "model":
            raise InvalidArgument(
                f"engine_args[{name!r}]: vLLM has no such engine argument{nearest(name, sorted(known))}",
                argument="engine_args",
            )
    return AsyncEngineArgs(model=path, **{"disable_log_stats": True, **options})


def _structured_outputs(constraint: Mapping[str, Any] | None) -> StructuredOutputsParams | None:
    """A `response_format` in vLLM's form.

    Raises:
        InvalidArgument: It is of a kind that vLLM does not have.
    """
    if constraint is None:
        return None
    kind = kind_of(constraint)
    if kind == "json":
        return StructuredOutputsParams(json_object=True)
    if kind == "schema":
        return StructuredOutputsParams(json=schema_of(constraint))
    if kind == "regex":
        return StructuredOutputsParams(regex=regex_of(constraint))
    if kind == "choice":
        return StructuredOutputsParams(choice=[*constraint["choice"]])
    raise InvalidArgument(
        f"response_format: vLLM has no type {constraint.get('type')!r}", argument="response_format"
    )


def _event(choice: Any, cached: int) -> TokenEvent:
    """The event of an output that holds new tokens."""
    tokens, end_token, reason = tuple(choice.token_ids), None, choice.finish_reason
    if reason == "stop" and tokens:  # the token that ends the answer is no part of it
        tokens, end_token = tokens[:-1], tokens[-1]
    rows = zip(tokens, choice.logprobs or (), strict=False)
    logprobs = tuple(_token_logprobs(token, row) for token, row in rows)
    if reason not in (None, "stop", "length"):
        return TokenEvent(error=ServerError(f"vLLM ended the answer with {reason!r}", code=str(reason)))
    return TokenEvent(tokens, logprobs, reason, end_token, cached_tokens=cached)


def _token_logprobs(token: int, row: Mapping[int, Any]) -> TokenLogprobs:
    """The row has the generated token first, then the most probable ones, each with its rank."""
    ranked = sorted((item.rank, index, item.logprob) for index, item in row.items())
    others = len(row) if any(item[1] == token and item[0] <= len(row) for item in ranked) else len(row) - 1
    top = tuple((index, float(logprob)) for _, index, logprob in ranked[:others])
    return TokenLogprobs(token, float(row[token].logprob), top)
