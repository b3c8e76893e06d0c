"""Find out how the models of a chat template write calls of tools: a parser that reads what it renders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...errors import LLMError
from .calls import CallReader
from .formats import CALL_FORMATS, CallFormat, format_in

__all__ = ["detect_format"]

_NAME = "look_up"
_ARGUMENTS = {"city": "Zürich", "days": 3, "options": {"units": ["C", True]}}
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "options": {"type": "object"}},
}
_TOOLS = [{"type": "function", "function": {"name": _NAME, "description": "Look up.", "parameters": _SCHEMA}}]
_CALL = {"id": "call12345", "type": "function", "function": {"name": _NAME, "arguments": _ARGUMENTS}}
_QUESTION = {"role": "user", "content": "Question"}
_RESULT = {"role": "tool", "tool_call_id": "call12345", "name": _NAME, "content": "Result"}


def detect_format(render: Callable[..., str], source: str) -> CallFormat | None:
    """The format of calls in a template.

    A call is rendered, and the parser that reads it back, leaving the least text, is that of the template;
    where none does, or the template renders no calls, the marks in its source decide.

    Args:
        render: Renders messages, as `ChatTemplate.render`.
        source: Source of the template.
    """
    for text in _rendered_calls(render):
        left = {marks: rest for marks in CALL_FORMATS.values() if (rest := _left(marks, text)) is not None}
        if left:
            return min(left, key=left.__getitem__)
    return format_in(source)


def _left(marks: CallFormat, text: str) -> int | None:
    """How much text is left beside the call, None if it is not read back."""
    reader = CallReader(marks, _TOOLS)
    content, _ = reader.feed(text, final=True)
    read = [(call.name, call.arguments) for call in reader.calls]
    return len(content) if read == [(_NAME, _ARGUMENTS)] else None


def _rendered_calls(render: Callable[..., str]) -> Iterator[str]:
    """What the template writes for a call, after the prompt that asks for it."""
    variants: list[tuple[str | None, Any]] = [(None, None), ("", None), (None, _TOOLS), ("", _TOOLS)]
    for content, tools in variants:
        answer = {"role": "assistant", "content": content, "tool_calls": [_CALL]}
        try:
            prompt = render([_QUESTION], tools=tools)
            whole = render([_QUESTION, answer, _RESULT], tools=tools)
        except LLMError:
            continue
        pairs = enumerate(zip(prompt, whole, strict=False))
        text = whole[next((at for at, (one, other) in pairs if one != other), len(prompt)) :]
        if _NAME in text:
            yield text
