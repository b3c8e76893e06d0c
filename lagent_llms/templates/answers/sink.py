"""Collect the calls of an answer and their parts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...schema import ToolCall, ToolCallDelta
from ...untrusted import DECODE_ERRORS, read_json

__all__ = ["CallSink"]


class CallSink:
    """Where the readers of calls put them.

    Args:
        tools: Descriptions of the tools.

    Attributes:
        tools: As given.
        done: The whole calls.
        deltas: Parts of calls since they were last taken.
    """

    __slots__ = ("_arguments", "_id", "_index", "_name", "deltas", "done", "tools")

    def __init__(self, tools: Iterable[Any]) -> None:
        self.tools = tools
        self.done: list[ToolCall] = []
        self.deltas: list[ToolCallDelta] = []
        self._index = -1
        self._arguments: list[str] = []
        self._name = self._id = ""

    def begin(self, name: str, identifier: str = "") -> None:
        """Begin a call."""
        self._index += 1
        self._name, self._id = name, identifier
        self._arguments = []
        self.deltas.append(ToolCallDelta(self._index, identifier, name))

    def write(self, text: str) -> None:
        """Add to the arguments of the call, as JSON."""
        if text:
            self._arguments.append(text)
            self.deltas.append(ToolCallDelta(self._index, arguments=text))

    def end(self, identifier: str = "") -> bool:
        """End the call; False if its arguments are no JSON object."""
        try:
            arguments = read_json("".join(self._arguments))
        except DECODE_ERRORS:
            return False
        if not isinstance(arguments, dict):
            return False
        if identifier and not self._id:
            self._id = identifier
            self.deltas.append(ToolCallDelta(self._index, identifier))
        self.done.append(ToolCall(self._name, arguments, self._id))
        return True

    def add(self, name: str, arguments: str, identifier: str = "") -> bool:
        """Add a whole call."""
        self.begin(name, identifier)
        self.write(arguments)
        return self.end()
