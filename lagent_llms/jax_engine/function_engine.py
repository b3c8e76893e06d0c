"""An engine over functions that know no cache and no batch: prompts take turns, a chunk of tokens each.

It has the face of `Engine`, so that everything above works with a model of any kind.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import LLMError, UnsupportedParameter
from .sampling import SamplingParams
from .scheduler import Job, check_prompt
from .worker import EngineStats, OnEvent, TokenEvent, cut

__all__ = ["FunctionEngine", "Step"]

_log = logging.getLogger(__name__)

#: A chunk of new tokens after the tokens given, from a seed; what comes after an end token is ignored.
Step = Callable[[Sequence[int], SamplingParams, int], Sequence[int]]

_Job = Job[OnEvent]


class _Handle:
    def __init__(self, job: _Job) -> None:
        self._job = job

    def cancel(self) -> None:
        """Stop; noticed at the job's next turn."""
        self._job.cancelled = True


class FunctionEngine:
    """Runs `step` in a thread of its own.

    Args:
        name: What the model is called.
        tokenizer: Text to token ids and back, as `Engine.tokenizer`.
        step: Computes a chunk.
        check: Refuses settings that `step` cannot honour.
        max_len: Most tokens of a prompt and its answer together.
        seed: As for `Engine.load`.
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
    ) -> None:
        self.path = Path(name)
        self.tokenizer, self.max_len = tokenizer, max_len
        self._step, self._check = step, check
        self._eos: frozenset[int] = tokenizer.eos_ids
        self._seeds: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._closing = False
        self._busy = self._served = self._prompt = self._completion = 0
        self._thread = threading.Thread(target=self._run, name="generate-functions", daemon=True)
        self._thread.start()

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams, on_event: OnEvent) -> _Handle:
        """See `Engine.submit`.

        Raises:
            UnsupportedParameter: A setting that generation functions do not know.
        """
        for name in ("repetition_penalty", "min_p", "ignore_eos", "logprobs"):
            if (value := getattr(params, name)) not in (
                None,
                False,
                1.0 if name == "repetition_penalty" else 0,
            ):
                raise UnsupportedParameter(
                    f"a model with generation functions cannot honour {name}={value!r}", parameter=name
                )
        self._check(params)
        prompt = check_prompt(prompt_ids, self.max_len)
        seed = self._seeds.getrandbits(62) if params.seed is None else params.seed
        job = Job(prompt, params, seed, on_event, min(params.max_new_tokens, self.max_len - len(prompt)))
        with self._changed:
            if self._closing:
                raise LLMError("the engine is closed")
            self._jobs.append(job)
            self._prompt += len(prompt)
            self._changed.notify()
        return _Handle(job)

    def stats(self) -> EngineStats:
        """Counters since it was made.

        Raises:
            LLMError: The engine is closed.
        """
        with self._changed:
            if self._closing:
                raise LLMError("the engine is closed")
            waiting = len(self._jobs)
        return EngineStats(self._busy, waiting, self._served, self._prompt, 0, self._completion)

    def close(self) -> None:
        """Stop; requests in flight end with an error event. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=60)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if not self._advance(job):
                with self._changed:
                    self._jobs.append(job)
        for job in self._jobs:
            self._tell(job, TokenEvent(error=LLMError("the engine was closed")))

    def _next(self) -> _Job | None:
        with self._changed:
            self._busy = 0
            while not (self._closing or self._jobs):
                self._changed.wait()
            self._busy = int(not self._closing)
            return None if self._closing else self._jobs.popleft()

    def _advance(self, job: _Job) -> bool:
        """One turn of a job; whether it was the last."""
        if job.cancelled:
            event = TokenEvent(finish_reason="cancelled")
        else:
            try:
                event = self._accept(job, self._step([*job.prompt, *job.output], job.params, self._seed(job)))
            except LLMError as error:
                event = TokenEvent(error=error)
            except Exception as error:  # noqa: BLE001 - whatever a foreign model raises, the caller is told
                told = LLMError(f"the generation function failed: {type(error).__name__}: {error}")
                told.__cause__ = error
                event = TokenEvent(error=told)
        ended = event.finish_reason is not None or event.error is not None
        self._served += ended
        return not self._tell(job, event) or ended

    @staticmethod
    def _tell(job: _Job, event: TokenEvent) -> bool:
        """Whether the caller took the news."""
        try:
            job.payload(event)
        except Exception:  # noqa: BLE001 - a caller's fault must not end the other requests
            _log.exception("on_event of a request raised; the request is dropped")
            return False
        return True

    @staticmethod
    def _seed(job: _Job) -> int:
        return (job.seed + len(job.output)) % (1 << 62)

    def _accept(self, job: _Job, tokens: Sequence[int]) -> TokenEvent:
        """Take new tokens until one ends the answer."""
        new, end_token, reason = cut(tokens, job.limit - len(job.output), self._eos)
        if not tokens:  # a function that gives nothing has nothing more to say
            reason = "stop"
        job.output.extend(new)
        self._completion += len(new)
        return TokenEvent(new, (), reason, end_token)
