"""The messages of a dialog as plain data, as Jinja chat templates read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..schema import Message
from .base import text_of

__all__ = ["holds", "plain", "plain_message", "with_text"]

#: Keys of a message's reasoning; most templates read the first, gpt-oss the second.
REASONING = ("reasoning_content", "thinking", "reasoning")
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
    made: dict[str, Any] = {key: value for key, value in plain(message).items() if value is not None}
    if isinstance(calls := made.get("tool_calls"), list):
        for call in calls:
            _decode_arguments(call)
    if "content" in made:
        text = text_of(message, index, where)  # checks the type of the content and of its parts
        parts = made["content"]
        if not (isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts)):
            made["content"] = text
    reasoning = next((made[key] for key in REASONING if made.get(key) is not None), None)
    return made if reasoning is None else {"thinking": reasoning, **made, "reasoning_content": reasoning}


def with_text(message: dict[str, Any], index: int, where: str) -> dict[str, Any]:
    """`message` with text as its content, for a template that does not read parts."""
    parts = isinstance(message.get("content"), list)
    return {**message, "content": text_of(message, index, where)} if parts else message


def holds(text: str, parts: Sequence[Mapping[str, Any]]) -> bool:
    """True if a template has written the texts of `parts`, and not a notation of the parts themselves."""
    return not any(mark in text for mark in NOTATIONS) and all(part["text"].strip() in text for part in parts)


def _decode_arguments(call: object) -> None:
    """Decode the arguments of a tool call if they are a JSON object as a string: templates encode them."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if isinstance(function, dict) and isinstance(arguments := function.get("arguments"), str):
        from ..untrusted import DECODE_ERRORS, read_json  # here: slow to import, and rarely needed

        with suppress(*DECODE_ERRORS):
            decoded = read_json(arguments)
            function["arguments"] = decoded if isinstance(decoded, dict) else arguments


def plain(value: Any) -> Any:
    """Convert `value` to plain JSON types, so that a template cannot call methods of objects."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return f"<{type(value).__name__}>"
