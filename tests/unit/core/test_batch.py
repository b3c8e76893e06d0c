"""Inputs in every container: one prompt or dialog, several, or none, the same with and without await."""

import asyncio
import types
from collections import UserDict, UserList, deque

import numpy as np
import pandas
import pytest

from lagent_llms import BatchError, InvalidArgument, ServerError, UnsupportedParameter
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM
from tests.unit.model import Model

A, B = {"role": "user", "content": "a"}, {"role": "user", "content": "b"}


class Prompt(str):
    def __radd__(self, other):
        return "escaped"

    __add__ = __radd__


class Both:
    """The same calls on the synchronous and the asynchronous class."""

    def __init__(self, asynchronous):
        kind = AsyncScriptedLLM if asynchronous else ScriptedLLM
        self.llm = kind(lambda request: request.prompt.upper(), meta_template="chatml")

    def __getattr__(self, name):
        method = getattr(self.llm, name)

        def call(*args, **kwargs):
            result = method(*args, **kwargs)
            if asyncio.iscoroutine(result):
                return asyncio.run(result)
            return result

        return call if callable(method) else method


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def llm(request):
    return Both(request.param)


def array(items):
    found = np.empty(len(items), dtype=object)
    found[:] = items
    return found


LISTS = [
    list,
    tuple,
    iter,
    deque,
    UserList,
    array,
    lambda items: (item for item in items),
    lambda items: map(dict, items),
]


def shown(prompts):
    return [prompt.split("USER\n")[1].split("<|")[0].strip() for prompt in prompts]


@pytest.mark.parametrize("make", LISTS[:-1])
def test_prompts_in_any_ordered_container(llm, make):
    assert llm.generate(make(["a", "b"])) == ["A", "B"]
    assert [one.text for one in llm.complete(make(["a", "b"]))] == ["A", "B"]
    assert llm.tokenize(make(["a", "b"])) == [[97], [98]]


def test_an_iterator_has_its_values_for_each_input(llm):
    for inputs in ["a"], ["a", "b"]:
        llm.generate(inputs, stop_words=iter(["x", "y"]))
        assert [one.stop_words for one in llm.requests[-len(inputs) :]] == [("x", "y")] * len(inputs)


@pytest.mark.parametrize("make", LISTS)
def test_a_dialog_in_any_ordered_container(llm, make):
    expected = llm.chat([A, B])
    assert expected.count("USER") == 2
    assert llm.chat(make([A, B])) == expected
    assert llm.complete(make([A, B])).text == expected


@pytest.mark.parametrize("make", LISTS[:-1])
def test_dialogs_in_any_ordered_container(llm, make):
    assert shown(llm.chat(make([[A], [B]]))) == ["A", "B"]
    assert shown(llm.chat(make([(A,), deque([B])]), session_ids=make([1, 2]))) == ["A", "B"]
    ids = {request.messages[0]["content"]: request.options.session_id for request in llm.requests[-2:]}
    assert ids == {"a": 1, "b": 2}  # the requests may arrive in any order
    assert shown(llm.chat(make(["a", [B]]))) == ["A", "B"]


@pytest.mark.parametrize(
    "message",
    [
        UserDict(A),
        types.MappingProxyType(A),
        Model(**A, refusal=None),
        {"role": Prompt("user"), "content": Prompt("a")},
    ],
)
def test_any_mapping_is_a_message(llm, message):
    expected = llm.chat([A])
    assert llm.chat([message]) == llm.chat(message) == expected
    assert llm.requests[-1].messages == [A]
    assert [type(value) for value in llm.requests[-1].messages[0].values()] == [str, str]


def test_a_subclass_of_str_is_the_text_it_holds(llm):
    assert llm.generate(Prompt("a")) == "A"
    assert type(llm.requests[-1].prompt) is str
    assert llm.generate([Prompt("a"), "b"]) == ["A", "B"]
    assert llm.chat(Prompt("a")) == llm.chat("a")


