"""`FunctionEngine`: the interface of `Engine` over a generation function without KV cache and batching.

Requests take turns, with a chunk of tokens each.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import forks
from ..core.engine_thread import EngineThread, check_max_queue, check_queue
from ..core.token_events import TokenEvent, check_prompt_ids, truncate
from ..errors import LLMError, UnsupportedParameter
from .sampling import SamplingParams
from .worker import EngineJob, EngineStats, Listener, OnEvent, OnWait

__all__ = ["FunctionEngine", "Step"]

_log = logging.getLogger(__name__)

#: (token ids so far, parameters, seed) -> a chunk of new token ids; those after an end token are ignored.
Step = Callable[[Sequence[int], SamplingParams, int], Sequence[int]]


class _Handle:
    def __init__(self, job: EngineJob) -> None:
        self._job = job

    def cancel(self) -> None:
        """Stop the generation; takes effect at the job's next turn."""
        self._job.cancelled = True


class FunctionEngine(EngineThread):
    """An engine that runs a generation function in its own thread.

    Args:
        name: Name of the model.
        tokenizer: Tokenizer with the interface of `Engine.tokenizer`.
        step: Generates a chunk of tokens.
        check: Raises `LLMError` for parameters that `step` does not support.
        max_len: Longest prompt and answer together, in tokens.
        seed: See `Engine.load`.
        max_queue: See `Engine.load`.

    Attributes:
        path: `name` as a path.
        max_slots: 1.
    """

    max_slots = 1

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        step: Step,
        check: Callable[[SamplingParams], None],
        *,
        max_len: int,
        seed: int | None = None,
        max_queue: int | None = None,
    ) -> None:
        self._max_queue = check_max_queue(max_queue)
        self.path = Path(name)
        self.tokenizer, self.max_len = tokenizer, max_len
        self._step, self._check = step, check
        self._eos: frozenset[int] = tokenizer.eos_ids
        self._seeds: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
        self._changed = threading.Condition()
        self._jobs: deque[EngineJob] = deque()
        self._closing = False
        self._busy = self._served = self._prompt = self._completion = 0
        self._generation = forks.generation
        self._thread = threading.Thread(target=self._run, name="generate-functions", daemon=True)
        self._thread.start()

    def submit(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        on_event: OnEvent,
        on_wait: OnWait | None = None,
    ) -> _Handle:
        """See `Engine.submit`.

        Raises:
            RateLimited: `max_queue` requests wait already.
            UnsupportedParameter: Generation functions do not support a parameter.
        """
        forks.check(self._generation, "this engine was made", forks.MAKE_IN_CHILD)
        for name in (
            *("repetition_penalty", "min_p", "ignore_eos", "logprobs"),
            *("frequency_penalty", "presence_penalty", "min_new_tokens", "logit_bias", "response_format"),
        ):
            if (value := getattr(params, name)) not in (
                None,
                False,
                1.0 if name == "repetition_penalty" else 0,
                {},
            ):
                raise UnsupportedParameter(
                    f"a model with generation functions does not support {name}={value!r}", parameter=name
                )
        self._check(params)
        prompt = check_prompt_ids(prompt_ids, self.max_len)
        seed = self._seeds.getrandbits(62) if params.seed is None else params.seed
        limit = min(params.max_new_tokens, self.max_len - len(prompt))
        listener = Listener(on_event) if on_wait is None else Listener(on_event, on_wait)
        job = EngineJob(prompt, params, seed, listener, limit)
        with self._changed:
            if self._closing:
                raise LLMError("the engine is closed")
            check_queue(len(self._jobs) + self._busy - self.max_slots, self._max_queue)
            listener.on_wait(True)
            self._jobs.append(job)
            self._prompt += len(prompt)
            self._changed.notify()
        return _Handle(job)

    def stats(self) -> EngineStats:
        """Counters of the engine.

        Raises:
            LLMError: The engine is closed.
        """
        with self._changed:
            if self._closing:
                raise LLMError("the engine is closed")
            waiting = len(self._jobs)
        return EngineStats(self._busy, waiting, self._served, self._prompt, 0, self._completion)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if not self._run_turn(job):
                with self._changed:
                    job.payload.on_wait(bool(self._jobs))  # until its next turn
                    self._jobs.append(job)
        for job in self._jobs:
            self._emit(job, TokenEvent(error=LLMError("the engine was closed")))

    def _next(self) -> EngineJob | None:
        with self._changed:
            self._busy = 0
            while not (self._closing or self._jobs):
                self._changed.wait()
            self._busy = int(not self._closing)
            return None if self._closing else self._jobs.popleft()

    def _run_turn(self, job: EngineJob) -> bool:
        """Run one turn of a job; True if it was the last."""
        if job.cancelled:
            event = TokenEvent(finish_reason="cancelled")
        else:
            try:
                job.payload.on_wait(False)
                tokens = self._step([*job.prompt, *job.output], job.params, self._seed(job))
                event = self._append(job, tokens)
            except LLMError as error:
                event = TokenEvent(error=error)
            except Exception as error:  # noqa: BLE001 - becomes the error event of the request
                failure = LLMError(f"the generation function failed: {type(error).__name__}: {error}")
                failure.__cause__ = error
                event = TokenEvent(error=failure)
        ended = event.finish_reason is not None or event.error is not None
        self._served += ended
        return not self._emit(job, event) or ended

    @staticmethod
    def _emit(job: EngineJob, event: TokenEvent) -> bool:
        """Call the request's callback; False if it raised."""
        try:
            job.payload.on_event(event)
        except Exception:  # noqa: BLE001 - an error in a callback must not end the other requests
            _log.exception("on_event of a request raised; the request is dropped")
            return False
        return True

    @staticmethod
    def _seed(job: EngineJob) -> int:
        return (job.seed + len(job.output)) % (1 << 62)

    def _append(self, job: EngineJob, tokens: Sequence[int]) -> TokenEvent:
        """Append new tokens to the answer until it ends."""
        new, end_token, reason = truncate(tokens, job.limit - len(job.output), self._eos)
        if not tokens:  # an empty chunk ends the answer
            reason = "stop"
        job.output.extend(new)
        self._completion += len(new)
        return TokenEvent(new, (), reason, end_token)
