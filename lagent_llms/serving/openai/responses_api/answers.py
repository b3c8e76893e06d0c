"""Response objects and stream events of the Responses API. Pure."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from ....schema import Completion, StreamChunk, Usage
from ...answer_parts import Change, Part, PartStream, parts_of
from ...error_responses import ErrorResponse
from ...event_stream import event
from .schemas import ResponsesRequest

__all__ = ["Answer", "Events"]

#: Types of an item's id, and of the item; by the kind of a part.
_ITEMS = {"reasoning": ("rs", "reasoning"), "text": ("msg", "message"), "call": ("fc", "function_call")}


class Answer:
    """Makes the response objects of one request.

    Args:
        body: The request.
        model: The model's name.

    Attributes:
        id: The id of the response.
    """

    def __init__(self, body: ResponsesRequest, model: str) -> None:
        self.id = f"resp_{uuid.uuid4().hex}"
        form = {"type": "text"} if body.text is None or body.text.format is None else body.text.format
        self._fields: dict[str, Any] = {
            "id": self.id,
            "object": "response",
            "created_at": int(time.time()),
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": model,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": body.reasoning,
            "store": body.store is not False,
            "temperature": body.temperature,
            "text": {"format": form},
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_p": body.top_p,
            "truncation": "disabled",
        }

    def begun(self) -> dict[str, Any]:
        """The response before its first item."""
        return {**self._fields, "status": "in_progress", "output": [], "usage": None}

    def finished(self, completion: Completion, parts: list[Part] | None = None) -> dict[str, Any]:
        """The whole response; `parts` are those of `completion`, if they were streamed."""
        cut = completion.finish_reason == "length"
        given = parts_of(completion, self.id) if parts is None else parts
        items = [self.item(part) for part in given]
        status = "incomplete" if cut else "completed"
        if cut and items:
            items[-1]["status"] = status
        return {
            **self._fields,
            "status": status,
            "completed_at": None if cut else int(time.time()),
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": items,
            "usage": _usage(completion.usage),
        }

    def item(self, part: Part, *, begun: bool = False) -> dict[str, Any]:
        """An item of the output, whole or as it begins."""
        prefix, kind = _ITEMS[part.kind]
        item: dict[str, Any] = {
            "id": f"{prefix}_{self.id[5:]}{part.index:02d}",
            "type": kind,
            "status": "in_progress" if begun else "completed",
        }
        if part.kind == "call":
            arguments = "" if begun else part.text or "{}"
            return {**item, "call_id": part.id, "name": part.name, "arguments": arguments}
        content = [] if begun else [content_of(part, part.text)]
        if part.kind == "reasoning":
            return {**item, "summary": [], "content": content}
        return {**item, "role": "assistant", "content": content}


def content_of(part: Part, text: str) -> dict[str, Any]:
    """The content of a message or of reasoning."""
    if part.kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class Events:
    """Writes a stream as the events of the Responses API; see `Encoder`.

    Args:
        answer: Makes the response objects.
        keep: Called with the whole response before its last event is sent.
    """

    def __init__(self, answer: Answer, keep: Callable[[dict[str, Any]], None]) -> None:
        self._answer, self._keep = answer, keep
        self._parts = PartStream(answer.id)
        self._number = -1

    def chunk(self, chunk: StreamChunk) -> Iterator[str]:
        """See `Encoder.chunk`."""
        if self._number < 0:
            for kind in ("response.created", "response.in_progress"):
                yield self._event(kind, response=self._answer.begun())
        for change in self._parts.feed(chunk):
            yield from self._change(change)

    def end(self, completion: Completion) -> Iterator[str]:
        """See `Encoder.end`."""
        for change in self._parts.end():
            yield from self._change(change)
        response = self._answer.finished(completion, self._parts.parts)
        self._keep(response)
        yield self._event(f"response.{response['status']}", response=response)

    def error(self, response: ErrorResponse) -> str:
        """See `Encoder.error`; the error is there twice, for clients that look at either place."""
        found = response.body["error"]
        shown = {key: found[key] for key in ("code", "message", "param")}
        return self._event("error", **shown, error=found)

    def _change(self, change: Change) -> Iterator[str]:
        part = change.part
        item = self._answer.item(part, begun=change.action == "open")
        of_item = {"item_id": item["id"], "output_index": part.index}
        of_content = {**of_item, "content_index": 0}
        is_call, name = part.kind == "call", "output_text" if part.kind == "text" else "reasoning_text"
        if change.action == "open":
            yield self._event("response.output_item.added", output_index=part.index, item=item)
            if not is_call:
                empty = content_of(part, "")
                yield self._event("response.content_part.added", **of_content, part=empty)
        elif change.action == "add" and is_call:
            yield self._event("response.function_call_arguments.delta", **of_item, delta=change.text)
        elif change.action == "add":
            extra: dict[str, Any] = {"logprobs": []} if part.kind == "text" else {}
            yield self._event(f"response.{name}.delta", **of_content, delta=change.text, **extra)
        else:
            if is_call:
                done = {"name": part.name, "arguments": item["arguments"]}
                yield self._event("response.function_call_arguments.done", **of_item, **done)
            else:
                content = item["content"][0]
                extra = {"logprobs": []} if part.kind == "text" else {}
                yield self._event(f"response.{name}.done", **of_content, text=content["text"], **extra)
                yield self._event("response.content_part.done", **of_content, part=content)
            yield self._event("response.output_item.done", output_index=part.index, item=item)

    def _event(self, kind: str, **fields: Any) -> str:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number, **fields}, named=True)


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
