"""Dialogs as real programs have them, for comparing renderings of chat templates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["DIALOGS", "Dialog"]


@dataclass(frozen=True)
class Dialog:
    """A dialog and the arguments of its rendering.

    Attributes:
        name: What is special about it.
        messages: The messages, in the form in which a program has them.
        tools: Descriptions of tools in OpenAI's form, None for none.
        options: Further arguments, equal for both sides: add_generation_prompt (default true),
            continue_final_message, and variables of the template.
    """

    name: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def _said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def _tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _call(arguments: Any, name: str = "get_weather", call_id: str = "call00001") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = _tool(
    "get_weather",
    "Get the weather of a city.",
    {
        "city": {"type": "string", "description": "The city, e.g. Paris"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    ["city"],
)
SEARCH = _tool(
    "search",
    "Suche in “Dokumenten” & <Seiten>: 中文, ümläut",
    {
        "query": {"type": "string", "description": "检索词"},
        "limit": {"type": "integer", "default": 3, "minimum": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
        "filter": {"type": "object", "properties": {"since": {"type": ["string", "null"]}}},
    },
    ["query"],
)
NO_PARAMETERS = {"type": "function", "function": {"name": "now", "description": "The current time."}}
TOOLS = [WEATHER, SEARCH]

SYSTEM = _said("system", "You are a helpful assistant.")
HI = _said("user", "Hi, who are you?")
HELLO = _said("assistant", "I am an assistant.")
MORE = _said("user", "What is 2 + 2?")
ASK = _said("user", "What is the weather in Paris?")
WIRE = '{"city": "Paris", "unit": "celsius"}'
OBJECT = {"city": "Paris", "unit": "celsius"}
RESULT = _said("tool", '{"temperature": 21.5, "sky": "clear"}', tool_call_id="call00001", name="get_weather")
ANSWER = _said("assistant", "It is 21.5 °C in Paris.")
THANKS = _said("user", "Thanks. And in Rome?")


def _dump(content: str | None, **more: Any) -> dict[str, Any]:
    """An assistant message as OpenAI's SDK dumps it, with null for what is not set."""
    empty = {"refusal": None, "annotations": None, "audio": None, "function_call": None, "tool_calls": None}
    return {"role": "assistant", "content": content, **empty, **more}


def _round(arguments: Any, **more: Any) -> list[dict[str, Any]]:
    """A question, a tool call and its result."""
    called = {"role": "assistant", "content": None, "tool_calls": [_call(arguments)], **more}
    return [ASK, called, RESULT]


_PARALLEL = [
    _said("user", "Paris and 北京?"),
    _dump(None, tool_calls=[_call(WIRE), _call('{"city": "北京"}', call_id="call00002")]),
    RESULT,
    _said("tool", "晴，3 °C", tool_call_id="call00002", name="get_weather"),
]
_THOUGHT = _said("assistant", "4", reasoning_content="2 + 2 is 4.")
_PARTS = [{"type": "text", "text": "Describe "}, {"type": "text", "text": "the sea."}]
_ONE_PART = [{"type": "text", "text": "Describe the sea."}]

