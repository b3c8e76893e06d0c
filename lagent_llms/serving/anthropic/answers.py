"""Messages and stream events of the Messages API. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator
from typing import Any

from ...schema import Completion, StreamChunk, Usage
from ..answer_parts import Change, Part, PartStream, parts_of
from ..error_responses import ErrorResponse
from ..event_stream import event
from .errors import error_body

__all__ = ["Answer", "Events"]

_DELTAS = {
    "text": ("text_delta", "text"),
    "reasoning": ("thinking_delta", "thinking"),
    "call": ("input_json_delta", "partial_json"),
}


class Answer:
    """Makes the messages of one request.

    Args:
        model: The model's name.
        stop_sequences: The stop words of the request.
        request_id: The id of the request.
    """

    def __init__(self, model: str, stop_sequences: Collection[str], request_id: str) -> None:
        self.id = f"msg_{uuid.uuid4().hex}"
        self.request_id = request_id
        self._model, self._stop_sequences = model, stop_sequences

    def message(self, completion: Completion | None = None) -> dict[str, Any]:
        """The whole message, or without `completion` the message before its first block."""
        blocks = [] if completion is None else [block(part) for part in parts_of(completion, self.id)]
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": blocks,
            **self.stop(completion),
            "usage": usage_of(None if completion is None else completion.usage),
        }

    def stop(self, completion: Completion | None) -> dict[str, Any]:
        """Why the message ended."""
        if completion is None:
            return {"stop_reason": None, "stop_sequence": None}
        if completion.stop_word in self._stop_sequences:
            return {"stop_reason": "stop_sequence", "stop_sequence": completion.stop_word}
        reason = {"length": "max_tokens", "tool_calls": "tool_use"}.get(completion.finish_reason, "end_turn")
        if completion.native_finish_reason == "refusal":
            reason = "refusal"
        return {"stop_reason": reason, "stop_sequence": None}


def block(part: Part, *, begun: bool = False) -> dict[str, Any]:
    """A content block, whole or as it begins."""
    text = "" if begun else part.text
    if part.kind == "call":
        arguments = json.loads(text) if text else {}
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
    if part.kind == "reasoning":
        return {"type": "thinking", "thinking": text, "signature": ""}
    return {"type": "text", "text": text}


class Events:
    """Writes a stream as the events of the Messages API; see `Encoder`."""

    def __init__(self, answer: Answer) -> None:
        self._answer, self._parts = answer, PartStream(answer.id)
        self._begun = False

    def chunk(self, chunk: StreamChunk) -> Iterator[str]:
        """See `Encoder.chunk`."""
        if not self._begun:
            self._begun = True
            yield _event("message_start", message=self._answer.message())
        for change in self._parts.feed(chunk):
            yield _change(change)

    def end(self, completion: Completion) -> Iterator[str]:
        """See `Encoder.end`."""
        for change in self._parts.end():
            yield _change(change)
        yield _event("message_delta", delta=self._answer.stop(completion), usage=usage_of(completion.usage))
        yield _event("message_stop")

    def error(self, response: ErrorResponse) -> str:
        """See `Encoder.error`."""
        return event(error_body(response.status, response.body, self._answer.request_id), named=True)


def _change(change: Change) -> str:
    part = change.part
    if change.action == "open":
        return _event("content_block_start", index=part.index, content_block=block(part, begun=True))
    if change.action == "close":
        return _event("content_block_stop", index=part.index)
    kind, key = _DELTAS[part.kind]
    return _event("content_block_delta", index=part.index, delta={"type": kind, key: change.text})


def usage_of(usage: Usage | None) -> dict[str, int]:
    """The token counts; Anthropic counts cached tokens apart. Zeros where the backend reports none."""
    usage = usage or Usage(0, 0)
    cached = usage.cached_tokens or 0
    return {
        "input_tokens": usage.prompt_tokens - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    }


def _event(kind: str, **fields: Any) -> str:
    return event({"type": kind, **fields}, named=True)
