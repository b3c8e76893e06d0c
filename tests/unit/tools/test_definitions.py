"""What `tools=` takes, and what it refuses before anything is sent."""

import pytest

from lagent_llms.errors import InvalidArgument
from lagent_llms.testing import ScriptedLLM
from lagent_llms.tools.definitions import tool_definitions

from ..model import Model

FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
LAGENT = {"name": "f", "parameters": [{"name": "x", "type": "STRING"}], "required": ["x"]}
TOOL = {"type": "function", "function": FUNCTION}


def f(x: int):
    """Do it."""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ([], None),
        ([TOOL], [TOOL]),
        ((TOOL,), [TOOL]),
        ([FUNCTION], [TOOL]),
        ([{"function": FUNCTION}], [TOOL]),
        ([{"type": "function", **FUNCTION}], [TOOL]),  # OpenAI's form of /v1/responses
        ([Model(type="function", function=Model(**FUNCTION), strict=None)], [TOOL]),
        ([{"type": "web_search"}], [{"type": "web_search"}]),
        ([LAGENT], [{"type": "function", "function": LAGENT}]),
    ],
)  # fmt: skip
def test_forms_of_tools(given, expected):
    assert tool_definitions("tools", given) == expected


def test_functions_become_descriptions():
    (first, second) = tool_definitions("tools", [f, TOOL])
    assert (first["function"]["name"], second) == ("f", TOOL)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (f, "tools=<function f"),
        (TOOL, "tools={'type'"),
        ("f", "tools='f': allowed is None or a list"),
        (["f"], r"tools\[0\]='f': allowed is a function with type hints, or a dict such as"),
        ([TOOL, {}], r"tools\[1\]=\{\}: allowed is"),
        ([{"type": "function"}], r"tools\[0\]="),
        ([{"type": "function", "function": {}}], r"tools\[0\]="),
        ([{"type": "function", "function": {"name": ""}}], r"tools\[0\]="),
        ([{"type": "functions", "function": FUNCTION}], r"tools\[0\]="),
        ([{"type": "object", "properties": {}}], r"tools\[0\]="),
        ([{"type": "function", "function": {"name": "f", "parameters": "x"}}], r"tools\[0\]="),
        ([f, lambda x: x], r"tools\[1\] \(<lambda>\): a tool needs a name"),
    ],
)
def test_what_is_no_tool_is_refused_before_anything_is_sent(given, message):
    llm = ScriptedLLM("fine", meta_template="qwen2.5")
    with pytest.raises(InvalidArgument, match=message) as caught:
        llm.chat("hi", tools=given)
    assert caught.value.argument == "tools"
    assert llm.requests == []


def test_functions_are_described_in_the_prompt():
    llm = ScriptedLLM("fine", meta_template="qwen2.5", tools=[f])
    llm.chat("hi")
    assert '"name": "f", "description": "Do it."' in llm.requests[0].prompt
