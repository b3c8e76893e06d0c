"""Turn the pieces of a backend into the chunks of a caller. Pure: no I/O, shared by sync and async.

It enforces stop words, keeps the text so far, and distinguishes a complete answer from an interrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, TypeVar

from ..errors import LLMError, ModelStatusCode, StreamInterrupted
from ..schema import (
    Completion,
    FinishReason,
    ParsedChunk,
    Piece,
    StreamChunk,
    TextBuffer,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from .stop_words import StopWordScanner

if TYPE_CHECKING:
    from ..templates.answers.reader import AnswerReader

__all__ = ["Answer"]

_T = TypeVar("_T")
_STREAM_ING = ModelStatusCode.STREAM_ING  # looking up a member costs as much as the rest of a check


class Answer:
    """The answer of one call as it grows.

    Args:
        stop_words: Where to cut what the model writes, its reasoning included.
        reader: Splits off reasoning and finds tool calls, None to look for neither.

    Attributes:
        done: Whether the answer is complete: the backend finished, or a stop word was found.
    """

    __slots__ = (
        "_buffer", "_content", "_finish_reason", "_has_deltas", "_last", "_length", "_logprobs",
        "_n_tokens", "_native_reason", "_reader", "_reasoning", "_scanner", "_shown_logprobs", "_stop_word",
        "_token_ids", "_tool_calls", "_usage", "done",
    )  # fmt: skip

    def __init__(self, stop_words: Sequence[str] = (), reader: AnswerReader | None = None) -> None:
        self._scanner = StopWordScanner(stop_words) if stop_words else None
        self._reader = reader
        self._buffer = TextBuffer()
        self._length = 0
        self._n_tokens: int | None = None
        self._finish_reason: FinishReason | None = None
        self._native_reason = ""
        self._content: str | None = None
        self._stop_word: str | None = None
        self._usage: Usage | None = None
        self._token_ids: list[tuple[int, ...]] = []
        self._logprobs: list[tuple[TokenLogprob, ...]] = []
        self._shown_logprobs = 0
        self._tool_calls: tuple[ToolCall, ...] = ()
        self._has_deltas = False  # the server sends calls in parts
        #: Reasoning, content and parts of calls that end the answer without text, for the END chunk.
        self._last: tuple[str, str, tuple[ToolCallDelta, ...]] | None = None
        self._reasoning: list[str] = []
        self.done = False

    @property
    def text(self) -> str:
        """The text so far, without what may still become a stop word."""
        return self._buffer.upto(self._length)

    @property
    def n_tokens(self) -> int | None:
        """Tokens generated so far, None when the backend does not say."""
        return self._n_tokens

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
        if piece.usage is not None:
            self._usage = piece.usage
        text, scanner = piece.text, self._scanner
        if scanner is not None:
            if text:
                text = scanner.feed(text)
            if scanner.matched is not None:
                self._finish_reason, self._stop_word, self.done = "stop", scanner.matched, True
            elif piece.finish_reason is not None:
                self._end(piece)
                text += scanner.flush()
        elif piece.finish_reason is not None:
            self._end(piece)
        reader = self._reader
        if piece.reasoning or piece.tool_calls:
            return self._feed_parsed(piece, text)
        if reader is not None and (self.done or not reader.take_plain(text)):
            return self._feed_parsed(piece, text)
        if not text:
            return None
        self._buffer.append(text)
        self._length += len(text)
        chunk = StreamChunk(_STREAM_ING, text, self._n_tokens, self._buffer, self._length)
        if self._logprobs:
            chunk.logprobs = self._new_logprobs()
        return chunk

    def _end(self, piece: Piece) -> None:
        self._finish_reason, self._stop_word, self.done = piece.finish_reason, piece.stop_word, True
        self._native_reason = piece.native_finish_reason
        self._content = piece.content

    def _feed_parsed(self, piece: Piece, text: str) -> StreamChunk | None:
        """Take a piece of an answer that is read, or in which a server sets reasoning and calls apart."""
        reasoning, content = piece.reasoning, text
        deltas: tuple[ToolCallDelta, ...] = ()
        if piece.tool_calls:
            deltas = self._take_calls(piece.tool_calls)
        if self._reader is not None and (text or self.done):
            read = self._reader.feed(text, final=self.done)
            text, content = read.text, read.content
            reasoning += read.reasoning
            deltas += read.deltas
        if reasoning:
            self._reasoning.append(reasoning)
        if not (text or content or reasoning or deltas):
            return None
        if self.done and not text:
            self._last = reasoning, content, deltas
            return None
        self._buffer.append(text)
        self._length += len(text)
        chunk = ParsedChunk(_STREAM_ING, text, self._n_tokens, self._buffer, self._length)
        chunk.reasoning, chunk.content, chunk.tool_calls = reasoning, content, deltas
        if self._logprobs:
            chunk.logprobs = self._new_logprobs()
        return chunk

    def _take_calls(self, given: tuple[ToolCall | ToolCallDelta, ...]) -> tuple[ToolCallDelta, ...]:
        """Take calls that a server parsed; return their parts."""
        deltas = tuple(call for call in given if isinstance(call, ToolCallDelta))
        self._has_deltas = self._has_deltas or bool(deltas)
        calls = tuple(call for call in given if isinstance(call, ToolCall))
        if not self._has_deltas:
            deltas = tuple(map(_whole_delta, count(len(self._tool_calls)), calls))
        self._tool_calls += calls
        return deltas

    def finish(self) -> tuple[Completion, StreamChunk]:
        """The whole answer and the END chunk, after the last piece.

        Raises:
            StreamInterrupted: The pieces ended without a finish reason.
        """
        reason = self._finish_reason
        if reason is None:
            raise StreamInterrupted("the stream ended without its final marker")
        text, tool_calls, reader = self.text, self._tool_calls, self._reader
        content = raw_text = text
        if self._content is not None:
            content = self._content
        if reader is not None:
            raw_text = reader.raw
            if not tool_calls:  # the server looked for none
                content, tool_calls = reader.content, reader.calls
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
            raw_text=raw_text,
        )
        chunk = (StreamChunk if self._last is None else ParsedChunk)(
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
        if self._last is not None:
            assert isinstance(chunk, ParsedChunk)
            chunk.reasoning, chunk.content, chunk.tool_calls = self._last
        return completion, chunk

    def release(self) -> str:
        """Add the text held back to `text`, and return it: no piece follows."""
        held = "" if self._scanner is None else self._scanner.flush()
        if self._reader is not None:
            read = self._reader.feed(held, final=True)
            held = read.text
            self._reasoning.append(read.reasoning)
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


def _whole_delta(index: int, call: ToolCall) -> ToolCallDelta:
    return ToolCallDelta(index, call.id, call.name, json.dumps(dict(call.arguments), ensure_ascii=False))


def _concat(parts: list[tuple[_T, ...]]) -> tuple[_T, ...]:
    return tuple(chain.from_iterable(parts))
