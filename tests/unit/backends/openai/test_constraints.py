"""`response_format` in the form of each kind of server, on both routes; what has no form is refused."""

import json
import re

import pytest

from lagent_llms import OpenAIClient, UnsupportedParameter
from lagent_llms.backends.openai.flavours import FLAVOURS

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
JSON, REGEX, CHOICE = {"type": "json_object"}, re.compile("[ab]+"), ["a.b", "c"]
OTHER = {"type": "structural_tag", "structures": []}
WHOLE = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
CHOICE_REGEX = r"a\.b|c"


def as_it_is(value):
    return {"response_format": value}


def vllm(kind, value):
    return {"structured_outputs": {kind: value}, f"guided_{kind}": value}


#: Flavour -> the fields for JSON, a schema, a regular expression, a choice and another form; None is refused.
CHATS = {
    **dict.fromkeys(
        ("openai", "compatible", "ollama"), (as_it_is(JSON), as_it_is(WHOLE), None, None, as_it_is(OTHER))
    ),
    "vllm": (
        as_it_is(JSON), as_it_is(WHOLE), vllm("regex", "[ab]+"), vllm("choice", CHOICE), as_it_is(OTHER)
    ),
    "sglang": (
        as_it_is(JSON), as_it_is(WHOLE), {"regex": "[ab]+"}, {"regex": CHOICE_REGEX}, as_it_is(OTHER)
    ),
    "llama.cpp": (
        as_it_is(JSON), as_it_is(WHOLE), {"grammar": "root ::= [ab]+"},
        {"grammar": r'root ::= "a\x2Eb" | "c"'}, as_it_is(OTHER),
    ),
    "tgi": (
        as_it_is({"type": "json", "value": {"type": "object"}}), as_it_is({"type": "json", "value": SCHEMA}),
        as_it_is({"type": "regex", "value": "[ab]+"}), as_it_is({"type": "regex", "value": CHOICE_REGEX}),
        as_it_is(OTHER),
    ),
    "lmdeploy": (
        as_it_is(JSON), as_it_is(WHOLE), as_it_is({"type": "regex_schema", "regex_schema": "[ab]+"}),
        as_it_is({"type": "regex_schema", "regex_schema": CHOICE_REGEX}), as_it_is(OTHER),
    ),
    "lagent_llms": (
        as_it_is(JSON), as_it_is(WHOLE), as_it_is({"type": "regex_schema", "regex_schema": "[ab]+"}),
        as_it_is({"type": "choice", "choice": CHOICE}), as_it_is(OTHER),
    ),
    "transformers": (None,) * 5,
}  # fmt: skip
PROMPTS = {
    **dict.fromkeys(FLAVOURS, (None,) * 5),
    "vllm": CHATS["vllm"],
    "sglang": CHATS["sglang"],
    "lagent_llms": CHATS["lagent_llms"],
    "llama.cpp": (
        {"json_schema": {"type": "object"}}, {"json_schema": SCHEMA}, *CHATS["llama.cpp"][2:4], None
    ),
}  # fmt: skip
_FIELDS = (
    "response_format",
    "structured_outputs",
    "guided_regex",
    "guided_choice",
    "regex",
    "grammar",
    "json_schema",
)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("inputs", "table"), [(HI, CHATS), ("hi", PROMPTS)], ids=["messages", "prompt"])
def test_each_flavour(flavour, inputs, table):
    llm = OpenAIClient("http://a", "m", flavour=flavour)
    for given, expected in zip((JSON, SCHEMA, REGEX, CHOICE, OTHER), table[flavour], strict=True):
        if expected is None:
            with pytest.raises(UnsupportedParameter, match="response_format=|a prompt") as caught:
                llm.prepare(inputs, {"response_format": given})
            assert f"for flavour={flavour!r}" in str(caught.value)
            continue
        request = llm.prepare(inputs, {"response_format": given}).request
        body = json.loads(llm.answer_call(request, "m").request.body)
        assert {name: body[name] for name in _FIELDS if name in body} == expected


def test_a_refusal_says_why():
    for flavour, inputs, given, reason in (
        ("openai", HI, REGEX, "it has no field for a regular expression"),
        ("openai", HI, CHOICE, "it has no field for a choice"),
        ("openai", "hi", JSON, "messages without a meta_template go to another"),
        ("llama.cpp", HI, re.compile("(?=a)a"), r"'\(\?=a' at 0 is not supported"),
    ):
        with pytest.raises(UnsupportedParameter, match=reason) as caught:
            OpenAIClient("http://a", "m", flavour=flavour).prepare(inputs, {"response_format": given})
        assert caught.value.parameter == "response_format"
