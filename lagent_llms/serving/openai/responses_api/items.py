"""The items of the Responses API (messages, reasoning, calls, outputs) as messages of a chat. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from .... import validators
from ....errors import InvalidArgument
from ...dialogs import Dialog

__all__ = ["messages_of"]

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXT_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def messages_of(
    items: str | Sequence[dict[str, Any]], *, images: bool = False, field: str = "input"
) -> list[dict[str, Any]]:
    """The messages of a request's items.

    Args:
        items: The items; a string is the text of a user.
        images: True if the backend takes images.
        field: Where the items come from, for errors.

    Raises:
        InvalidArgument: An item or a part of one is malformed, or is not supported.
        UnsupportedParameter: There is an image, and the backend takes none.
    """
    dialog = Dialog(images=images)
    for index, item in enumerate([{"role": "user", "content": items}] if isinstance(items, str) else items):
        _add(dialog, item, f"{field}[{index}]", field)
    return dialog.finished()


def _add(dialog: Dialog, item: dict[str, Any], where: str, field: str) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        role = _ROLES.get(str(item.get("role")))
        if role is None:
            _refuse(f"{where}.role", item.get("role"), f"one of {', '.join(map(repr, _ROLES))}", field)
        dialog.say(role, _parts(dialog, item.get("content"), f"{where}.content", field))
    elif kind == "reasoning":
        # A summary is no reasoning of the model.
        dialog.reason("".join(map(str, _parts(dialog, item.get("content") or [], f"{where}.content", field))))
    elif kind == "function_call":
        identifier, name, arguments = (
            _text(item, key, where, field) for key in ("call_id", "name", "arguments")
        )
        dialog.call(identifier, name, arguments or "{}")
    elif kind == "function_call_output":
        identifier = _text(item, "call_id", where, field)
        parts = _parts(dialog, item.get("output"), f"{where}.output", field)
        if not all(isinstance(part, str) for part in parts):
            _refuse(f"{where}.output", "an image", "text", field)
        dialog.result(identifier, "".join(map(str, parts)))
    else:
        _refuse(
            f"{where}.type",
            kind,
            "'message', 'reasoning', 'function_call' or 'function_call_output'",
            field,
        )


def _parts(dialog: Dialog, content: Any, where: str, field: str) -> list[str | dict[str, Any]]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        _refuse(where, content, "a string or a list of parts", field)
    parts: list[str | dict[str, Any]] = []
    for number, part in enumerate(content):
        place = f"{where}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "reasoning_text" or kind in _TEXT_PARTS:
            parts.append(_text(part, _TEXT_PARTS.get(kind, "text"), place, field))
        elif kind == "input_image":
            parts.append(dialog.image(part.get("image_url"), f"{place}.image_url", field))
        else:
            _refuse(f"{place}.type", kind, "'input_text', 'output_text' or 'input_image'", field)
    return parts


def _text(item: dict[str, Any], key: str, where: str, field: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        _refuse(f"{where}.{key}", value, "a string", field)
    return value


def _refuse(where: str, value: Any, allowed: str, field: str) -> NoReturn:
    raise InvalidArgument(f"{where}={validators.shown(value)}: allowed is {allowed}", argument=field)
