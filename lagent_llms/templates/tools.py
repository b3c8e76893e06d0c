"""Tool calls: how a model writes them, how they are read out of an answer and put back into a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import TemplateError
from ..schema import Message, ToolCall
from .reader import Reader

__all__ = ["ToolCallForm", "ToolsForm", "ToolsMessage", "read_tool_call", "read_tools"]


@dataclass(frozen=True, slots=True)
class ToolCallForm:
    """A tool call in the text of an answer: JSON between two marks.

    Attributes:
        begin: Mark before the JSON.
        end: Mark after it; an answer may also simply end there.
        separator: Between the content and a call, and between calls, when calls are written.
        arguments: Keys under which the arguments may stand; the first is the one that is written.
    """

    begin: str
    end: str
    separator: str = ""
    arguments: tuple[str, ...] = ("arguments", "parameters")

    def parse(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """The text of an answer without its calls, and the calls.

        What stands between the marks but is no call stays in the text. White space around the marks goes with
        the calls.
        """
        mark, close = self.begin.strip(), self.end.strip()
        head, found, rest = text.partition(mark)
        if not found:
            return text, ()
        kept: list[str] = [head]
        calls: list[ToolCall] = []
        while found:
            body, _, tail = rest.partition(close)
            call = self._call(body)
            if call is None:
                kept.append(found + body + (close if len(body) < len(rest) else ""))
            else:
                calls.append(call)
            between, found, rest = tail.partition(mark)
            kept.append(between if call is None else between.lstrip())
        if not calls:
            return text, ()
        return "".join(kept).rstrip(), tuple(calls)

    def _call(self, body: str) -> ToolCall | None:
        try:
            value = json.loads(body)
        except ValueError:
            return None
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return None
        arguments: object = next((value[key] for key in self.arguments if key in value), {})
        if not isinstance(arguments, dict):
            return None
        return ToolCall(value["name"], arguments)

    def write(self, calls: Sequence[Any], where: str, *, after_content: bool) -> str:
        """`calls` (of a message, OpenAI's form) as the model writes them.

        Args:
            calls: Mappings with 'function', or with 'name' and 'arguments' themselves.
            where: The message, for the error.
            after_content: Whether text stands before them.

        Raises:
            TemplateError: A call without name.
        """
        written = []
        for call in calls:
            form = call.get("function", call) if isinstance(call, Mapping) else None
            if not isinstance(form, Mapping) or not isinstance(form.get("name"), str):
                raise TemplateError(
                    f"{where}: a tool call needs {{'function': {{'name', 'arguments'}}}}: {call!r}"
                )
            arguments = form.get("arguments", {})
            if not isinstance(arguments, str):
                arguments = json.dumps(arguments, ensure_ascii=False)
            name = json.dumps(form["name"], ensure_ascii=False)
            written.append(f'{self.begin}{{"name": {name}, "{self.arguments[0]}": {arguments}}}{self.end}')
        text = self.separator.join(written)
        return self.separator + text if after_content else text


@dataclass(frozen=True, slots=True)
class ToolsForm:
    """Tool descriptions as a part of the system text.

    Attributes:
        separator: Between the system text, when there is one, and `begin`.
        begin: Text before the descriptions.
        item: Text before each.
        end: Text after them.
    """

    separator: str
    begin: str
    item: str
    end: str

    def write(self, system: str | None, tools: Iterable[Any]) -> str:
        """The system text with the descriptions of `tools`."""
        head = self.begin if system is None else system + self.separator + self.begin
        return head + "".join(self.item + json.dumps(tool, ensure_ascii=False) for tool in tools) + self.end


@dataclass(frozen=True, slots=True)
class ToolsMessage:
    """Tool descriptions as a message of their own, a JSON list, after the system messages.

    Attributes:
        role: Its role.
        name: Its name, '' for none; that of the tools' answers as well.
        answer_role: The family's role for what OpenAI's form calls ``tool``: the answer of a tool.
    """

    role: str
    name: str = ""
    answer_role: str = "tool"

    def place(self, messages: Sequence[Message], tools: Iterable[Any]) -> list[Message]:
        """`messages` with the descriptions of `tools` (OpenAI's form, or the inner one) among them."""
        inner = [tool.get("function", tool) if isinstance(tool, Mapping) else tool for tool in tools]
        named = {"name": self.name} if self.name else {}
        told = {"role": self.role, "content": json.dumps(inner, ensure_ascii=False), **named}
        turns: list[Message] = [
            {**message, "role": self.answer_role, **named} if message["role"] == "tool" else message
            for message in messages
        ]
        first = next((i for i, message in enumerate(turns) if message["role"] != "system"), len(turns))
        return [*turns[:first], told, *turns[first:]]


def read_tool_call(raw: object, where: str) -> ToolCallForm:
    """The `tool_call` section of a family file."""
    reader = Reader(raw, where, ("begin", "end", "separator", "arguments"))
    begin, end = reader.text("begin"), reader.text("end")
    if not begin.strip() or not end.strip():
        raise TemplateError(f"{where}: 'begin' and 'end' must both hold a mark")
    return ToolCallForm(begin, end, reader.text("separator"), reader.texts("arguments") or ("arguments",))


def read_tools(raw: object, where: str) -> ToolsForm | ToolsMessage:
    """The `tools` section of a family file."""
    if isinstance(raw, Mapping) and "role" in raw:
        reader = Reader(raw, where, ("role", "name", "answer_role"))
        return ToolsMessage(reader.text("role"), reader.text("name"), reader.text("answer_role") or "tool")
    reader = Reader(raw, where, ("separator", "begin", "item", "end"))
    return ToolsForm(reader.text("separator"), reader.text("begin"), reader.text("item"), reader.text("end"))
