"""Tool calls and tool descriptions: write them into a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import countOf
from typing import Any

from ..errors import TemplateError
from ..messages import with_call_ids
from ..schema import Message, ToolCall
from .answers.formats import CallFormat
from .placeholders import PlaceholderText, parse_placeholders
from .reader import Reader
from .tool_arguments import decoded_arguments

__all__ = [
    "SEVERAL_SPELLINGS",
    "ToolCallFormat",
    "ToolsInSystemText",
    "ToolsMessage",
    "call_writer",
    "read_tool_call",
    "read_tools",
    "with_ids",
]


#: The error for tool calls in a message of a family with a parser and without a section `tool_call`.
SEVERAL_SPELLINGS = (
    "tool_calls cannot be written: the family's tool_parser reads several spellings of a call; say in a "
    "section 'tool_call' which one this model writes, or give the text of the answer as content instead"
)
#: Keys of the section `tool_call` of a family file.
KEYS = (
    "begin", "end", "separator", "arguments", "open", "close", "call", "argument", "replaces", "answer_role",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ToolCallFormat:
    """Format of the tool calls of a message: each is JSON between two marks, unless `call` is given.

    Attributes:
        begin: Text before each call.
        end: Text after each call; at the end of an answer it may be missing.
        separator: Text between calls in a prompt; without `open` also between the content and the first.
        arguments: Keys that may hold the arguments; a prompt uses the first.
        open: Text before all calls of a message.
        close: Text after all calls of a message.
        call: Text of a call, with {name}, {arguments} and {id}.
        argument: Text of an argument, with {key} and {value}, where {arguments} are not a JSON object.
        python: Write the arguments as those of a call in Python, not as JSON.
        replaces: What the calls stand in place of: the 'content' of the message, its whole 'turn', or ''.
        answer_role: The family's role for a tool's result, if it is not one of the usual ones.
    """

    begin: str = ""
    end: str = ""
    separator: str = ""
    arguments: tuple[str, ...] = ("arguments", "parameters")
    open: str = ""
    close: str = ""
    call: str | PlaceholderText = ""
    argument: str | PlaceholderText = ""
    python: bool = False
    replaces: str = ""
    answer_role: str = ""

    @property
    def marks(self) -> CallFormat:
        """What an answer is read with."""
        return CallFormat((self.begin.strip(),), self.end.strip(), arguments=self.arguments)

    @property
    def writes_ids(self) -> bool:
        """Whether the text of a call holds its id."""
        return isinstance(self.call, PlaceholderText) and "id" in self.call.pieces[1::2]

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
            if self.python and isinstance(arguments, dict):
                arguments = ", ".join(f"{key}={_python(value)}" for key, value in arguments.items())
            elif isinstance(self.argument, PlaceholderText) and isinstance(arguments, dict):
                pairs = ({"key": key, "value": _text(value)} for key, value in arguments.items())
                arguments = "".join(map(self.argument.fill, pairs))
            elif not isinstance(arguments, str):
                arguments = json.dumps(arguments, ensure_ascii=False)
            name = json.dumps(function["name"], ensure_ascii=False)
            if isinstance(self.call, PlaceholderText):
                values = {"name": name[1:-1], "arguments": arguments, "id": call.get("id")}
                text = self.call.fill(values)
            else:
                text = f'{{"name": {name}, "{self.arguments[0]}": {arguments}}}'
            texts.append(self.begin + text + self.end)
        text = self.open + self.separator.join(texts) + self.close
        return self.separator + text if after_content and not self.open else text


def _python(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def call_writer(marks: CallFormat | None) -> ToolCallFormat | None:
    """The format in which a prompt repeats the calls that are read with `marks`.

    Returns:
        None where calls are more than JSON or Python between marks: such a parser reads several spellings,
        of which a model was trained on one, so the family file must have it.
    """
    if marks is None or marks.head:
        return None
    begin = marks.begin[0] if marks.begin else ""
    if marks.python:
        call = PlaceholderText(("", "name", "(", "arguments", ")"))
        return ToolCallFormat(separator=", ", open=f"{begin}[", close=f"]{marks.end}", call=call, python=True)
    if "[" in marks.opens:
        return ToolCallFormat(
            separator=", ", arguments=marks.arguments, open=f"{begin}[", close=f"]{marks.end}"
        )
    return ToolCallFormat(begin, marks.end, arguments=marks.arguments)


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


def with_ids(messages: Sequence[Message]) -> Sequence[Message]:
    """Messages whose tool calls and results all have ids, for a format that writes them."""
    if countOf(map(len, messages), 2) == len(messages):  # no message has tool calls
        return messages
    return with_call_ids([
        {**message, "tool_calls": [one.to_openai() if isinstance(one, ToolCall) else one for one in calls]}
        if (calls := message.get("tool_calls"))
        else message
        for message in messages
    ])  # fmt: skip


def read_tool_call(raw: object, where: str, marks: CallFormat | None) -> ToolCallFormat:
    """Read the `tool_call` section of a family file.

    Args:
        raw: The section.
        where: Location of the section, for errors.
        marks: Format of the family's `tool_parser`; without one, 'begin' and 'end' are what is read.
    """
    reader = Reader(raw, where, KEYS)
    begin, end = reader.text("begin"), reader.text("end")
    if marks is None and not (begin.strip() and end.strip()):
        raise TemplateError(f"{where}: 'begin' and 'end' must both hold a mark")
    call = _text_with(reader, "call", ("name", "arguments"), ("id",))
    argument = _text_with(reader, "argument", ("key", "value"))
    if argument and not call:
        raise TemplateError(f"{where}: 'argument' needs a 'call', whose {{arguments}} it writes")
    return ToolCallFormat(
        begin,
        end,
        reader.text("separator"),
        reader.texts("arguments") or ("arguments",),
        reader.text("open"),
        reader.text("close"),
        call,
        argument,
        replaces=reader.choice("replaces", ("", "content", "turn"), ""),
        answer_role=reader.text("answer_role"),
    )


def _text_with(
    reader: Reader, key: str, required: tuple[str, ...], allowed: tuple[str, ...] = ()
) -> str | PlaceholderText:
    """Read the text of `key`, which has these placeholders if there is one."""
    text = parse_placeholders(reader.location(key), reader.text(key), fixed={}, names=(*required, *allowed))
    held = text.pieces[1::2] if isinstance(text, PlaceholderText) else ()
    if text and not {*required}.issubset(held):
        names = " and ".join(f"{{{name}}}" for name in required)
        raise TemplateError(f"{reader.location(key)}: the text must hold {names}")
    return text


def read_tools(raw: object, where: str) -> ToolsInSystemText | ToolsMessage:
    """Read the `tools` section of a family file."""
    if isinstance(raw, Mapping) and "role" in raw:
        reader = Reader(raw, where, ("role", "name", "answer_role"))
        return ToolsMessage(reader.text("role"), reader.text("name"), reader.text("answer_role") or "tool")
    reader = Reader(raw, where, ("separator", "begin", "item", "end"))
    return ToolsInSystemText(
        reader.text("separator"), reader.text("begin"), reader.text("item"), reader.text("end")
    )
