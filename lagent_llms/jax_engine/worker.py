"""The engine's loop: admit requests, prefill, decode a chunk, emit events.

One iteration computes a bounded number of prompt tokens before it decodes, so that a long prompt does not
stall running streams.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from .. import forks
from ..core.engine_thread import EngineThread, check_queue
from ..core.token_events import TokenEvent, TokenLogprobs, truncate
from ..errors import LLMError
from .model_runner import BatchRow, ModelRunner
from .scheduler import Job, Scheduler

__all__ = ["EngineJob", "EngineStats", "Listener", "OnEvent", "OnWait", "Worker"]

_log = logging.getLogger(__name__)

#: Largest number of prompt tokens, padding included, computed between two decode chunks.
_PREFILL_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters of an engine since it was loaded.

    Attributes:
        slots_in_use: Number of requests that have a slot now.
        waiting: Number of requests without a slot now.
        requests_served: Number of finished requests, including cancelled and failed ones.
        prompt_tokens: Number of tokens of all admitted prompts, including reused ones.
        cached_prompt_tokens: Number of reused prompt tokens.
        completion_tokens: Number of generated tokens.
    """

    slots_in_use: int = 0
    waiting: int = 0
    requests_served: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0


OnEvent: TypeAlias = Callable[[TokenEvent], None]
OnWait: TypeAlias = Callable[[bool], None]


class Listener(NamedTuple):
    """What an engine tells of a request.

    Attributes:
        on_event: Called with every event.
        on_wait: Called with True when the request begins to wait for a place or for a compilation, with False
            when the engine works on it.
    """

    on_event: OnEvent
    on_wait: OnWait = lambda waits: None


EngineJob: TypeAlias = Job[Listener]


