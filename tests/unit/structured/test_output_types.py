"""Types as outputs: schemas that servers take, and answers read as instances."""

import dataclasses
import enum
from typing import Annotated, Literal

import jsonschema
import msgspec
import pydantic
import pytest
from typing_extensions import NotRequired, TypedDict

from lagent_llms.structured.output_types import OutputType


class Colour(enum.Enum):
    RED = "red"


class Inner(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(max_length=3)] = "abc"


@dataclasses.dataclass
class Node:
    """A node."""

    value: Inner
    colour: Colour = Colour.RED
    children: "list[Node]" = dataclasses.field(default_factory=list)


class Address(TypedDict):
    street: str
    number: NotRequired[int]


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2)
    friends: "list[Person]" = []


@pydantic.dataclasses.dataclass
class Checked:
    age: pydantic.PositiveInt


@dataclasses.dataclass
class Mixed:
    person: Person


class Nothing:
    """A class without a schema."""


class Open(msgspec.Struct):
    counts: dict[str, int]


KINDS = [
    (Inner, '{"text":"x"}', Inner("x")),
    (Node, '{"value":{"text":"a"},"colour":"red","children":[]}', Node(Inner("a"))),
    (Address, '{"street":"s","number":1}', {"street": "s", "number": 1}),
    (Person, '{"name":"Ann","friends":[]}', Person(name="Ann")),
    (Checked, '{"age":3}', Checked(3)),
    (Mixed, '{"person":{"name":"Ann","friends":[]}}', Mixed(Person(name="Ann"))),
    (Open, '{"counts":{"a":1}}', Open({"a": 1})),
    (int, '{"value":3}', 3),
    (list[Inner], '{"value":[{"text":"x"}]}', [Inner("x")]),
    (list[Person], '{"value":[{"name":"Ann","friends":[]}]}', [Person(name="Ann")]),
    (Literal["a", "b"], '{"value":"b"}', "b"),
    (Colour, '{"value":"red"}', Colour.RED),
    (Inner | None, '{"value":null}', None),
]


@pytest.mark.parametrize(("kind", "text", "expected"), KINDS, ids=lambda item: str(item)[:40])
def test_the_schema_allows_what_is_read(kind, text, expected):
    output = OutputType(kind)
    wrapped = output.format()["json_schema"]
    assert wrapped["schema"]["type"] == "object"
    assert "$ref" not in wrapped["schema"]
    jsonschema.validate(msgspec.json.decode(text), wrapped["schema"])
    assert output.read(text) == expected
    assert wrapped.get("strict", False) is (kind is not Open)


def closed_objects(schema):
    """Assert that every object in a schema lists all fields as required, and allows no others."""
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema["properties"], dict):
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False
            assert not any("default" in part for part in schema["properties"].values())
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            closed_objects(part)


@pytest.mark.parametrize("kind", [Node, Address, Person, Mixed, list[Inner]], ids=str)
def test_every_field_is_required_in_every_part(kind):
    closed_objects(OutputType(kind).wrapped_schema)


@pytest.mark.parametrize(
    "text",
    [
        ' {"text": "x"}\n',
        '```json\n{"text": "x"}\n```',
        'Here it is:\n```\n{"text": "x"}\n```\nDone {really}.',
        'The answer is {"text": "x"}, I think.',
    ],
)
def test_text_around_the_json_is_left_out(text):
    assert OutputType(Inner).read(text) == Inner("x")


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (Inner, "", "empty"),
        (Inner, "hello", "malformed"),
        (Inner, '{"text": 5}', r"Expected `str`, got `int` - at `\$\.text`"),
        (Inner, '{"text": "four"}', "length <= 3"),
        (Person, '{"name": "A"}', "at least 2 characters"),
        (Checked, '{"age": -1}', "greater than 0"),
        (int, '{"value": "x"}', "Expected `int`"),
        (int, "{}", "missing required field `value`"),
        (int, "5", "Expected `object`"),
        (Inner, '{"text": "' + "x" * 10, "truncated"),
    ],
)
def test_an_answer_of_another_form_says_what_is_wrong(kind, text, reason):
    with pytest.raises(ValueError, match=reason):
        OutputType(kind).read(text)


@pytest.mark.parametrize("kind", [Nothing, 5, "list[Unknown]"])
def test_a_type_without_a_schema_is_refused(kind):
    with pytest.raises(TypeError, match="it has no JSON schema"):
        OutputType(kind)
