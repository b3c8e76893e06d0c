"""Values that Python programs really hold: each is sent as what it means, or refused by name."""

import datetime
import decimal
import enum
import fractions
import json
import types
from collections import UserDict, UserList, UserString, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms import (
    AsyncJAXClient,
    AsyncLMDeployClient,
    InvalidArgument,
    JAXClient,
    LMDeployClient,
    Timeout,
    validators,
)
from lagent_llms.core.parameters import ParameterSet
from lagent_llms.params import CallOptions, GenerationParams
from tests.unit.model import Model


class Text(str):
    def __str__(self):
        return "not what it holds"

    __repr__ = __str__


class Word(str, enum.Enum):
    STOP = "stop"


class Level(enum.IntEnum):
    LOW = 3


class Plain(enum.Enum):
    HALF = 0.5


class Schema:
    """A class like one of pydantic."""

    @classmethod
    def model_json_schema(cls):
        return {"type": "object"}


def checked(name, value):
    tables = ParameterSet("SomeLLM").merge(GenerationParams(), CallOptions(), {name: value})
    return next(getattr(table, name) for table in tables if hasattr(table, name))


FLOATS = [
    Plain.HALF, fractions.Fraction(1, 2),
    np.float16(0.5), np.float32(0.5), np.float64(0.5), np.longdouble(0.5), np.array(0.5),
]  # fmt: skip
INTS = [Level.LOW, 3.0, np.int8(3), np.uint16(3), np.int32(3), np.int64(3), np.uint64(3), np.array(3)]
LISTS = [tuple, iter, deque, UserList, np.array]
CONVERTED = [
    *(("temperature", value, 0.5) for value in FLOATS),
    *(("top_p", value, 0.5) for value in FLOATS),
    *(("temperature", value, 3) for value in INTS),
    *(("top_k", value, 3) for value in INTS),
    *(("max_new_tokens", value, 3) for value in INTS),
    ("session_id", Level.LOW, 3),
    ("request_id", Word.STOP, "stop"),
    ("adapter_name", Text("a"), "a"),
    ("on_error", Text("status"), "status"),
    ("stop_words", Text("a"), ("a",)),
    ("stop_words", Word.STOP, ("stop",)),
    *(("stop_words", make(["b", "a"]), ("b", "a")) for make in LISTS),
    *(("stop_words", make(["b", "a"]), ("a", "b")) for make in (set, frozenset)),
    ("response_format", UserDict(type="json_object"), {"type": "json_object"}),
    ("response_format", types.MappingProxyType({"type": Word.STOP}), {"type": "stop"}),
    ("response_format", UserList(["a"]), {"type": "choice", "choice": ["a"]}),
    ("response_format", Model(type="json_object", other=None), {"type": "json_object"}),
    (
        "response_format",
        {"type": "json_schema", "schema": Schema},
        {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
    ),
    ("tool_choice", Text("auto"), "auto"),
    ("tools", ({"type": Word.STOP, "of": {"b", "a"}},), [{"type": "stop", "of": ["a", "b"]}]),
    ("tools", deque([Model(type="web_search")]), [{"type": "web_search"}]),
    ("top_k", np.float32(3), 3),
    ("session_id", np.int64(3), 3),
    ("session_id", np.array(3), 3),
    ("seed", np.uint64(2**63 - 1), 2**63 - 1),
    ("ignore_eos", np.bool_(True), True),
    ("ignore_eos", np.array(False), False),
    ("logprobs", np.bool_(True), 0),
    ("logprobs", np.int32(3), 3),
    ("request_id", np.int64(7), "7"),
    ("adapter_name", np.str_("a"), "a"),
    ("timeout", np.float32(0.5), Timeout(first_token=0.5, idle=0.5)),
    ("parameters", {"a": np.float32(0.5), "b": np.bool_(True)}, {"a": 0.5, "b": True}),
    (
        "tools",
        [{"type": "n", "n": np.int64(1), "of": np.array([[1.5], [2]])}],
        [{"type": "n", "n": 1, "of": [[1.5], [2.0]]}],
    ),
]


@pytest.mark.parametrize(("name", "given", "expected"), CONVERTED)
def test_values_are_converted_to_pythons_own(name, given, expected):
    value = checked(name, given)
    assert value == expected
    assert_plain(value)


def assert_plain(value):
    if isinstance(value, dict):
        assert type(value) is dict
        for key, item in value.items():
            assert type(key) is str
            assert_plain(item)
    elif isinstance(value, (list, tuple)):
        assert type(value) in (list, tuple)
        for item in value:
            assert_plain(item)
    else:
        assert value is None or type(value) in (bool, int, float, str, Timeout), type(value)


LOOP = []
LOOP.append(LOOP)


REFUSED = [
    ("temperature", decimal.Decimal("0.5"), "temperature=Decimal('0.5')"),
    ("temperature", 1j, "temperature=1j"),
    ("stop_words", b"a", "stop_words=b'a'"),
    ("stop_words", {"a": 1}, "stop_words={'a': 1}"),
    ("stop_words", UserString("a"), "stop_words='a'"),
    ("adapter_name", "\ud83d", "adapter_name: '\\ud83d' at 0 is half a character"),
    ("request_id", "\ud83d", "request_id: '\\ud83d' at 0 is half a character"),
    ("tool_choice", "\ud83d", "tool_choice: '\\ud83d' at 0"),
    ("tools", [{"name": "\ud83d"}], "tools[0]['name']: '\\ud83d' at 0"),
    ("tools", [{"\ud83d": "x"}], "tools[0]: '\\ud83d' at 0"),
    ("tools", [{"on": [datetime.date(2026, 1, 2)]}], "tools[0]['on'][0]=datetime.date(2026, 1, 2): "),
    ("tools", [{"default": decimal.Decimal(1)}], "tools[0]['default']=Decimal('1')"),
    ("tools", [{"default": b"x"}], "tools[0]['default']=b'x'"),
    ("tools", [{"default": float("nan")}], "tools[0]['default']=nan"),
    ("tools", [{"default": 2**64}], f"tools[0]['default']={2**64}"),
    ("tools", [{"default": object}], "tools[0]['default']=<class 'object'>"),
    ("tools", [{"default": {1: 2}}], "tools[0]['default']={1: 2}: allowed is text"),
    ("tools", [{"default": LOOP}], "tools: is nested more than 100 levels deep"),
    ("tools", Model(type="function"), "tools=<"),
    ("response_format", Model, "response_format=<class"),
    ("response_format", {"enum": [1j]}, "response_format['enum'][0]=1j"),
    ("parameters", {"a": float("inf")}, "parameters['a']=inf"),
    ("merged_adapters", {"weights": [float("nan")]}, "merged_adapters['weights'][0]=nan"),
    ("stop_words", ["x" * 1_000_000, 3], "stop_words=['xxx"),
    ("temperature", np.bool_(True), "temperature="),
    ("temperature", np.float32("nan"), "temperature="),
    ("temperature", np.array([0.5, 0.6]), "temperature=array([0.5, 0.6])"),
    ("top_k", np.float32(1.5), "top_k="),
    ("session_id", np.bool_(True), "session_id="),
    ("ignore_eos", np.int64(1), "ignore_eos="),
    ("ignore_eos", np.array([True, False]), "ignore_eos=array([ True, False])"),
    ("stop_words", np.array([1, 2]), "stop_words=array([1, 2])"),
    ("on_error", np.array(["raise", "status"]), "on_error=array("),
]


@pytest.mark.parametrize(("name", "given", "message"), REFUSED)
def test_values_that_cannot_be_sent_are_refused_by_name(name, given, message):
    with pytest.raises(InvalidArgument) as caught:
        checked(name, given)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 500
    assert caught.value.argument == name


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
ODD = st.recursive(
    st.sampled_from([*FLOATS, *INTS, Text("t"), Word.STOP, b"b", 1j, {1: 2}, object(), float("nan")])
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4).flatmap(
        lambda items: st.sampled_from([items, tuple(items), deque(items), UserDict(a=items), Model(a=items)])
    ),
    max_leaves=10,
)