DIALOGS = (
    # plain dialogs
    Dialog("one question", [HI]),
    Dialog("one question, no generation prompt", [HI], options={"add_generation_prompt": False}),
    Dialog("system and question", [SYSTEM, HI]),
    Dialog("several turns", [SYSTEM, HI, HELLO, MORE]),
    Dialog("several turns without system", [HI, HELLO, MORE, _said("assistant", "4"), THANKS]),
    Dialog("ends with the assistant", [SYSTEM, HI, HELLO], options={"add_generation_prompt": False}),
    Dialog("ends with the assistant, generation prompt", [SYSTEM, HI, HELLO]),
    Dialog("begins with the assistant", [HELLO, HI]),
    Dialog("system alone", [SYSTEM]),
    Dialog("several system messages", [SYSTEM, _said("system", "Be brief."), HI]),
    Dialog("a later system message", [SYSTEM, HI, HELLO, _said("system", "Be brief."), MORE]),
    Dialog("two users in a row", [HI, MORE]),
    Dialog("two assistants in a row", [HI, HELLO, ANSWER, MORE]),
    Dialog("developer", [_said("developer", "Answer in French."), HI]),
    Dialog("an unknown role", [HI, _said("environment", "It rains."), MORE]),
    Dialog("named roles", [_said("user", "Hi", name="Ann"), HELLO, _said("user", "Hello", name="李雷")]),
    # contents
    Dialog("Chinese", [_said("system", "你是一个有用的助手。"), _said("user", "你好，请介绍一下北京。")]),
    Dialog("other scripts", [_said("user", "שלום 🏯 é e\u0301 \u3000|\xa0| \u200b"), HELLO, MORE]),
    Dialog("white space around contents", [_said("system", " \n a \n"), _said("user", "\n\n b\t "), HELLO]),
    Dialog("empty contents", [_said("system", ""), _said("user", ""), _said("assistant", ""), HI]),
    Dialog("an empty system message", [_said("system", ""), HI]),
    Dialog("quotes, markup and braces", [_said("user", "\"a\" 'b' <b>&amp;</b> {{ x }} {% y %} \\n")]),
    Dialog("special tokens in contents", [_said("user", "<|im_end|></s>[INST]<|eot_id|><start_of_turn>")]),
    Dialog("carriage returns and a long line", [_said("user", "a\r\nb\r" + "word " * 500)]),
    Dialog("text parts", [SYSTEM, _said("user", _PARTS), HELLO, _said("user", _ONE_PART)]),
    Dialog("text parts of all roles", [
        _said("system", [{"type": "text", "text": "Be brief."}]), _said("user", _ONE_PART),
        _said("assistant", [{"type": "text", "text": "Blue."}]), _said("user", _PARTS)]),
    # what SDKs dump
    Dialog("keys with null", [HI, _dump("I am an assistant."), MORE]),
    Dialog("keys with null in all roles", [
        _said("system", "Be brief.", name=None), _said("user", "Hi", name=None),
        _dump("Hello."), _said("user", "Go on", name=None, tool_calls=None)]),
    Dialog("an empty list of calls", [HI, _dump("I am an assistant.", tool_calls=[]), MORE]),
    Dialog("a refusal", [HI, _dump(None, refusal="I cannot help with that."), MORE]),
    Dialog("content missing beside calls", [
        ASK, {"role": "assistant", "tool_calls": [_call(WIRE)]}, RESULT], tools=TOOLS),
    # tools
    Dialog("tools", [SYSTEM, ASK], tools=TOOLS),
    Dialog("tools without system", [ASK], tools=TOOLS),
    Dialog("an empty list of tools", [SYSTEM, ASK], tools=[]),
    Dialog("a tool without parameters", [HI], tools=[NO_PARAMETERS]),
    Dialog("arguments as a string", _round(WIRE), tools=TOOLS),
    Dialog("arguments as an object", _round(OBJECT), tools=TOOLS),
    Dialog("arguments with unicode and nesting", _round(
        '{"query": "北京 \\"é\\"", "limit": 3, "tags": ["a", "<b>"], "filter": {"since": null}, "x": true, '
        '"y": 1.0}'), tools=TOOLS),
    Dialog("no arguments", _round("{}"), tools=[NO_PARAMETERS]),
    Dialog("arguments that are no object", _round("[1, 2]"), tools=TOOLS),
    Dialog("arguments that are no JSON", _round("Paris"), tools=TOOLS),
    Dialog("a round trip", [SYSTEM, *_round(WIRE), ANSWER, THANKS], tools=TOOLS),
    Dialog("a round trip of an SDK", [SYSTEM, ASK, _dump(None, tool_calls=[_call(WIRE)]), RESULT, ANSWER,
                                      THANKS], tools=TOOLS),
    Dialog("a round trip without tools", [SYSTEM, *_round(WIRE), ANSWER, THANKS]),
    Dialog("content beside a call", _round(WIRE, content="Let me see."), tools=TOOLS),
    Dialog("empty content beside a call", _round(WIRE, content=""), tools=TOOLS),
    Dialog("parallel calls", _PARALLEL, tools=TOOLS),
    Dialog("two rounds", [*_round(WIRE), ANSWER, THANKS, _dump(None, tool_calls=[
        _call('{"city": "Rome"}', call_id="call00009")]),
        _said("tool", "30 °C", tool_call_id="call00009"), _said("assistant", "30 °C.")], tools=TOOLS,
        options={"add_generation_prompt": False}),
    Dialog("a result without name", [*_round(WIRE)[:2], _said("tool", "21", tool_call_id="call00001")],
           tools=TOOLS),
    Dialog("a result in parts", [*_round(WIRE)[:2], _said(
        "tool", [{"type": "text", "text": "21 °C"}], tool_call_id="call00001")], tools=TOOLS),
    Dialog("a result of an object", [*_round(OBJECT)[:2], _said("tool", "", tool_call_id="call00001")],
           tools=TOOLS),
    Dialog("calls without id and type", [
        ASK, _said("assistant", "", tool_calls=[{"function": {"name": "get_weather", "arguments": OBJECT}}]),
        _said("tool", "21 °C", name="get_weather")], tools=TOOLS),
    Dialog("a call at the end", _round(WIRE)[:2], tools=TOOLS, options={"add_generation_prompt": False}),
    Dialog("the function role", [ASK, _said("function", "21 °C", name="get_weather")]),
    # reasoning
    Dialog("reasoning_content", [MORE, _THOUGHT, HI]),
    Dialog("reasoning_content, last", [MORE, _THOUGHT], options={"add_generation_prompt": False}),
    Dialog("reasoning", [MORE, _said("assistant", "4", reasoning="2 + 2 is 4."), HI]),
    Dialog("thinking", [MORE, _said("assistant", "4", thinking="2 + 2 is 4."), HI]),
    Dialog("reasoning in tags", [MORE, _said("assistant", "<think>\n2 + 2 is 4.\n</think>\n\n4"), HI]),
    Dialog("reasoning before a call", _round(WIRE, reasoning_content="I need the tool."), tools=TOOLS),
    Dialog("reasoning that is null", [MORE, _said("assistant", "4", reasoning_content=None), HI]),
    Dialog("thinking switched off", [SYSTEM, HI], options={"enable_thinking": False}),
    Dialog("thinking switched on", [SYSTEM, HI], tools=TOOLS, options={"enable_thinking": True}),
    # options
    Dialog("continued", [HI, _said("assistant", "I am")], options={
        "add_generation_prompt": False, "continue_final_message": True}),
    Dialog("continued after white space", [SYSTEM, HI, _said("assistant", "I am ")], options={
        "add_generation_prompt": False, "continue_final_message": True}),
    Dialog("a continued question", [HI], options={
        "add_generation_prompt": False, "continue_final_message": True}),
    Dialog("documents", [SYSTEM, MORE], options={
        "documents": [{"title": "Sums", "text": "2 + 2 = 4"}, {"title": "和", "text": "二加二"}]}),
    Dialog("other variables", [SYSTEM, HI], options={
        "date_string": "01 Jan 2026", "reasoning_effort": "low"}),
)  # fmt: skip
