"""The engine's loop: take what was submitted, prefill, decode a chunk, tell the callers; over and over.

One cycle computes a bounded number of prompt tokens before running streams get their next chunk, so that a
long prompt does not stall them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..errors import LLMError
from .runner import Row, Runner, TokenLogprobs
from .scheduler import Job, Scheduler

__all__ = ["EngineStats", "OnEvent", "Request", "TokenEvent", "Worker", "cut"]

_log = logging.getLogger(__name__)

#: Prompt tokens, padding included, that are computed in one call and between two decode chunks.
_PREFILL_TOKENS = 1024

EndReason: TypeAlias = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """News of one request.

    Attributes:
        token_ids: New tokens, without the end token.
        logprobs: One entry for each of them when asked for, else ().
        finish_reason: Set on the last event, unless that is an error: 'stop' (an end token), 'length' or
            'cancelled'.
        end_token: The end token that came, with 'stop'.
        error: What went wrong; no event comes after it.
        cached_tokens: Prompt tokens whose keys and values were reused.
    """

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: EndReason | None = None
    end_token: int | None = None
    error: Exception | None = None
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters of an engine since it was loaded.

    Attributes:
        slots_in_use: Requests being computed now.
        waiting: Requests without a slot now.
        requests_served: Requests that finished, however.
        prompt_tokens: Tokens of all admitted prompts, the cached ones included.
        cached_prompt_tokens: Those of them that were reused.
        completion_tokens: Tokens delivered.
    """

    slots_in_use: int = 0
    waiting: int = 0
    requests_served: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0


OnEvent: TypeAlias = Callable[[TokenEvent], None]
Request: TypeAlias = Job[OnEvent]


