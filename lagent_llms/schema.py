"""The data of a call: messages in, pieces of an answer out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, overload

from .errors import ModelStatusCode

__all__ = [
    "Completion",
    "FinishReason",
    "Message",
    "ParsedChunk",
    "Piece",
    "StreamChunk",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]

#: A chat message: ``role``, ``content``, and optionally ``name``, ``tool_calls``, ``tool_call_id``.
Message: TypeAlias = Mapping[str, Any]

#: Why an answer ended: an end token or a stop word, max_new_tokens, or calls of tools.
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]

#: Default of fields of `Completion` that equal its `text`.
_AS_TEXT: Any = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call.

    Attributes:
        prompt_tokens: Tokens of the prompt, history included.
        completion_tokens: Tokens generated.
        cached_tokens: Tokens of the prompt that came from a KV cache, None when the backend does not say.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token, its log-probability, and the best alternatives at its place.

    Attributes:
        token: Its text.
        token_id: Its id, None when the backend does not say.
        logprob: Natural logarithm of its probability under the model, before any filter.
        top: The most probable tokens there, best first, as (token, token_id, logprob).
    """

    token: str
    token_id: int | None
    logprob: float
    top: tuple[tuple[str, int | None, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that the model asks for.

    Attributes:
        name: The tool.
        arguments: Its arguments, decoded.
        id: The server's id of the call, '' when there is none.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str = ""

    def to_openai(self) -> dict[str, Any]:
        """The call in OpenAI's form: arguments as JSON text; no id if it has none."""
        arguments = json.dumps(dict(self.arguments), ensure_ascii=False)
        function = {"name": self.name, "arguments": arguments}
        return {**({"id": self.id} if self.id else {}), "type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A part of a tool call, as it arrives; the parts with one index, joined, are the call.

    Attributes:
        index: Place of the call among those of the answer.
        id: Its id, with one part; '' when there is none.
        name: The tool, with one part, usually the first.
        arguments: The next characters of the arguments, a JSON object.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)  # not frozen: freezing costs more than the rest of a piece's way to the caller
class Piece:
    """What a backend yields as the answer arrives: the raw text and what came with it.

    Attributes:
        text: New text; '' when only other fields are set.
        token_ids: The new tokens, () when the backend gives none.
        n_tokens: Tokens generated so far, None when unknown.
        finish_reason: Set on the last piece of a complete answer.
        stop_word: The stop word that matched, when the backend matched it.
        usage: Token counts, usually with the last piece.
        logprobs: One entry for each new token, () when not asked for.
        tool_calls: Tool calls the server parsed: parts of them as they arrive, then the whole ones; or only
            those.
        reasoning: New text of a reasoning channel that the server separates.
        native_finish_reason: See `Completion`.
        content: On the last piece: the whole text without its tool calls, where a server says that.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    n_tokens: int | None = None
    finish_reason: FinishReason | None = None
    stop_word: str | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall | ToolCallDelta, ...] = ()
    reasoning: str = ""
    native_finish_reason: str = ""
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    Attributes:
        text: The answer, without the stop word and without reasoning that was split off; tool calls stay in
            it as the model wrote them.
        finish_reason: 'stop', 'length' or 'tool_calls'.
        stop_word: The stop word that ended it, None when an end token or the length did.
        usage: Token counts, None when the backend does not say.
        token_ids: Tokens generated, () when the backend does not say.
        logprobs: One entry a token when asked for, else ().
        tool_calls: Tool calls found in the answer.
        reasoning: Text of the reasoning channel, '' when there is none.
        native_finish_reason: The server's own word for the end ('eos_token'), where it differs from
            `finish_reason`, which is 'stop' for an unknown word; 'refusal' if `text` is one.
        content: `text` without the tool calls that were parsed; equal to `text` unless given.
        raw_text: All text of the model, reasoning and its marks included, without the stop word; equal to
            `text` unless given.
        cached: Whether it is an earlier answer, from the backend's `cache`. Not compared.
        others: Further answers to the same input, with `n` of 2 or more. Not compared.
    """

    text: str
    finish_reason: FinishReason
    stop_word: str | None = None
    usage: Usage | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    native_finish_reason: str = ""
    content: str = _AS_TEXT
    raw_text: str = _AS_TEXT
    cached: bool = field(default=False, compare=False)
    others: tuple[Completion, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("content", "raw_text"):
            if getattr(self, name) is _AS_TEXT:
                object.__setattr__(self, name, self.text)

    @property
    def choices(self) -> tuple[Completion, ...]:
        """All answers to the input, this one first: as many as the call's `n`."""
        return (self, *self.others)

    def message(self) -> dict[str, Any]:
        """The answer as an assistant message in OpenAI's form, to append to the dialog.

        It has ``content`` (None if there are only tool calls), ``tool_calls`` and ``reasoning_content`` where
        the answer has any. A call without an id has none here either: where a server or a template needs
        ids, those of calls and their results are added when the messages are sent.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["content"] = self.content or None
            message["tool_calls"] = [call.to_openai() for call in self.tool_calls]
        return message


class TextBuffer:
    """Text that grows at its end; joined only when it is read.

    Attributes:
        append: Adds a part at the end.
    """

    __slots__ = ("_parts", "_text", "append")

    def __init__(self) -> None:
        self._text = ""
        self._parts: list[str] = []
        self.append: Callable[[str], None] = self._parts.append  # every chunk calls it

    def upto(self, end: int) -> str:
        """The first `end` characters."""
        if self._parts:
            self._text += "".join(self._parts)
            self._parts.clear()
        return self._text if end == len(self._text) else self._text[:end]


class StreamChunk(Sequence[Any]):
    """One step of a stream. Unpacks to (status, text so far, generated tokens or None), as lagent's loops do.

    The text so far is joined when it is read; a caller that reads only `delta` does not pay for it.

    Attributes:
        status: STREAM_ING, or END on the last chunk (negative with ``on_error='status'``).
        delta: The new text of this step.
        n_tokens: Tokens generated so far, None when the backend does not say.
        finish_reason: Why the answer ended; on the last chunk only.
        usage: Token counts; on the last chunk, when the backend says.
        completion: The whole answer; on the last chunk only, None after an error.
        error: The error that ended the stream with ``on_error='status'``.
        logprobs: One entry for each token that came since the chunk before, when asked for. A token may come
            before its text is shown (a stop word may have begun with it).
        reasoning: New reasoning that is no part of the text.
        tool_calls: New parts of tool calls.
    """

    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()

    __slots__ = (
        "_buffer",
        "_end",
        "completion",
        "delta",
        "error",
        "finish_reason",
        "logprobs",
        "n_tokens",
        "status",
        "usage",
    )

    def __init__(
        self,
        status: ModelStatusCode,
        delta: str,
        n_tokens: int | None,
        buffer: TextBuffer,
        end: int,
        finish_reason: FinishReason | None = None,
        usage: Usage | None = None,
        completion: Completion | None = None,
        error: Exception | None = None,
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        self.status = status
        self.delta = delta
        self.n_tokens = n_tokens
        self._buffer = buffer
        self._end = end
        self.finish_reason = finish_reason
        self.usage = usage
        self.completion = completion
        self.error = error
        self.logprobs = logprobs

    @property
    def text(self) -> str:
        """The text so far, this step's included."""
        return self._buffer.upto(self._end)

    @property
    def content(self) -> str:
        """The new text of this step without tool calls."""
        return self.delta

    def __iter__(self) -> Iterator[Any]:
        return iter((self.status, self._buffer.upto(self._end), self.n_tokens))

    def __len__(self) -> int:
        return 3

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (StreamChunk, tuple)):
            return tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"StreamChunk(status={self.status!r}, text={self.text!r}, n_tokens={self.n_tokens!r})"


class ParsedChunk(StreamChunk):
    """A step of an answer in which reasoning or tool calls are set apart from the content."""

    __slots__ = ("content", "reasoning", "tool_calls")

    content: str