def test_no_inputs_give_no_answers(llm):
    for nothing in ([], (), iter(())):
        assert llm.generate(nothing) == llm.chat(nothing) == llm.complete(nothing) == []
    assert llm.chat([], session_ids=[]) == []
    assert llm.requests == []
    with pytest.raises(BatchError, match=r"inputs\[1\] failed: inputs: the list of messages is empty"):
        llm.chat([[A], []])
    for method in (llm.stream_chat, llm.stream_text):
        with pytest.raises(InvalidArgument, match="the list of messages is empty"):
            method([])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda llm: llm.generate({"a", "b"}), "inputs: a set has no order; give a list"),
        (lambda llm: llm.complete(frozenset("ab")), "inputs: a set has no order"),
        (lambda llm: llm.chat([[A], [B]], session_ids={1, 2}), "session_ids: a set has no order"),
        (lambda llm: llm.generate(["a", "b"], session_id={1, 2}), "session_id: a set has no order"),
        (lambda llm: llm.chat([A], iter([1]), session_id=2), "session_ids and session_id are both given"),
        (lambda llm: llm.chat([[A], [B]], session_ids=iter([1])), "session_id: 1 values for 2 inputs"),
        (lambda llm: llm.generate(b"a"), r"expected a prompt \(str\) or a list of prompts, got bytes"),
        (lambda llm: llm.generate(UserDict(a=1)), "list of prompts, got UserDict"),
        (lambda llm: llm.chat([b"a"]), r"inputs\[0\]: a message is a dict .* got bytes"),
        (lambda llm: llm.chat([{"role": "user", "content": b"a"}]), r"\['content'\]=b'a': allowed is text"),
        (lambda llm: llm.chat([{**A, "name": "\ud83d"}]), r"inputs\[0\]\['name'\]: '\\ud83d' at 0 is half"),
        (lambda llm: llm.chat([{"role": "user", "content": [{"x": object}]}]), r"\['content'\]\[0\]\['x'\]="),
        (lambda llm: llm.chat([{**A, "tool_calls": [{"name": "f", "arguments": {"x": 1j}}]}]), r"\['x'\]=1j"),
        (lambda llm: llm.tokenize("\ud83d"), "inputs: '.ud83d' at 0 is half a character"),
        (lambda llm: llm.tokenize(["a", "\ud83d"]), r"inputs\[1\]: '.ud83d' at 0 is half a character"),
        (lambda llm: llm.stream_generate(["a"]), "messages go to chat"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused_by_name(llm, call, message):
    with pytest.raises(InvalidArgument, match=message):
        call(llm)
    assert llm.requests == []


def test_arrays(llm):
    assert llm.generate(np.array(["a", "b"])) == ["A", "B"]
    assert llm.generate(np.array("a")) == llm.generate(np.str_("a")) == "A"
    assert llm.stream_generate(np.str_("a")) is not None
    assert shown(llm.chat(np.array([[A], [B]]), session_ids=np.array([3, 4]))) == ["A", "B"]
    assert [type(request.options.session_id) for request in llm.requests[-2:]] == [int, int]
    assert shown(llm.chat(np.array(["a", "b"]), session_id=np.array([3, 4]))) == ["A", "B"]
    assert llm.chat([A], np.int64(5)) == llm.chat([A], session_id=np.int8(5))
    assert type(llm.llm.__class__(session_len=np.int64(9)).session_len) is int


def test_a_series_of_pandas(llm):
    assert llm.generate(pandas.Series(["a", "b"], index=[7, 8])) == ["A", "B"]
    ids = pandas.Series([3, 4], index=[7, 8])
    assert shown(llm.chat(pandas.Series([[A], [B]]), session_ids=ids)) == ["A", "B"]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def both(request):
    return Both(request.param)


def test_n_answers_to_each_input(both):
    both.llm._script = lambda request: f"{request.prompt}{request.params.seed}{request.options.n}"
    answer = both.complete("a", n=3, seed=5)
    assert [one.text for one in answer.choices] == ["a51", "a61", "a71"]
    assert answer.text == "a51"
    assert answer.choices[1].choices == (answer.choices[1],)
    answers = both.complete(["a", "b"], n=2, adapter_name=["x", None])
    assert [[one.text for one in item.choices] for item in answers] == [["aNone1"] * 2, ["bNone1"] * 2]
    assert [request.options.adapter_name for request in both.llm.requests[-4:]].count("x") == 2
    assert len(both.complete("a").choices) == 1


def test_n_of_the_constructor_is_for_complete_only(both):
    llm = type(both.llm)("ok", n=2)
    both.llm = llm
    assert len(both.complete("a").choices) == 2
    assert len(both.complete("a", n=1).choices) == 1
    sent = len(llm.requests)
    for call in (both.generate, both.chat):
        for inputs in ("a", ["a", "b"]):
            with pytest.raises(UnsupportedParameter, match="n=2 where one answer is returned") as caught:
                call(inputs)
            assert caught.value.parameter == "n"
    with pytest.raises(UnsupportedParameter, match="n=2"):
        llm.stream_generate("a")
    with pytest.raises(InvalidArgument, match="n=2: a session keeps one answer"):
        both.complete("a", sequence_end=False)
    assert len(llm.requests) == sent
    assert both.generate("a", n=1) == "ok"


def test_an_error_of_one_of_n_answers_is_that_of_the_input(both):
    both.llm._script = lambda request: [ServerError("busy")] if request.params.seed == 2 else "ok"
    with pytest.raises(ServerError, match="busy"):
        both.complete("a", n=3, seed=1, retry={"max_retries": 0})
    with pytest.raises(BatchError) as caught:
        both.complete(["a", "b"], n=2, seed=1, retry={"max_retries": 0})
    assert (caught.value.index, len(caught.value.results)) == (0, 2)
    with pytest.raises(InvalidArgument, match="the prompt is empty"):
        both.complete("", n=2)
