"""The messages and content blocks of the Messages API as messages of a chat. Pure."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ... import validators
from ...errors import InvalidArgument
from ..dialogs import Dialog
from .schemas import CountTokensRequest

__all__ = ["messages_of"]

_ROLES = ("user", "assistant", "system")


def messages_of(body: CountTokensRequest, *, images: bool = False) -> list[dict[str, Any]]:
    """The messages of a request, its system prompt first.

    Args:
        body: The request.
        images: True if the backend takes images.

    Raises:
        InvalidArgument: A message or a block is malformed, or is not supported.
        UnsupportedParameter: There is an image, and the backend takes none.
    """
    dialog = Dialog(images=images)
    if body.system:
        dialog.say("system", [_texts(body.system, "system", "system")])
    for index, message in enumerate(body.messages):
        where, role = f"messages[{index}]", message.get("role")
        if role not in _ROLES:
            _refuse(f"{where}.role", role, "'user' or 'assistant'")
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list):
            _refuse(f"{where}.content", content, "a string or a list of blocks")
        _add(dialog, role, blocks, f"{where}.content")
    return dialog.finished()


def _add(dialog: Dialog, role: str, blocks: list[Any], where: str) -> None:
    """Add the blocks of one message: results of tools as messages of their own, before the rest."""
    parts: list[str | dict[str, Any]] = []
    calls: list[tuple[str, str, str]] = []
    reasoning: list[str] = []
    results = False
    for number, block in enumerate(blocks):
        place = f"{where}[{number}]"
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            parts.append(_string(block, "text", place))
        elif kind == "image" and role == "user":
            parts.append(dialog.image(_image_url(block, place), f"{place}.source", "messages"))
        elif kind == "tool_result" and role == "user":
            identifier = _string(block, "tool_use_id", place)
            dialog.result(identifier, _texts(block.get("content") or "", f"{place}.content", "messages"))
            results = True
        elif kind == "tool_use" and role == "assistant":
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            calls.append((_string(block, "id", place), _string(block, "name", place), arguments))
        elif kind == "thinking" and role == "assistant":
            reasoning.append(_string(block, "thinking", place))
        elif kind != "redacted_thinking":
            allowed = "'text', 'tool_use' or 'thinking'" if role == "assistant" else "'text' or 'image'"
            _refuse(f"{place}.type", kind, allowed + (" or 'tool_result'" if role == "user" else ""))
    if parts or not (calls or reasoning or results):
        dialog.say(role, parts)
    if reasoning:
        dialog.reason("".join(reasoning))
    for call in calls:
        dialog.call(*call)


def _texts(content: Any, where: str, argument: str) -> str:
    """The text of a string or of a list of text blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        _refuse(where, content, "a string or a list of text blocks", argument)
    texts = []
    for number, block in enumerate(content):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind != "text":
            _refuse(f"{where}[{number}].type", kind, "'text'", argument)
        texts.append(_string(block, "text", f"{where}[{number}]", argument))
    return "\n".join(texts)


def _image_url(block: dict[str, Any], where: str) -> Any:
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if not isinstance(source, dict) or kind not in ("url", "base64"):
        _refuse(f"{where}.source.type", kind, "'base64' or 'url'")
    if kind == "url":
        return source.get("url")
    return f"data:{source.get('media_type')};base64,{source.get('data')}"


def _string(block: dict[str, Any], key: str, where: str, argument: str = "messages") -> str:
    value = block.get(key)
    if not isinstance(value, str):
        _refuse(f"{where}.{key}", value, "a string", argument)
    return value


def _refuse(where: str, value: Any, allowed: str, argument: str = "messages") -> NoReturn:
    raise InvalidArgument(f"{where}={validators.shown(value)}: allowed is {allowed}", argument=argument)
