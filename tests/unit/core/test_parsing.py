"""`parse`: what is asked, how an invalid answer is repaired, and the errors."""

import json
import pickle
from dataclasses import dataclass

import pytest

from lagent_llms import Completion, InvalidArgument, InvalidOutput, UnsupportedParameter
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM


@dataclass
class City:
    name: str
    inhabitants: int


VALID = '{"name": "Paris", "inhabitants": 2}'
WRONG = '{"name": "Paris", "inhabitants": "many"}'
QUESTION = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Which city?"}]


class Constraining(ScriptedLLM):
    """A backend that takes `response_format`."""

    unsupported_parameters = frozenset()


class AsyncConstraining(AsyncScriptedLLM):
    """The same, asynchronous."""

    unsupported_parameters = frozenset()


def scripted(cls, *answers, **kwargs):
    """Make a model that gives `answers`, one after the other, to prompts that are JSON of the messages."""
    left = list(answers)
    template = "{{ messages | tojson }}"
    return cls(lambda request: left.pop(0), meta_template=template, **kwargs)


def dialogs(llm):
    return [[(one["role"], one["content"]) for one in json.loads(item.prompt)] for item in llm.requests]


def test_the_backend_gets_the_schema_and_the_messages_as_they_are():
    llm = scripted(Constraining, VALID)
    assert llm.parse(QUESTION, City, temperature=0) == City("Paris", 2)
    (request,) = llm.requests
    wrapped = request.params.response_format["json_schema"]
    assert (wrapped["name"], wrapped["schema"]["required"]) == ("City", ["name", "inhabitants"])
    assert request.params.temperature == 0
    assert request.messages == QUESTION


async def test_asynchronously_with_a_repair():
    llm = scripted(AsyncConstraining, WRONG, VALID)
    assert await llm.parse("Which city?", City, repair=1) == City("Paris", 2)
    with pytest.raises(InvalidOutput):
        await scripted(AsyncConstraining, "no").parse("Which city?", City)
    with pytest.raises(UnsupportedParameter, match="constrain=False"):
        await scripted(AsyncScriptedLLM).parse("Which city?", City)


def test_a_repair_gives_the_answer_back_with_what_is_wrong():
    llm = scripted(Constraining, WRONG, VALID)
    assert llm.parse(iter(QUESTION), City, repair=1) == City("Paris", 2)
    first, second = dialogs(llm)
    assert second[: len(first) + 1] == [*first, ("assistant", WRONG)]
    role, text = second[-1]
    assert role == "user"
    assert "Expected `int`, got `str` - at `$.inhabitants`" in text
    assert llm.requests[1].params.response_format == llm.requests[0].params.response_format


def test_a_repair_in_an_open_session_gives_only_the_new_message():
    llm = scripted(Constraining, WRONG, VALID, "Paris, I said.")
    session = {"session_id": 4, "sequence_end": False}
    assert llm.parse("Which city?", City, repair=2, **session) == City("Paris", 2)
    llm.chat("Again?", session_id=4, sequence_start=False)
    assert [role for role, _ in dialogs(llm)[-1]] == ["user", "assistant"] * 2 + ["user"]


def test_an_answer_that_stays_invalid_is_an_error_with_the_completion():
    for repair in (0, 2):
        llm = scripted(Constraining, *[WRONG] * 3)
        with pytest.raises(InvalidOutput, match=r"is no City: Expected `int`, got `str`") as caught:
            llm.parse("Which city?", City, repair=repair)
        assert len(llm.requests) == repair + 1
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, ValueError)
    assert isinstance(error.completion, Completion)
    assert error.completion.text == error.partial == WRONG
    assert error.reason == "Expected `int`, got `str` - at `$.inhabitants`"


def test_an_answer_that_was_cut_is_not_repaired():
    llm = scripted(Constraining, VALID[:9], VALID, finish_reason="length")
    with pytest.raises(InvalidOutput, match="it was cut by max_new_tokens"):
        llm.parse("Which city?", City, repair=1)
    assert len(llm.requests) == 1


def test_a_backend_that_cannot_constrain_says_what_would_work():
    llm = scripted(ScriptedLLM)
    with pytest.raises(UnsupportedParameter, match=r"ScriptedLLM .*OpenAIClient.*constrain=False") as caught:
        llm.parse("Which city?", City)
    assert (caught.value.parameter, llm.requests) == ("response_format", [])


@pytest.mark.parametrize("parts", [False, True])
def test_without_a_constraint_the_last_user_message_asks_for_the_schema(parts):
    question = [{"type": "text", "text": "Which city?"}] if parts else "Which city?"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "Well,"}]
    llm = scripted(ScriptedLLM, f"Sure!\n```json\n{VALID}\n```")
    assert llm.parse(messages, City, constrain=False) == City("Paris", 2)
    asked = str(dialogs(llm)[0][0][1])
    assert asked.index("Which city?") < asked.index("JSON schema") < asked.index("inhabitants")
    assert dialogs(llm)[0][1:] == [("assistant", "Well,")]
    assert llm.requests[0].params.response_format is None


def test_values_that_are_no_objects_are_asked_for_in_one():
    llm = scripted(Constraining, '{"value": [1, 2]}')
    assert llm.parse("Which numbers?", list[int]) == [1, 2]
    assert scripted(ScriptedLLM, '{"value": 7}').parse("Which number?", int, constrain=False) == 7


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"type": object()}, "type"),
        ({"repair": -1}, "repair"),
        ({"constrain": "no"}, "constrain"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"repair": 1, "sequence_start": False}, "repair"),
        ({"inputs": ""}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [], "constrain": False}, "inputs"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(given, name):
    llm = scripted(Constraining)
    with pytest.raises(InvalidArgument, match=f"^{name}"):
        llm.parse(**{"inputs": "Which city?", "type": City, **given})
    assert llm.requests == []
