"""Turn the pieces of a backend into the chunks of a caller. Pure: no I/O, shared by sync and async.

It enforces stop words, keeps the text so far, and distinguishes a complete answer from an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

from ..errors import LLMError, ModelStatusCode, StreamInterrupted
from ..schema import Completion, FinishReason, Piece, StreamChunk, TextBuffer, TokenLogprob, ToolCall, Usage
from .stop_words import StopWordScanner

__all__ = ["Answer", "ToolCallParser"]

#: Finds tool calls in a finished text: returns the text without them, and the calls.
ToolCallParser = Callable[[str], tuple[str, tuple[ToolCall, ...]]]

_T = TypeVar("_T")


class Answer:
    """The answer of one call as it grows.

    Args:
        stop_words: Where to cut the text.
        parse_tool_calls: Finds tool calls in the finished text, None to look for none.

    Attributes:
        done: Whether the answer is complete: the backend finished, or a stop word was found.
    """

    __slots__ = (
        "_buffer", "_finish_reason", "_length", "_logprobs", "_n_tokens", "_native_reason", "_parse",
        "_reasoning", "_scanner", "_shown_logprobs", "_stop_word", "_token_ids", "_tool_calls", "_usage",
        "done",
    )  # fmt: skip

    def __init__(
        self, stop_words: Sequence[str] = (), parse_tool_calls: ToolCallParser | None = None
    ) -> None:
        self._scanner = StopWordScanner(stop_words) if stop_words else None
        self._parse = parse_tool_calls
        self._buffer = TextBuffer()
        self._length = 0
        self._n_tokens: int | None = None
        self._finish_reason: FinishReason | None = None
        self._native_reason = ""
        self._stop_word: str | None = None
        self._usage: Usage | None = None
        self._token_ids: list[tuple[int, ...]] = []
        self._logprobs: list[tuple[TokenLogprob, ...]] = []
        self._shown_logprobs = 0
        self._tool_calls: tuple[ToolCall, ...] = ()
        self._reasoning: list[str] = []
        self.done = False

    @property
    def text(self) -> str:
        """The text so far, without what may still become a stop word."""
        return self._buffer.upto(self._length)

    def feed(self, piece: Piece) -> StreamChunk | None:
        """Take the next piece.

        Returns:
            A STREAM_ING chunk, or None when there is nothing new to show.
        """
        if piece.n_tokens is not None:
            self._n_tokens = piece.n_tokens
        if piece.token_ids:
            self._token_ids.append(piece.token_ids)
        if piece.logprobs:
            self._logprobs.append(piece.logprobs)
        if piece.reasoning:
            self._reasoning.append(piece.reasoning)
        if piece.tool_calls:
            self._tool_calls += piece.tool_calls
        if piece.usage is not None:
            self._usage = piece.usage
        text, scanner = piece.text, self._scanner
        if scanner is not None and text:
            text = scanner.feed(text)
        if scanner is not None and scanner.matched is not None:
            self._finish_reason, self._stop_word, self.done = "stop", scanner.matched, True
        elif piece.finish_reason is not None:
            self._finish_reason, self._stop_word, self.done = piece.finish_reason, piece.stop_word, True
            self._native_reason = piece.native_finish_reason
            if scanner is not None:
                text += scanner.flush()
        if not text:
            return None
        self._buffer.append(text)
        self._length += len(text)
        chunk = StreamChunk(ModelStatusCode.STREAM_ING, text, self._n_tokens, self._buffer, self._length)
        if self._logprobs:
            chunk.logprobs = self._new_logprobs()
        return chunk

    def finish(self) -> tuple[Completion, StreamChunk]:
        """The whole answer and the END chunk, after the last piece.

        Raises:
            StreamInterrupted: The pieces ended without a finish reason.
        """
        reason = self._finish_reason
        if reason is None:
            raise StreamInterrupted("the stream ended without its final marker")
        text, tool_calls = self.text, self._tool_calls
        content = text
        if self._parse is not None and not tool_calls:
            content, tool_calls = self._parse(text)
            if tool_calls and reason == "stop":
                reason = "tool_calls"
        completion = Completion(
            text=text,
            finish_reason=reason,
            stop_word=self._stop_word,
            usage=self._usage,
            token_ids=_concat(self._token_ids),
            logprobs=_concat(self._logprobs),
            tool_calls=tool_calls,
            reasoning="".join(self._reasoning),
            native_finish_reason=self._native_reason,
            content=content,
        )
        return completion, StreamChunk(
            ModelStatusCode.END,
            "",
            self._n_tokens,
            self._buffer,
            self._length,
            reason,
            self._usage,
            completion,
            logprobs=self._new_logprobs() if self._logprobs else (),
        )

    def release(self) -> str:
        """Add the text held back for a stop word to `text`, and return it: no piece follows."""
        held = "" if self._scanner is None else self._scanner.flush()
        self._buffer.append(held)
        self._length += len(held)
        return held

    def fail(self, error: LLMError, held: str = "") -> StreamChunk:
        """The chunk that ends a stream with ``on_error='status'``: negative status, partial text.

        Args:
            error: What ended it.
            held: What `release` has returned before.
        """
        held += self.release()
        return StreamChunk(error.status, held, self._n_tokens, self._buffer, self._length, error=error)

    def _new_logprobs(self) -> tuple[TokenLogprob, ...]:
        new, self._shown_logprobs = self._logprobs[self._shown_logprobs :], len(self._logprobs)
        return _concat(new)


def _concat(parts: list[tuple[_T, ...]]) -> tuple[_T, ...]:
    return tuple(chain.from_iterable(parts))