@given(JSON)
def test_json_stays_as_it_is(value):
    assert validators.plain("tools", value) == value


@given(ODD)
def test_whatever_passes_can_be_encoded(value):
    try:
        sent = validators.plain("tools", value)
    except InvalidArgument:
        return
    assert_plain(sent)
    json.dumps(sent, allow_nan=False, ensure_ascii=False).encode()


def test_the_callers_objects_are_not_changed():
    tools = [{"type": "function", "of": ("a",)}]
    assert validators.plain("tools", tools) == [{"type": "function", "of": ["a"]}]
    assert tools == [{"type": "function", "of": ("a",)}]


@pytest.mark.parametrize("backend", [LMDeployClient, AsyncLMDeployClient, JAXClient, AsyncJAXClient])
def test_every_backend_gets_plain_values(backend):
    llm = backend("http://127.0.0.1:9", Word.STOP, temperature=Plain.HALF, max_retries=Level.LOW)
    messages = deque([UserDict(role=Word.STOP, content=Text("hi"), tool_calls=({"name": Text("f")},))])
    given = {
        "stop_words": {"<|b|>", "<|a|>"},
        "max_new_tokens": Level.LOW,
        "tools": iter([{"name": Text("f")}]),
    }
    request = llm.prepare(messages, given).request
    body = json.loads(llm.answer_call(request, llm.model_name).request.body)
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("stop", 0.5, 3)
    call = {"id": "call00000", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert body["messages"] == [{"role": "stop", "content": "hi", "tool_calls": [call]}]
    assert body["stop"] == ["<|a|>", "<|b|>"]
    assert body["tools"] == [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize("key", ["sk-secret\n", " sk-secret"])
def test_an_api_key_with_white_space_around_it_is_refused_unshown(key):
    with pytest.raises(InvalidArgument, match="api_key: it begins or ends with white space") as caught:
        LMDeployClient("http://a:1", api_key=key)
    assert "sk-secret" not in str(caught.value)
