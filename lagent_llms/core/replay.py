"""Answers that keep what they have shown, and answers that show again what was kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import LLMError, ModelStatusCode, StreamInterrupted
from ..schema import Completion, ParsedChunk, Piece, StreamChunk
from .answer import Answer

if TYPE_CHECKING:
    from ..store.answers import Step, StoredAnswer
    from ..templates.answers.reader import AnswerReader

__all__ = ["RecordedAnswer", "ReplayedAnswer", "SourceAnswer"]

_NOTHING = Piece()


class RecordedAnswer(Answer):
    """An answer that keeps its chunks. The arguments: see `Answer`.

    Attributes:
        chunks: What the caller was shown, the END chunk included.
        first_at: When the first of them came, by `time.monotonic`; None before.
    """

    __slots__ = ("chunks", "first_at")

    def __init__(self, stop_words: Sequence[str] = (), reader: AnswerReader | None = None) -> None:
        super().__init__(stop_words, reader)
        self.chunks: list[StreamChunk] = []
        self.first_at: float | None = None

    def feed(self, piece: Piece) -> StreamChunk | None:
        """See `Answer.feed`."""
        chunk = super().feed(piece)
        if chunk is not None:
            self._keep(chunk)
        return chunk

    def finish(self) -> tuple[Completion, StreamChunk]:
        """See `Answer.finish`."""
        completion, chunk = super().finish()
        self._keep(chunk)
        return completion, chunk

    def _keep(self, chunk: StreamChunk) -> None:
        if not self.chunks:
            self.first_at = time.monotonic()
        self.chunks.append(chunk)


class SourceAnswer(RecordedAnswer):
    """An answer that exists elsewhere. It is the source of its own pieces, too, which are empty."""

    __slots__ = ()


class ReplayedAnswer(SourceAnswer):
    """A stored answer, shown in the steps it has come in.

    Args:
        stored: The answer.
        cached: The value of `Completion.cached`.
        error: What follows the steps of an answer that was interrupted.
    """

    __slots__ = ("_at", "_cached", "_error", "_logprobs_shown", "_stored")

    def __init__(self, stored: StoredAnswer, *, cached: bool = False, error: LLMError | None = None) -> None:
        super().__init__()
        self._stored, self._cached = stored, cached
        self._error = error or StreamInterrupted(
            "the recorded call was closed before its answer was complete"
        )
        self._at = self._logprobs_shown = 0

    @property
    def _steps_left(self) -> bool:
        """Whether a step before the END chunk is left."""
        whole = self._stored.completion is not None
        return self._at < len(self._stored.steps) - whole

    def __next__(self) -> Piece:
        if self._stored.completion is None and not self._steps_left:
            raise self._error
        return _NOTHING

    async def __anext__(self) -> Piece:
        return next(self)

    def close(self) -> None:
        """Do nothing: there is no generation."""

    def feed(self, piece: Piece) -> StreamChunk | None:
        """Show the next step; `piece` is empty."""
        chunk = None
        if self._steps_left:
            chunk = self._shown(self._stored.steps[self._at], ModelStatusCode.STREAM_ING)
            self._at += 1
            self._keep(chunk)
        self.done = self._stored.completion is not None and not self._steps_left
        return chunk

    def finish(self) -> tuple[Completion, StreamChunk]:
        """See `Answer.finish`."""
        completion = self._stored.completion
        assert completion is not None
        completion = replace(completion, cached=self._cached)
        chunk = self._shown(self._stored.steps[-1], ModelStatusCode.END)
        chunk.finish_reason, chunk.usage, chunk.completion = (
            completion.finish_reason,
            completion.usage,
            completion,
        )
        self._keep(chunk)
        return completion, chunk

    def _shown(self, step: Step, status: ModelStatusCode) -> StreamChunk:
        self._buffer.append(step.delta)
        self._length += len(step.delta)
        self._n_tokens = step.n_tokens
        chunk = (StreamChunk if step.content is None else ParsedChunk)(
            status, step.delta, step.n_tokens, self._buffer, self._length
        )
        if isinstance(chunk, ParsedChunk):
            chunk.content, chunk.reasoning, chunk.tool_calls = (
                step.content or "",
                step.reasoning,
                step.tool_calls,
            )
        if step.logprobs and self._stored.completion is not None:
            end = self._logprobs_shown + step.logprobs
            chunk.logprobs = self._stored.completion.logprobs[self._logprobs_shown : end]
            self._logprobs_shown = end
        return chunk
