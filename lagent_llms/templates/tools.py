"""Tool calls and tool descriptions: write them into a prompt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import TemplateError
from ..schema import Message, ToolCall
from .answers.formats import CallFormat
from .reader import Reader

__all__ = [
    "ToolCallFormat",
    "ToolsInSystemText",
    "ToolsMessage",
    "decoded_arguments",
    "read_tool_call",
    "read_tools",
    "with_decoded_arguments",
]


@dataclass(frozen=True, slots=True)
class ToolCallFormat:
    """Format of a tool call in the text of an answer: JSON between two marks.

    Attributes:
        begin: Mark before the JSON.
        end: Mark after the JSON; at the end of an answer it may be missing.
        separator: Text between the content and a call, and between calls, in a prompt.
        arguments: Keys that may hold the arguments; a prompt uses the first.
    """

    begin: str
    end: str
    separator: str = ""
    arguments: tuple[str, ...] = ("arguments", "parameters")

    @property
    def marks(self) -> CallFormat:
        """What an answer is read with."""
        return CallFormat((self.begin.strip(),), self.end.strip(), arguments=self.arguments)

    def write(self, calls: Sequence[Any], where: str, *, after_content: bool) -> str:
        """Write the tool calls of a message in the model's format.

        Args:
            calls: OpenAI's tool calls: mappings with 'function', or with 'name' and 'arguments'.
            where: Location of the message, for errors.
            after_content: True if text precedes the calls.

        Raises:
            TemplateError: A call has no name.
        """
        texts = []
        for call in calls:
            if isinstance(call, ToolCall):
                call = call.to_openai()
            function = call.get("function", call) if isinstance(call, Mapping) else None
            if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
                raise TemplateError(
                    f"{where}: a tool call needs {{'function': {{'name', 'arguments'}}}}: {call!r}"
                )
            arguments = decoded_arguments(function.get("arguments", {}))
            if not isinstance(arguments, str):
                arguments = json.dumps(arguments, ensure_ascii=False)
            name = json.dumps(function["name"], ensure_ascii=False)
            texts.append(f'{self.begin}{{"name": {name}, "{self.arguments[0]}": {arguments}}}{self.end}')
        text = self.separator.join(texts)
        return self.separator + text if after_content else text


@dataclass(frozen=True, slots=True)
class ToolsInSystemText:
    """Tool descriptions as a part of the system text.

    Attributes:
        separator: Text between the system text, if there is one, and `begin`.
        begin: Text before the descriptions.
        item: Text before each description.
        end: Text after the descriptions.
    """

    separator: str
    begin: str
    item: str
    end: str

    def write(self, system: str | None, tools: Iterable[Any]) -> str:
        """Append the descriptions of `tools` to the system text."""
        head = self.begin if system is None else system + self.separator + self.begin
        return head + "".join(self.item + json.dumps(tool, ensure_ascii=False) for tool in tools) + self.end


@dataclass(frozen=True, slots=True)
class ToolsMessage:
    """Tool descriptions as a separate message, a JSON list, after the system messages.

    Attributes:
        role: Role of the message.
        name: Name of the message and of the tools' results, '' for none.
        answer_role: The family's role for a tool's result, which is ``tool`` in OpenAI's protocol.
    """

    role: str
    name: str = ""
    answer_role: str = "tool"

    def insert(self, messages: Sequence[Message], tools: Iterable[Any]) -> list[Message]:
        """Insert the descriptions of `tools` (OpenAI's, or their inner 'function') into `messages`."""
        functions = [tool.get("function", tool) if isinstance(tool, Mapping) else tool for tool in tools]
        named = {"name": self.name} if self.name else {}
        description = {"role": self.role, "content": json.dumps(functions, ensure_ascii=False), **named}
        first = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
        return [*messages[:first], description, *messages[first:]]


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
    if isinstance(arguments, str):
        from ..untrusted import DECODE_ERRORS, read_json  # here: slow to import, and rarely needed

        with contextlib.suppress(*DECODE_ERRORS):
            decoded = read_json(arguments)
            return decoded if isinstance(decoded, dict) else arguments
    return arguments


def read_tool_call(raw: object, where: str) -> ToolCallFormat:
    """Read the `tool_call` section of a family file."""
    reader = Reader(raw, where, ("begin", "end", "separator", "arguments"))
    begin, end = reader.text("begin"), reader.text("end")
    if not begin.strip() or not end.strip():
        raise TemplateError(f"{where}: 'begin' and 'end' must both hold a mark")
    return ToolCallFormat(begin, end, reader.text("separator"), reader.texts("arguments") or ("arguments",))


def read_tools(raw: object, where: str) -> ToolsInSystemText | ToolsMessage:
    """Read the `tools` section of a family file."""
    if isinstance(raw, Mapping) and "role" in raw:
        reader = Reader(raw, where, ("role", "name", "answer_role"))
        return ToolsMessage(reader.text("role"), reader.text("name"), reader.text("answer_role") or "tool")
    reader = Reader(raw, where, ("separator", "begin", "item", "end"))
    return ToolsInSystemText(
        reader.text("separator"), reader.text("begin"), reader.text("item"), reader.text("end")
    )
