"""A thread that answers requests with ``model.generate``, several in one batch.

`generate` computes a fixed batch. A request that comes while it runs joins when at least half of the places
are free: the batch ends early, and its other requests continue in the next one from prompt and answer so far.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from ... import forks
from ...core.engine_thread import EngineThread
from ...core.token_events import TokenEvent, check_prompt_ids
from ...errors import InvalidArgument, LLMError
from ...params import GenerationParams
from .adapters import Adapters
from .batch import Batch, Ended, Job
from .tokenizer import EngineTokenizer

__all__ = ["TransformersEngine"]

_log = logging.getLogger(__name__)

#: What `generate` must not do itself: `Batch` chooses the tokens and ends the rows.
_OURS = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "eos_token_id": None,
    "max_length": None,
    "max_time": None,
    "stop_strings": None,
    "return_dict_in_generate": False,
}


class TransformersEngine(EngineThread):
    """Runs a causal language model of transformers.

    Args:
        adapters: The model and its adapters.
        tokenizer: Its tokenizer.
        end_ids: Token ids that end an answer.
        max_len: Longest prompt and answer together, in tokens; None for no limit.
        max_batch_size: Largest number of requests in one batch; further requests wait.

    Attributes:
        tokenizer: The tokenizer.
        adapters: The model and its adapters.
        max_len: See above.
    """

    def __init__(
        self,
        adapters: Adapters,
        tokenizer: EngineTokenizer,
        *,
        end_ids: Collection[int],
        max_len: int | None,
        max_batch_size: int,
    ) -> None:
        self.tokenizer, self.adapters, self.max_len = tokenizer, adapters, max_len
        self._end_ids, self.max_batch_size = frozenset(end_ids), max_batch_size
        self._pad = min(self._end_ids, default=0)
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._closing = False
        self._generation = forks.generation
        self._thread = threading.Thread(target=self._run, name="transformers-engine", daemon=True)
        self._thread.start()

    @property
    def model(self) -> Any:
        """The model, a PeftModel if it has adapters; None once the engine is closed."""
        return self.adapters.model

    @property
    def in_flight(self) -> int:
        """Number of requests that run or wait."""
        with self._changed:
            return sum(not job.ended for job in (*self._running, *self._waiting))

    def submit(
        self,
        prompt_ids: list[int],
        params: GenerationParams,
        adapter: str | None,
        on_event: Callable[[TokenEvent], None],
        on_wait: Callable[[bool], None],
    ) -> Job:
        """Queue a prompt and return at once.

        Args:
            prompt_ids: Token ids of the prompt.
            params: How to decode. An answer that reaches `max_len` ends with 'length'.
            adapter: Name of the adapter to answer with, None for none.
            on_event: Called in the engine's thread with every event.
            on_wait: Called with True when the request begins to wait for a place, with False when it has one.

        Raises:
            ContextLengthExceeded: The prompt leaves no room for an answer.
            InvalidArgument: The adapter is not loaded.
            LLMError: The engine is closed, or runs in the process that forked this one.
        """
        forks.check(self._generation, "this engine was made", forks.MAKE_IN_CHILD)
        prompt = check_prompt_ids(prompt_ids, self.max_len)
        self.adapters.check(adapter)
        if params.logit_bias and (model := self.model) is not None:
            size = model.config.get_text_config().vocab_size
            if max(params.logit_bias) >= size:
                raise InvalidArgument(
                    f"logit_bias: the model has no token {max(params.logit_bias)}; its ids end at {size - 1}",
                    argument="logit_bias",
                )
        limit = params.max_new_tokens
        if self.max_len is not None:
            limit = min(limit, self.max_len - len(prompt))
        job = Job(prompt, limit, params, self._end_ids, adapter, on_event, on_wait)
        with self._changed:
            if self._closing:
                raise LLMError("the engine is closed")
            on_wait(True)
            self._waiting.append(job)
            self._changed.notify()
        return job

    def _run(self) -> None:
        while jobs := self._next_batch():
            failure = self._generate(jobs)
            if failure is not None:
                _free_memory()
                _fail(jobs, failure)
        with self._changed:
            jobs = [*self._running, *self._waiting]
            self._running.clear()
            self._waiting.clear()
        self.adapters.release()
        _fail(jobs, LLMError("the engine was closed"))
        _free_memory()

    def _next_batch(self) -> list[Job]:
        """Wait for requests and return those of the next batch; [] when the engine closes."""
        with self._changed:
            self._drop_ended()
            while not (self._closing or self._running or self._waiting):
                self._changed.wait()
                self._drop_ended()
            if self._closing:
                return []
            while self._waiting and self._fits(self._waiting[0]):
                job = self._waiting.popleft()
                job.on_wait(False)
                self._running.append(job)
            return list(self._running)

    def _fits(self, job: Job) -> bool:
        """Whether `job` can join those that run: there is a place, and they use its adapter."""
        running = self._running
        return len(running) < self.max_batch_size and (not running or job.adapter == running[0].adapter)

    def _interrupted(self) -> bool:
        """Whether the running batch should end now; called after each token."""
        if not (self._waiting or self._closing or any(job.cancelled for job in self._running)):
            return False
        with self._changed:
            self._drop_ended()
            half_free = len(self._running) <= self.max_batch_size // 2
            return self._closing or bool(half_free and self._waiting and self._fits(self._waiting[0]))

    def _drop_ended(self) -> None:
        for job in (*self._running, *self._waiting):
            if job.cancelled and not job.ended:
                job.emit(TokenEvent(finish_reason="cancelled"))
        self._waiting = deque(job for job in self._waiting if not job.ended)
        self._running = [job for job in self._running if not job.ended]

    def _generate(self, jobs: list[Job]) -> Exception | None:
        """Generate until the batch ends; the error with which its requests end, if it failed."""
        try:
            batch = Batch(jobs, self._pad, self._interrupted)
            with self.adapters.using(jobs[0].adapter):
                self.model.generate(
                    **batch.inputs(self.model.device),
                    logits_processor=LogitsProcessorList([batch]),
                    stopping_criteria=StoppingCriteriaList([Ended(batch)]),
                    **_OURS,
                )
        except (torch.OutOfMemoryError, MemoryError) as error:
            if self._split(jobs):
                _free_memory()
                return None
            return LLMError(  # an error of its own: the frames of the other hold tensors
                f"out of memory: {error}; a shorter prompt, a smaller max_new_tokens or dtype, and quantized "
                "weights need less"
            )
        except Exception as error:  # noqa: BLE001 - becomes the error event of the requests
            _log.exception("generate failed; its requests end with the error")
            return error
        return None

    def _split(self, jobs: list[Job]) -> bool:
        """Let at most half as many requests as `jobs` run at once from now on; False if it is only one."""
        if len(jobs) < 2:
            return False
        self.max_batch_size = len(jobs) // 2
        _log.warning("out of memory; at most %d requests run in one batch from now on", self.max_batch_size)
        unfinished = [job for job in jobs if not job.ended]
        with self._changed:
            self._running = unfinished[: self.max_batch_size]
            for job in reversed(unfinished[self.max_batch_size :]):
                job.on_wait(True)
                self._waiting.appendleft(job)
        return True


def _fail(jobs: list[Job], error: Exception) -> None:
    for job in jobs:
        if not job.ended:
            job.emit(TokenEvent(error=error))


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