class Worker(EngineThread):
    """The thread of an engine. Every method but `run` may be called from any thread.

    Args:
        runner: Runs the model.
        eos_ids: End tokens.
        slots: Number of slots of the KV cache.
        rope_switch: `ModelConfig.rope_switch`.
        max_queue: Most requests that wait for a slot; None is no limit.
    """

    def __init__(
        self,
        runner: ModelRunner,
        eos_ids: frozenset[int],
        slots: int,
        rope_switch: int | None = None,
        max_queue: int | None = None,
    ) -> None:
        self._runner, self._eos = runner, eos_ids
        self._slots, self._max_queue = slots, max_queue
        self._warm_up: Future[None] | None = None
        self._to_warm_up = self._warms_greedy = False
        self._scheduler: Scheduler[Listener] = Scheduler(slots, rope_switch)
        runner.on_compile = self._on_compile
        self._changed = threading.Condition()
        self._submitted: list[EngineJob] = []
        self._closing = False
        self._served = self._prompt = self._cached = self._completion = 0
        self._generation = forks.generation
        self._thread = threading.Thread(target=self.run, name="jax-engine", daemon=True)
        self._thread.start()

    def submit(self, job: EngineJob) -> None:
        """Queue a request.

        Raises:
            RateLimited: `max_queue` requests wait already.
            LLMError: The engine is closed, or runs in the process that forked this one.
        """
        forks.check(self._generation, "this engine was loaded", forks.MAKE_IN_CHILD)
        with self._changed:
            if self._closing:
                raise LLMError("the engine is closed")
            scheduler = self._scheduler
            taken = len(self._submitted) + len(scheduler.waiting) + len(scheduler.running)
            check_queue(taken - self._slots, self._max_queue)
            job.payload.on_wait(True)
            self._submitted.append(job)
            self._changed.notify()

    def warm_up(self, *, greedy: bool) -> Future[None]:
        """Compile the graphs of usual requests before the next ones are served, once."""
        with self._changed:
            if self._closing:
                raise LLMError("the engine is closed")
            if self._warm_up is None:
                self._warm_up, self._to_warm_up, self._warms_greedy = Future(), True, greedy
                self._changed.notify()
            return self._warm_up

    def cancel(self, job: EngineJob) -> None:
        """Cancel a request; takes effect before the next decode chunk."""
        with self._changed:
            job.cancelled = True
            self._changed.notify()

    def stats(self) -> EngineStats:
        """Current counters."""
        with self._changed:
            waiting = len(self._submitted) + len(self._scheduler.waiting)
        return EngineStats(
            len(self._scheduler.running), waiting, self._served, self._prompt, self._cached, self._completion
        )

    def run(self) -> None:
        """Loop of the thread; when it ends, every unfinished request has an error event."""
        try:
            while self._wait_for_work():
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001 - becomes the error event of every request
                    if self._closing:  # JAX fails while the interpreter exits
                        break
                    _log.exception("the engine failed; all its requests end with the error")
                    self._fail_all(f"the engine failed: {type(error).__name__}: {error}", error)
                    self._scheduler.invalidate_cache()
                    self._runner.reset_cache()
        finally:
            with self._changed:
                self._closing = True
            self._fail_all("the engine was closed")
            if self._warm_up is not None:
                self._warm_up.cancel()  # does nothing if it is done

    def _wait_for_work(self) -> bool:
        """Wait for work and queue submitted requests; False when the engine closes."""
        scheduler = self._scheduler
        with self._changed:
            while not (
                self._closing or self._submitted or self._to_warm_up or scheduler.waiting or scheduler.running
            ):
                self._changed.wait()
            scheduler.waiting.extend(self._submitted)
            self._submitted.clear()
            return not self._closing

    def _step(self) -> None:
        if self._to_warm_up and not self._scheduler.running:
            self._compile_usual_graphs()
        for job in self._scheduler.remove(lambda job: job.cancelled):
            self._emit(job, TokenEvent(finish_reason="cancelled", cached_tokens=job.cached))
            self._served += 1
        for job in self._scheduler.admit():
            self._prompt += len(job.prompt)
            self._cached += job.cached
            self._tell(job, waits=False)
            if job.grammar is not None:
                self._append(job, [], [])  # the text that every answer begins with
                job.context = job.prompt + job.output
        budget = _PREFILL_TOKENS
        while batch := self._next_prefill(budget):
            budget -= self._prefill(batch)
        self._scheduler.switch_ropes()
        jobs = self._scheduler.decoding
        # Constrained rows in calls of their own: the mask of each token needs the one before.
        for batch in self._constrained_batches(jobs):
            self._prefill(batch)
        if free := [job for job in jobs if job.grammar is None]:
            self._decode(free)

    def _compile_usual_graphs(self) -> None:
        assert self._warm_up is not None
        self._to_warm_up = False
        self._scheduler.invalidate_cache()  # the calls overwrite the slots
        try:
            self._runner.warm_up(greedy=self._warms_greedy)
        except Exception as error:  # noqa: BLE001 - raised where the result is awaited
            _log.warning("the warm-up failed: %s", error)
            self._runner.reset_cache()
            self._warm_up.set_exception(error)
        else:
            self._warm_up.set_result(None)

    def _next_prefill(self, budget: int) -> list[EngineJob]:
        """The oldest job in prefill and others of the same bucket, at most `budget` tokens together."""
        jobs = self._scheduler.prefilling
        if not jobs:
            return []
        bucket = self._runner.prefill_bucket(jobs[0].num_uncomputed)
        is_free = jobs[0].grammar is None
        same = [
            job
            for job in jobs
            if self._runner.prefill_bucket(job.num_uncomputed) == bucket and (job.grammar is None) == is_free
        ]
        rows = budget // bucket
        return same[: 1 << (rows.bit_length() - 1)] if rows else []  # the runner pads to a power of two

    def _constrained_batches(self, jobs: list[EngineJob]) -> Iterable[list[EngineJob]]:
        """The constrained ones of `jobs`, grouped by the number of tokens to compute."""
        batches: dict[int, list[EngineJob]] = {}
        for job in jobs:
            if job.grammar is not None:
                batches.setdefault(self._runner.step_bucket(len(job.uncomputed)), []).append(job)
        return batches.values()

    def _prefill(self, batch: list[EngineJob]) -> int:
        """Compute a chunk of each job's prompt, or of the newest tokens of each constrained answer.

        The jobs have the same bucket.

        Returns:
            Number of computed tokens, padding included.
        """
        bucket = self._runner.prefill_bucket(batch[0].num_uncomputed)
        chunks = [job.uncomputed[: self._runner.prefill_chunk] for job in batch]
        rows = [self._batch_row(job, chunk) for job, chunk in zip(batch, chunks, strict=True)]
        rows = [self._constrain(job, row) for job, row in zip(batch, rows, strict=True)]
        tokens, logprobs = self._runner.prefill(rows)
        for job, chunk, token, logprob in zip(batch, chunks, tokens, logprobs, strict=True):
            job.assigned_slot.tokens.extend(chunk)
            if job.uncomputed:
                continue
            steps = self._append(job, [token], [logprob])
            if not steps and job in self._scheduler.running:
                self._fail(job, LLMError("response_format: the grammar allows no token"))
        return bucket << (len(batch) - 1).bit_length()

    def _decode(self, jobs: list[EngineJob]) -> None:
        rows = [self._batch_row(job, job.output[-1:]) for job in jobs]
        tokens, logprobs = self._runner.decode(rows)
        for job, row, new, new_logprobs in zip(jobs, rows, tokens, logprobs, strict=True):
            del new[row.limit :]
            # The inputs of the steps are in the KV cache now: the last token and all new ones but the newest.
            inputs = [job.output[-1], *new[:-1]]
            steps = self._append(job, new, new_logprobs)
            job.assigned_slot.tokens.extend(inputs[:steps])

    def _constrain(self, job: EngineJob, row: BatchRow) -> BatchRow:
        """Add the mask of the tokens that may follow, for a job with a grammar."""
        if job.grammar is None:
            return row
        mask = np.zeros(self._runner.mask_len, np.int32)
        is_early = len(job.output) < (job.params.min_new_tokens or 0)
        job.grammar.fill_mask(mask, may_end=not (is_early or job.params.ignore_eos))
        return row._replace(mask=mask)

    def _append(self, job: EngineJob, tokens: list[int], logprobs: list[TokenLogprobs | None]) -> int:
        """Append new tokens to the answer until it ends, and emit them.

        After those of a constrained answer follow the tokens that its grammar forces.

        Returns:
            Number of steps whose token is part of the answer or its end token.
        """
        remaining = job.limit - len(job.output)
        end_ids = () if job.params.ignore_eos else self._eos
        grammar = job.grammar
        try:
            if grammar is not None:
                tokens = tokens[: grammar.accept(tokens)]
            new, end_token, reason = truncate(tokens, remaining, end_ids)
            steps = len(new) + (end_token is not None)
            if grammar is not None and end_token is None:
                if job.params.logprobs is None:  # a forced token has none: nothing chose it
                    new += tuple(grammar.accept_forced(remaining - len(new)))
                reason = "length" if len(new) >= remaining else None
                reason = "stop" if grammar.is_complete else reason
        except LLMError as error:
            self._fail(job, error)
            return 0
        job.output.extend(new)
        requested = tuple(item for item in logprobs[: len(new)] if item is not None)
        self._completion += len(new)
        if reason is not None:
            self._served += 1
            self._scheduler.release(job)
        self._emit(job, TokenEvent(new, requested, reason, end_token, None, job.cached))
        return steps

    def _batch_row(self, job: EngineJob, tokens: list[int]) -> BatchRow:
        return BatchRow(
            slot=job.assigned_slot.index,
            start=len(job.assigned_slot.tokens),
            tokens=tokens,
            num_generated=len(job.output),
            limit=self._scheduler.steps_left(job),
            is_long=job.assigned_slot.is_long,
            seed=job.seed,
            params=job.params,
            history=lambda: job.prompt + job.output,
        )

    def _fail(self, job: EngineJob, error: LLMError) -> None:
        """End a running request with an error event."""
        self._served += 1
        self._scheduler.release(job)
        self._emit(job, TokenEvent(error=error, cached_tokens=job.cached))

    def _fail_all(self, message: str, cause: Exception | None = None) -> None:
        """End every request with an error event."""
        with self._changed:
            self._scheduler.waiting.extend(self._submitted)
            self._submitted.clear()
        for job in self._scheduler.remove(lambda _: True):
            error = LLMError(message)
            error.__cause__ = cause
            self._served += 1
            self._emit(job, TokenEvent(error=error, cached_tokens=job.cached))

    def _on_compile(self, begins: bool) -> None:
        """Tell the admitted requests that a compilation begins or has ended; all of them wait for it."""
        for job in self._scheduler.running:
            self._tell(job, waits=begins)

    @staticmethod
    def _tell(job: EngineJob, *, waits: bool) -> None:
        try:
            job.payload.on_wait(waits)
        except Exception:  # noqa: BLE001 - see `_emit`
            _log.exception("on_wait of a request raised; the request is cancelled")
            job.cancelled = True

    def _emit(self, job: EngineJob, event: TokenEvent) -> None:
        try:
            job.payload.on_event(event)
        except Exception:  # noqa: BLE001 - an error in a callback must not end the other requests
            _log.exception("on_event of a request raised; the request is cancelled")
            job.cancelled = True
