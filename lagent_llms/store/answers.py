"""An answer as it is stored: the completion and the steps in which its caller saw it. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import msgspec

from ..schema import Completion, StreamChunk, ToolCallDelta

__all__ = ["DAMAGED", "Step", "StoredAnswer", "completion_fields", "pack", "unpack"]

#: What `unpack` raises for damaged data.
DAMAGED = (zlib.error, msgspec.DecodeError, UnicodeError, RecursionError, MemoryError)
_LEVEL = 1  # of compression: a fraction of a millisecond for a long answer
#: Most bytes of an answer.
_LONGEST = 1 << 28


class Step(NamedTuple):
    """What one chunk of a stream has shown.

    Attributes:
        delta: See `StreamChunk`.
        n_tokens: See `StreamChunk`.
        logprobs: Number of entries of the completion's logprobs that came with it.
        content: See `StreamChunk`; None where it equals `delta` and nothing was set apart.
        reasoning: See `StreamChunk`.
        tool_calls: See `StreamChunk`.
    """

    delta: str
    n_tokens: int | None = None
    logprobs: int = 0
    content: str | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()

    @classmethod
    def of(cls, chunk: StreamChunk) -> Step:
        """The step of a chunk."""
        content = None
        if chunk.content != chunk.delta or chunk.reasoning or chunk.tool_calls:
            content = chunk.content
        return cls(
            chunk.delta, chunk.n_tokens, len(chunk.logprobs), content, chunk.reasoning, chunk.tool_calls
        )


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer and its steps.

    Attributes:
        steps: One for each chunk of the stream; of a whole answer, the last is that of the END chunk.
        completion: The whole answer, None if it was interrupted.
    """

    steps: tuple[Step, ...] = ()
    completion: Completion | None = None


_DEFAULTS = {item.name: item.default for item in fields(Completion)}
_decode = msgspec.json.Decoder(StoredAnswer).decode


def pack(steps: Sequence[Step], completion: Mapping[str, Any] | None) -> bytes:
    """Encode an answer: JSON, compressed.

    Args:
        steps: Its steps.
        completion: The `completion_fields`, None if it was interrupted.

    Raises:
        ValueError: A text in it is no valid Unicode.
        TypeError: A value in it cannot be JSON.
    """
    answer = {"steps": [_short(step) for step in steps], "completion": completion}
    return zlib.compress(msgspec.json.encode(answer), _LEVEL)


def unpack(data: bytes) -> StoredAnswer:
    """Decode an answer.

    Raises:
        DAMAGED: The data is no answer.
    """
    decompressor = zlib.decompressobj()
    text = decompressor.decompress(data, _LONGEST)
    if not decompressor.eof:
        raise msgspec.DecodeError("the data is cut off, or too long")
    return _decode(text)


def completion_fields(completion: Completion) -> dict[str, Any]:
    """The fields of a completion that differ from their defaults, as values of JSON."""
    found = {name: getattr(completion, name) for name in _DEFAULTS}
    as_text = {"content": completion.text, "raw_text": completion.text}
    del found["cached"]
    return {name: value for name, value in found.items() if value != as_text.get(name, _DEFAULTS[name])}


def _short(step: Step) -> tuple[Any, ...]:
    """The step without the defaults at its end."""
    return step if step.tool_calls or step.content is not None else step[: 3 if step.logprobs else 2]
