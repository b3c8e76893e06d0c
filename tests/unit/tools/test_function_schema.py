"""Tool descriptions of functions: the schema of a function, and which functions are refused."""

import enum
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union

import pytest

from lagent_llms.errors import InvalidArgument
from lagent_llms.tools.function_schema import function_tool


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


@dataclass
class Point:
    x: float
    y: Annotated[float, "upwards"] = 0.0
    tags: list[str] = field(default_factory=list)


class Address(TypedDict, total=False):
    street: str
    number: int | None


@dataclass
class Node:
    children: "list[Node]"


UserId = NewType("UserId", int)


class BySchema:
    """A class with a schema of its own, as pydantic's models have."""

    @classmethod
    def model_json_schema(cls):
        return {
            "title": "BySchema",
            "type": "object",
            "properties": {"other": {"$ref": "#/$defs/Other"}},
            "$defs": {"Other": {"type": "string"}},
        }


def parameters(function):
    return function_tool(function)["function"]["parameters"]


def test_name_description_parameters_and_required_ones():
    def weather(city: str, days: int = 3) -> str:
        """The weather of a city.

        Args:
            city: The city.
            days: How many days.
        """

    assert function_tool(weather) == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city."},
                    "days": {"type": "integer", "description": "How many days."},
                },
                "required": ["city"],
            },
            "return": {"type": "string"},
        },
    }


def test_a_function_needs_no_docstring():
    def add(a: int, b: int): ...

    assert function_tool(add)["function"] == {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    }


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (Any, {}),
        (None, {"type": "null"}),
        (Optional[int], {"type": "integer", "nullable": True}),  # noqa: UP045
        (int | str | None, {"type": ["integer", "string"], "nullable": True}),
        (Union[set[int], str], {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]}),  # noqa: E501, UP007
        (Literal["a", 1], {"type": ["string", "integer"], "enum": ["a", 1]}),
        (Literal[Unit.KELVIN], {"type": "string", "enum": ["kelvin"]}),
        (Unit, {"type": "string", "enum": ["celsius", "kelvin"]}),
        (list, {"type": "array"}),
        (set[str], {"type": "array", "items": {"type": "string"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, str], {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}),
        (Mapping[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (UserId, {"type": "integer"}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (
            Point,
            {
                "type": "object",
                "properties": {
                    "x": {"type": "number"},
                    "y": {"type": "number", "description": "upwards"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["x"],
            },
        ),
        (
            Address,
            {
                "type": "object",
                "properties": {"street": {"type": "string"}, "number": {"type": "integer", "nullable": True}},
            },
        ),
    ],
    ids=str,
)  # fmt: skip
def test_hints(hint, schema):
    def tool(x): ...

    tool.__annotations__ = {"x": hint}
    assert parameters(tool)["properties"]["x"] == schema


def test_models_with_a_schema_of_their_own_keep_their_references():
    def tool(x: BySchema): ...

    found = parameters(tool)
    assert found["properties"]["x"]["properties"] == {"other": {"$ref": "#/$defs/Other"}}
    assert found["$defs"] == {"Other": {"type": "string"}}
    described = function_tool(BySchema)["function"]
    assert (described["name"], described["description"]) == (
        "BySchema",
        "A class with a schema of its own, as pydantic's models have.",
    )
    assert set(described["parameters"]) == {"type", "properties", "$defs"}


def test_methods_partials_asynchronous_functions_and_objects():
    class Weather:
        """A station."""

        def today(self, city: str):
            """Today's weather."""

        async def later(self, city: str):
            """The weather later."""

        def __call__(self, city: str):
            """The weather of a city."""

    station = Weather()
    for tool, name, description in (
        (station.today, "today", "Today's weather."),
        (Weather.today, "today", "Today's weather."),
        (station.later, "later", "The weather later."),
        (station, "Weather", "The weather of a city."),
    ):
        function = function_tool(tool)["function"]
        assert (function["name"], function["description"]) == (name, description)
        assert function["parameters"]["required"] == ["city"]

    def scaled(x: int, factor: int, key: str): ...

    assert parameters(functools.partial(scaled, key="secret"))["required"] == ["x", "factor"]


def test_variable_arguments_are_not_shown_to_the_model():
    def tool(x: int, *rest, **options): ...

    assert list(parameters(tool)["properties"]) == ["x"]


def untyped(city, days: int): ...


def of_bytes(data: bytes): ...


def unknown_name(x: "NoSuchClass"): ...  # noqa: F821


def recursive(x: Node): ...


def of_objects(x: list[object]): ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (untyped, r"tools\[0\] \(untyped\): parameter 'city' has no type hint"),
        (of_bytes, r"tools\[0\] \(of_bytes\): data: the type hint bytes has no JSON schema; allowed are int"),
        (unknown_name, r"\(unknown_name\): its type hints cannot be read: name 'NoSuchClass' is not defined"),
        (recursive, r"\(recursive\): x: the type hint Node has no JSON schema"),
        (of_objects, r"\(of_objects\): x: the type hint object has no JSON schema"),
        (lambda: 0, r"a tool needs a name of letters, digits, _ and -"),
        (print, r"\(print\): "),
    ],
)
def test_functions_without_a_schema_are_refused_by_name(function, message):
    if function is print:  # its parameters are variable or have no hint
        message += "parameter 'sep' has no type hint"
    with pytest.raises(InvalidArgument, match=message) as caught:
        function_tool(function, "tools[0]")
    assert caught.value.argument == "tools"
