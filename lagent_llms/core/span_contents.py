"""Prompts and answers as JSON text, in the form that messages have in spans of generative AI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..messages import RESULT_ROLES
from ..schema import Completion, Message
from .request import Request

__all__ = ["answer", "question"]


def question(request: Request) -> str:
    """The value of ``gen_ai.input.messages``; a bare prompt is the text of a user."""
    messages = request.messages
    if messages is None:
        messages = [{"role": "user", "content": request.prompt}]
    return _json([{"role": message["role"], "parts": _parts(message)} for message in messages])


def answer(completion: Completion) -> str:
    """The value of ``gen_ai.output.messages``."""
    message = {"role": "assistant", "parts": _parts(completion.message())}
    return _json([{**message, "finish_reason": completion.finish_reason}])


def _parts(message: Message) -> list[dict[str, Any]]:
    """The parts of a message; of images, audio and files only the type."""
    content = message.get("content")
    if message["role"] in RESULT_ROLES:
        return [
            {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": _plain(content)}
        ]
    parts: list[dict[str, Any]] = []
    if reasoning := message.get("reasoning_content"):
        parts.append({"type": "reasoning", "content": reasoning})
    given: Any = [content] if isinstance(content, str) else content or ()
    for part in given:
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(text, str):
            parts += [{"type": "text", "content": text}] if text else []
        else:
            parts.append({"type": str(part.get("type", "unknown"))})
    for call in message.get("tool_calls") or ():
        function = call["function"]
        parts.append(
            {
                "type": "tool_call",
                "id": call.get("id"),
                "name": function["name"],
                "arguments": function["arguments"],
            }
        )
    return parts


def _plain(content: Any) -> Any:
    """The result of a tool; parts that are no text without their data."""
    if isinstance(content, (list, tuple)):
        return [
            part["text"] if isinstance(part, Mapping) and "text" in part else _kind(part) for part in content
        ]
    return content


def _kind(part: Any) -> Any:
    return part if isinstance(part, str) else {"type": str(part.get("type", "unknown"))}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr).encode("utf-8", "backslashreplace").decode()