class Worker:
    """Runs in a thread of its own; every method but `run` may be called from any thread.

    Args:
        runner: The device side.
        eos_ids: End tokens.
        slots: Sequences at once.
    """

    def __init__(self, runner: Runner, eos_ids: frozenset[int], slots: int) -> None:
        self._runner, self._eos = runner, eos_ids
        self._scheduler: Scheduler[OnEvent] = Scheduler(slots)
        self._changed = threading.Condition()
        self._inbox: list[Request] = []
        self._closing = False
        self._served = self._prompt = self._cached = self._completion = 0
        self._thread = threading.Thread(target=self.run, name="jax-engine", daemon=True)
        self._thread.start()

    def submit(self, job: Request) -> None:
        """Queue a request.

        Raises:
            LLMError: The engine is closed.
        """
        with self._changed:
            if self._closing:
                raise LLMError("the engine is closed")
            self._inbox.append(job)
            self._changed.notify()

    def cancel(self, job: Request) -> None:
        """Ask for the end of a request; it is noticed before the next chunk."""
        with self._changed:
            job.cancelled = True
            self._changed.notify()

    def close(self) -> None:
        """End the thread; requests in flight get an error event. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=60)

    def stats(self) -> EngineStats:
        """The counters now."""
        with self._changed:
            waiting = len(self._inbox) + len(self._scheduler.waiting)
        return EngineStats(
            len(self._scheduler.running), waiting, self._served, self._prompt, self._cached, self._completion
        )

    def run(self) -> None:
        """The thread; however it ends, no request is left waiting."""
        try:
            while self._take():
                try:
                    self._cycle()
                except Exception as error:  # noqa: BLE001 - whatever it is, the callers are told
                    if self._closing:  # the interpreter ends, and JAX with it
                        break
                    _log.exception("the engine failed; all its requests end with the error")
                    self._fail(f"the engine failed: {type(error).__name__}: {error}", error)
                    self._scheduler.forget()
                    self._runner.reset()
        finally:
            with self._changed:
                self._closing = True
            self._fail("the engine was closed")

    def _take(self) -> bool:
        """Wait for work and move the inbox to the queue; False when the engine closes."""
        scheduler = self._scheduler
        with self._changed:
            while not (self._closing or self._inbox or scheduler.waiting or scheduler.running):
                self._changed.wait()
            scheduler.waiting.extend(self._inbox)
            self._inbox.clear()
            return not self._closing

    def _cycle(self) -> None:
        for job in self._scheduler.drop(lambda job: job.cancelled):
            self._tell(job, TokenEvent(finish_reason="cancelled", cached_tokens=job.cached))
            self._served += 1
        for job in self._scheduler.admit():
            self._prompt += len(job.prompt)
            self._cached += job.cached
        left = _PREFILL_TOKENS
        while batch := self._next_prefill(left):
            left -= self._prefill(batch)
        if jobs := self._scheduler.decoding:
            self._decode(jobs)

    def _next_prefill(self, left: int) -> list[Request]:
        """The oldest job without its first token and others of its bucket, within `left` tokens."""
        jobs = self._scheduler.prefilling
        if not jobs:
            return []
        bucket = self._runner.prefill_shape(jobs[0].missing)
        same = [job for job in jobs if self._runner.prefill_shape(job.missing) == bucket]
        rows = left // bucket
        return same[: 1 << (rows.bit_length() - 1)] if rows else []  # the runner fills up to a power of two

    def _prefill(self, batch: list[Request]) -> int:
        """One call for jobs of one bucket; how many tokens were computed, padding included."""
        bucket = self._runner.prefill_shape(batch[0].missing)
        pieces = [job.prompt[len(job.held.tokens) :][: self._runner.piece] for job in batch]
        tokens, logprobs = self._runner.prefill(
            [_row(job, piece) for job, piece in zip(batch, pieces, strict=True)]
        )
        for job, piece, token, logprob in zip(batch, pieces, tokens, logprobs, strict=True):
            job.held.tokens.extend(piece)
            if len(job.held.tokens) == len(job.prompt):
                self._accept(job, [token], [logprob])
        return bucket << (len(batch) - 1).bit_length()

    def _decode(self, jobs: list[Request]) -> None:
        tokens, logprobs = self._runner.decode([_row(job, job.output[-1:]) for job in jobs])
        for job, new, described in zip(jobs, tokens, logprobs, strict=True):
            # What a step was fed is in the cache now: the last token and all new ones but the newest.
            fed = [job.output[-1], *new[:-1]]
            kept = self._accept(job, new, described)
            job.held.tokens.extend(fed[:kept])

    def _accept(self, job: Request, tokens: list[int], logprobs: list[TokenLogprobs | None]) -> int:
        """Take new tokens until one ends the answer, and tell the caller; how many steps counted."""
        room = job.limit - len(job.output)
        new, end_token, reason = cut(tokens, room, () if job.params.ignore_eos else self._eos)
        job.output.extend(new)
        told = tuple(item for item in logprobs[: len(new)] if item is not None)
        self._completion += len(new)
        if reason is not None:
            self._served += 1
            self._scheduler.release(job)
        self._tell(job, TokenEvent(new, told, reason, end_token, None, job.cached))
        return len(new) + (end_token is not None)

    def _fail(self, message: str, cause: Exception | None = None) -> None:
        """End every request with an error."""
        with self._changed:
            self._scheduler.waiting.extend(self._inbox)
            self._inbox.clear()
        for job in self._scheduler.drop(lambda _: True):
            error = LLMError(message)
            error.__cause__ = cause
            self._served += 1
            self._tell(job, TokenEvent(error=error, cached_tokens=job.cached))

    def _tell(self, job: Request, event: TokenEvent) -> None:
        try:
            job.payload(event)
        except Exception:  # noqa: BLE001 - a caller's fault must not end the other requests
            _log.exception("on_event of a request raised; the request is cancelled")
            job.cancelled = True


def cut(
    tokens: Sequence[int], room: int, ends: Collection[int]
) -> tuple[tuple[int, ...], int | None, EndReason | None]:
    """What of new `tokens` belongs to an answer with `room` for so many, what token ended it, and why."""
    new = tuple(tokens[:room])
    end = next((index for index, token in enumerate(new) if token in ends), None)
    if end is not None:
        return new[:end], new[end], "stop"
    return new, None, "length" if len(tokens) >= room else None


def _row(job: Request, tokens: list[int]) -> Row:
    """A job as the runner sees it."""
    return Row(
        slot=job.held.index,
        start=len(job.held.tokens),
        tokens=tokens,
        place=len(job.output),
        limit=job.limit - len(job.output),
        seed=job.seed,
        params=job.params,
        history=lambda: job.prompt + job.output,
    )
