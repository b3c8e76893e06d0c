"""The arguments of tool calls as chat templates take them: decoded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from ..schema import Message

__all__ = ["decoded_arguments", "with_decoded_arguments"]


class Arguments(dict[str, Any]):
    """Decoded arguments of a call. As text, and where they are added to text, they are JSON.

    A template that writes them in this way expects OpenAI's wire form.
    """

    __slots__ = ("_json",)

    def __init__(self, decoded: Mapping[str, Any], text: str | None = None) -> None:
        super().__init__(decoded)
        self._json = text

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False) if self._json is None else self._json

    def __add__(self, other: str) -> str:
        return str(self) + other

    def __radd__(self, other: str) -> str:
        return other + str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Arguments, ({**self}, self._json)


def with_decoded_arguments(message: Message) -> Message:
    """A message whose tool calls have decoded arguments, as chat templates take them."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [*map(_decoded, calls)]} if isinstance(calls, (list, tuple)) else message


def _decoded(call: Any) -> Any:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or "arguments" not in function:
        return call
    function = {**function, "arguments": decoded_arguments(function["arguments"])}
    return {**call, "function": function} if "function" in call else function


def decoded_arguments(arguments: object) -> object:
    """Decode the arguments of a tool call if they are a JSON object as a string: templates encode them."""
    if isinstance(arguments, Mapping):
        return Arguments(arguments)
    if isinstance(arguments, str):
        from ..untrusted import DECODE_ERRORS, read_json  # here: slow to import, and rarely needed

        with contextlib.suppress(*DECODE_ERRORS):
            decoded = read_json(arguments)
            return Arguments(decoded, arguments) if isinstance(decoded, dict) else arguments
    return arguments
