"""The messages of a dialog as plain data, as Jinja chat templates read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..schema import Message, ToolCall
from .base import text_of
from .reasoning import reasoning_of
from .tool_arguments import with_decoded_arguments

__all__ = ["call_names", "holds", "plain", "plain_message", "with_contents", "with_text"]

#: What a template that does not read parts writes in their place: Python's notation, or JSON.
NOTATIONS = ("'type': 'text'", '"type": "text"')


def plain_message(message: Message, index: int, where: str) -> dict[str, Any]:
    """Convert a message to plain data: reasoning under both names that templates read, arguments decoded.

    Keys with None (as OpenAI's SDK dumps) are omitted, as transformers 5 does: a template would write 'None'.
    """
    if (
        type(message) is dict
        and len(message) == 2
        and type(message.get("content")) is str
        and type(message.get("role")) is str
    ):
        return message  # the sandbox does not let a template change it
    given = with_decoded_arguments(plain(message))
    made: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if "content" in made:
        text = text_of(message, index, where)  # checks the type of the content and of its parts
        parts = made["content"]
        if not (isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts)):
            made["content"] = text
    reasoning = reasoning_of(made)
    return made if reasoning is None else {"thinking": reasoning, **made, "reasoning_content": reasoning}


def with_text(message: dict[str, Any], index: int, where: str) -> dict[str, Any]:
    """`message` with text as its content, for a template that does not read parts."""
    parts = isinstance(message.get("content"), list)
    return {**message, "content": text_of(message, index, where)} if parts else message


def call_names(chat: Sequence[dict[str, Any]]) -> list[str]:
    """The names of all functions that are called."""
    calls = [call for message in chat for call in message.get("tool_calls") or ()]
    return [str(call.get("function", call)["name"]) for call in calls]


def with_contents(chat: Sequence[dict[str, Any]], content: str | None) -> list[dict[str, Any]] | None:
    """The dialog with `content` in calls without one; None if it has none of these."""
    made = [
        {**message, "content": content} if message.get("tool_calls") and "content" not in message else message
        for message in chat
    ]
    return None if made == [*chat] else made


def holds(text: str, parts: Sequence[Mapping[str, Any]]) -> bool:
    """True if a template has written the texts of `parts`, and not a notation of the parts themselves."""
    return not any(mark in text for mark in NOTATIONS) and all(part["text"].strip() in text for part in parts)


def plain(value: Any) -> Any:
    """Convert `value` to plain JSON types, so that a template cannot call methods of objects."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, ToolCall):
        return value.to_openai()
    if callable(dump := getattr(value, "model_dump", None)):
        return plain(dump())
    return f"<{type(value).__name__}>"
