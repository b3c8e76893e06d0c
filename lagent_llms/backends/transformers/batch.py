"""The requests of one call of ``model.generate``, and the hooks by which they choose tokens and end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from ...core.token_events import TokenEvent, TokenLogprobs, truncate
from ...params import GenerationParams
from .sampling import Sampler

__all__ = ["Batch", "Ended", "Job"]

_log = logging.getLogger(__name__)


class Job:
    """A request.

    Attributes:
        tokens: Token ids of prompt and answer so far.
        ended: Whether it has its last event.
        cancelled: Whether it should end.
    """

    def __init__(
        self,
        prompt: list[int],
        limit: int,
        params: GenerationParams,
        end_ids: Collection[int],
        adapter: str | None,
        on_event: Callable[[TokenEvent], None],
        on_wait: Callable[[bool], None],
    ) -> None:
        self.tokens, self.adapter, self.on_wait = prompt, adapter, on_wait
        self._last = len(prompt) + limit
        self._end_ids = () if params.ignore_eos else end_ids
        self.sampler = Sampler(params, len(prompt), self._end_ids)
        self._on_event = on_event
        self.ended = self.cancelled = False

    @property
    def remaining(self) -> int:
        """Number of tokens that the answer may still get."""
        return self._last - len(self.tokens)

    def cancel(self) -> None:
        """Stop the generation before its next token."""
        self.cancelled = True

    def append(self, token: int, logprobs: tuple[TokenLogprobs, ...]) -> None:
        """Add a generated token, and end the answer if it is the last one."""
        new, end_token, reason = truncate([token], self.remaining, self._end_ids)
        self.tokens.extend(new)
        self.emit(TokenEvent(new, logprobs if new else (), reason, end_token))

    def emit(self, event: TokenEvent) -> None:
        """Report an event; an error of the callback cancels the request."""
        self.ended = event.finish_reason is not None or event.error is not None
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001 - must not end the other requests
            _log.exception("on_event of a request raised; the request is cancelled")
            self.cancelled = True


class Batch(LogitsProcessor):
    """The rows of one call of `generate`, whose tokens it chooses.

    Args:
        jobs: One job for each row.
        pad: Token id that fills the rows at their left, and after their end.
        interrupted: Whether the call should end before its rows have.
    """

    def __init__(self, jobs: list[Job], pad: int, interrupted: Callable[[], bool]) -> None:
        self._jobs, self._pad, self._interrupted = jobs, pad, interrupted
        width = max(len(job.tokens) for job in jobs)
        self._padding = [width - len(job.tokens) for job in jobs]

    def inputs(self, device: Any) -> dict[str, Any]:
        """The tensors of the rows."""
        rows = [
            [self._pad] * padding + job.tokens for padding, job in zip(self._padding, self._jobs, strict=True)
        ]
        mask = [[0] * padding + [1] * (len(rows[0]) - padding) for padding in self._padding]
        return {
            "input_ids": torch.tensor(rows, device=device),
            "attention_mask": torch.tensor(mask, device=device),
            "max_new_tokens": max(job.remaining for job in self._jobs),
            "pad_token_id": self._pad,
        }

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Choose the token of each row, report it, and return scores of which it has the highest."""
        best = scores.argmax(-1).tolist()
        tokens = []
        for row, job in enumerate(self._jobs):
            if job.ended or job.cancelled:
                tokens.append([self._pad])
                continue
            token: int = best[row]
            logprobs: tuple[TokenLogprobs, ...] = ()
            if not job.sampler.plain:
                context = input_ids[row : row + 1, self._padding[row] :]
                token, logprobs = job.sampler.choose(context, scores[row : row + 1])
            job.append(token, logprobs)
            tokens.append([token])
        return torch.zeros_like(scores).scatter_(1, torch.tensor(tokens, device=scores.device), 1.0)

    def ended(self) -> list[bool]:
        """Which rows have ended: all of them if the call is interrupted."""
        interrupted = self._interrupted()
        return [interrupted or job.ended or job.cancelled for job in self._jobs]


class Ended(StoppingCriteria):
    """Tells `generate` which rows of a batch have ended."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return one truth value for each row."""
        return torch.tensor(self._batch.ended(), device=input_ids.device)
