"""`response_format`: every form of a constraint, and what is refused."""

import dataclasses
import enum
import re
from typing import Literal

import msgspec
import pydantic
import pytest

from lagent_llms import GenerationParams, InvalidArgument
from lagent_llms.lorax.types import ResponseFormat
from lagent_llms.structured.formats import choice_as_regex, kind_of, regex_of, response_format, schema_of
from lagent_llms.structured.output_types import OutputType

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
WHOLE = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.Enum):
    LOW = 1


class Point(msgspec.Struct):
    x: int


@dataclasses.dataclass
class Pair:
    x: int


class Nothing:
    """A class without a schema."""


class Model(pydantic.BaseModel):
    x: int


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "json_object"}),
        (SCHEMA, WHOLE),
        ({"enum": [1, 2]}, {**WHOLE, "json_schema": {"name": "answer", "schema": {"enum": [1, 2]}}}),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, WHOLE),
        ({"type": "json_schema", "json_schema": SCHEMA}, WHOLE),
        ({"type": "json_schema", "name": "answer", "schema": SCHEMA}, WHOLE),
        ({"type": "json_object", "schema": SCHEMA}, WHOLE),
        (ResponseFormat("json_object", SCHEMA), WHOLE),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        ),
        (re.compile(r"\d+"), {"type": "regex_schema", "regex_schema": r"\d+"}),
        ({"type": "regex_schema", "regex_schema": r"\pL"}, {"type": "regex_schema", "regex_schema": r"\pL"}),
        (["a", "b", "a"], {"type": "choice", "choice": ["a", "b"]}),
        (Literal["a", "b"], {"type": "choice", "choice": ["a", "b"]}),
        (Colour, {"type": "choice", "choice": ["red", "blue"]}),
        ({"type": "choice", "choice": ("a",)}, {"type": "choice", "choice": ["a"]}),
        ({"type": "structural_tag", "structures": []}, {"type": "structural_tag", "structures": []}),
    ],
    ids=str,
)  # fmt: skip
def test_each_form(given, expected):
    found = response_format("response_format", given)
    assert found == expected
    assert response_format("response_format", found) == found


@pytest.mark.parametrize("kind", [Point, Pair, Model])
def test_a_type_is_its_schema_with_all_fields_and_no_others(kind):
    found = response_format("response_format", kind)
    assert found["json_schema"].pop("strict") is True
    schema = found["json_schema"].pop("schema")
    assert found == {"type": "json_schema", "json_schema": {"name": kind.__name__}}
    assert schema["type"] == "object"
    assert schema["required"] == ["x"]
    assert schema["properties"]["x"]["type"] == "integer"
    assert schema["additionalProperties"] is False


def test_a_type_that_is_no_object_is_constrained_as_it_is():
    assert schema_of(response_format("f", list[int])) == {"type": "array", "items": {"type": "integer"}}
    assert schema_of(response_format("f", Level)) == OutputType(Level).schema
    assert kind_of(response_format("f", Literal[1, 2])) == "schema"


def test_a_choice_is_a_regular_expression_for_servers_without_choices():
    texts = ["a.b", "c|d (e)", "[f]{2}", "\\", "^$*+?", "猫"]
    checked = response_format("f", texts)
    pattern = regex_of(checked)
    assert all(re.fullmatch(pattern, text) for text in texts)
    assert not re.fullmatch(pattern, "aXb")
    assert choice_as_regex(checked) == {"type": "regex_schema", "regex_schema": pattern}
    assert choice_as_regex(WHOLE) == WHOLE


@pytest.mark.parametrize(
    "given",
    [
        "json", 7, 1.5, Nothing, [], [""], ["a", 1], [["a"]], re.compile(b"x"), re.compile("x", re.I),
        re.compile(""), {}, {"schema": SCHEMA}, {"type": 5}, {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x"}}, {"type": "regex_schema"}, {"type": "choice"},
        {"type": "json_schema", "json_schema": {"schema": {"enum": [1j]}}}, ["\ud83d"], Colour.RED,
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_constraint_is_refused_by_name(given):
    with pytest.raises(InvalidArgument, match="^response_format") as caught:
        GenerationParams().changed({"response_format": given})
    assert caught.value.argument == "response_format"
