"""Collect the tool calls of one answer from the parts in which servers send them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..schema import ToolCallDelta
from .openai_response import FunctionCall, ToolCallFields

__all__ = ["ToolCallCollector"]


class _Call:
    __slots__ = ("arguments", "id", "index", "name", "named_again")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = self.name = ""
        self.named_again = False  # parts repeat the name
        self.arguments: list[str] = []


class ToolCallCollector:
    """The tool calls of one answer.

    Parts with one index belong together, but some servers send equal indexes or none for calls in parallel: a
    part with another id and a name, or with another name, begins a call.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._latest: dict[int | None, _Call] = {}  # by index
        self._by_id: dict[str, _Call] = {}

    def add(self, deltas: Sequence[ToolCallFields]) -> tuple[ToolCallDelta, ...]:
        """Add the parts of one message or event; return what is new, under the index of the call here."""
        added: set[_Call] = set()
        new: list[ToolCallDelta] = []
        for position, delta in enumerate(deltas):
            function = delta.function or FunctionCall()
            call = self._find(delta, function, position if len(deltas) > 1 else None)
            if call is None or (call in added and function.name):
                call = _Call(len(self._calls))
                self._calls.append(call)
            self._latest[delta.index] = self._latest[None] = call
            added.add(call)
            identifier = "" if call.id else delta.id or ""
            name = "" if call.name else function.name or ""
            call.id, call.name = call.id or identifier, call.name or name
            self._by_id[call.id] = call
            text = "" if function.arguments is None else function.arguments
            if not isinstance(text, str):
                text = msgspec.json.encode(text).decode()
            if text:
                call.arguments.append(text)
            if identifier or name or text:
                new.append(ToolCallDelta(call.index, identifier, name, text))
        return tuple(new)

    def result(self) -> list[tuple[str, str, str]]:
        """Return the name, the arguments as text and the id of each call."""
        return [(call.name, "".join(call.arguments), call.id) for call in self._calls]

    def _find(self, delta: ToolCallFields, function: FunctionCall, position: int | None) -> _Call | None:
        """Return the call that a part continues, None if it begins one; `position` is that in its list."""
        if delta.index is None and delta.id:
            call = self._by_id.get(delta.id) or self._latest.get(None)
        elif delta.index is None and position is not None:
            call = self._calls[position] if position < len(self._calls) else None
        else:
            call = self._latest.get(delta.index)
            if call is None and not function.name and not delta.id:
                call = self._latest.get(None)
        if call is None or not function.name or not call.name:
            return call
        if function.name != call.name or (delta.id and call.id and delta.id != call.id):
            return None
        if not delta.id and function.arguments and not call.named_again:
            if _is_object(call.arguments):
                return None  # the same tool once more, by a server without ids
            call.named_again = True
        return call


def _is_object(parts: list[str]) -> bool:
    """Whether `parts` are a whole JSON object."""
    if not parts or not parts[-1].rstrip().endswith("}"):
        return False
    try:
        msgspec.json.decode("".join(parts))
    except msgspec.DecodeError:
        return False
    return True
