"""Messages in every form that callers have them: they are rendered and sent in OpenAI's form."""

import json
from types import MappingProxyType

import pytest

from lagent_llms import Completion, ToolCall
from lagent_llms.errors import InvalidArgument
from lagent_llms.messages import check_messages, with_call_ids

from .model import Model

CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1, "text": "é"}'}}
ARGUMENTS = {"a": 1, "text": "é"}
ASKED = {"role": "user", "content": "1 + 1?"}


def assistant(*calls, **fields):
    return {"role": "assistant", "content": None, "tool_calls": [*calls], **fields}


def checked(message):
    (found,) = check_messages([message])
    json.dumps(found)
    return found


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        ToolCall("add", ARGUMENTS),
        {"function": {"name": "add", "arguments": ARGUMENTS}},
        {"function": {"name": "add", "arguments": MappingProxyType(ARGUMENTS)}},
        {"name": "add", "arguments": ARGUMENTS},
        {"name": "add", "parameters": ARGUMENTS},
        {"id": None, "index": 0, **CALL},
        Model(type="function", function=Model(**CALL["function"])),
        {"type": "function", "function": Model(**CALL["function"], parsed=None)},
    ],
)
def test_forms_of_tool_calls(call):
    assert checked(assistant(call)) == assistant(CALL)
    assert checked(Model(**assistant(call))) == assistant(CALL)


def test_ids_and_further_fields_of_a_call_are_kept():
    call = {"id": "c1", **CALL, "extra_content": {"signature": "x"}}
    assert checked(assistant(call)) == assistant(call)
    assert checked(assistant(ToolCall("add", ARGUMENTS, "c1"))) == assistant({"id": "c1", **CALL})


def test_a_call_without_arguments_has_none():
    for call in (ToolCall("now", {}), {"function": {"name": "now", "arguments": None}}):
        assert checked(assistant(call))["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}


def test_arguments_that_are_no_json_are_kept():
    call = {"function": {"name": "add", "arguments": "1 and 2"}}
    assert checked(assistant(call))["tool_calls"][0]["function"]["arguments"] == "1 and 2"


def test_null_keys_of_sdk_dumps_are_left_out():
    dump = {"role": "assistant", "content": "Hi", "refusal": None, "tool_calls": None, "function_call": None}
    assert checked({**dump, "audio": None, "annotations": None}) == {"role": "assistant", "content": "Hi"}
    assert checked({"role": "assistant", "content": "Hi", "tool_calls": []}) == {
        "role": "assistant",
        "content": "Hi",
    }


def test_the_former_function_calls_of_openai():
    message = {"role": "assistant", "content": None, "function_call": CALL["function"]}
    assert checked(message) == assistant(CALL)


def test_completions_are_messages():
    completion = Completion("<call>", "tool_calls", tool_calls=(ToolCall("add", ARGUMENTS),), content="")
    assert checked(completion) == completion.message() == assistant(CALL)
    assert checked(Completion("Hi", "stop")) == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize(
    ("sender", "role"),
    [
        ("user", "user"),
        ("ActionExecutor", "environment"),
        ("AsyncActionExecutor", "environment"),
        ("Agent", "assistant"),
    ],
)
def test_messages_of_lagent_have_the_role_of_their_sender(sender, role):
    message = {
        "content": "hi",
        "sender": sender,
        "formatted": {"status": object()},
        "extra_info": None,
        "type": None,
        "receiver": None,
        "stream_state": 0,
    }
    assert checked(message) == checked(Model(**message)) == {"role": role, "content": "hi"}
    given = {**message, "role": "assistant", "name": "n"}
    assert checked(given) == {"role": "assistant", "content": "hi", "name": "n"}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (assistant(3), r"inputs\[0\]\['tool_calls'\]\[0\]=3: allowed is a ToolCall or a dict"),
        (assistant({"function": {"arguments": "{}"}}), r"inputs\[0\]\['tool_calls'\]\[0\]="),
        (assistant({"name": ""}), "allowed is a ToolCall or a dict"),
        (
            assistant({"name": "f", "arguments": [1]}),
            r"\['arguments'\]=\[1\]: allowed is a dict or JSON",
        ),
        (assistant(CALL, ToolCall("f", {"x": object()})), r"\['tool_calls'\]\[1\]\['arguments'\]\['x'\]="),
        ({"role": "assistant", "tool_calls": 3}, r"inputs\[0\]: 'tool_calls' is a int, expected a list"),
        ({"role": "assistant", "tool_calls": []}, "'content' is missing"),
        ({"content": "hi"}, "'role' is missing"),
    ],
)
def test_what_is_no_message_is_refused(message, error):
    with pytest.raises(InvalidArgument, match=error) as caught:
        check_messages([message])
    assert caught.value.argument == "inputs"


def test_calls_and_results_without_ids_get_them():
    results = [{"role": "tool", "content": "2"}, {"role": "tool", "content": "3", "tool_call_id": ""}]
    dialog = check_messages(
        [ASKED, assistant(CALL, CALL), *results, assistant(CALL), {"role": "tool", "content": "4"}]
    )
    found = with_call_ids(dialog)
    ids = [call["id"] for message in found for call in message.get("tool_calls", ())]
    assert ids == ["call00000", "call00001", "call00002"]
    assert [message.get("tool_call_id") for message in found if message["role"] == "tool"] == ids
    assert with_call_ids(found) == found


def test_ids_that_were_given_are_kept():
    dialog = [
        assistant({"id": "b", **CALL}, CALL, {"id": "a", **CALL}),
        {"role": "tool", "content": "of a", "tool_call_id": "a"},
        {"role": "environment", "name": "plugin", "content": "of b"},
        {"role": "tool", "content": "of b"},
        {"role": "tool", "content": "of the second"},
        {"role": "tool", "content": "of none"},
    ]
    found = with_call_ids(dialog)
    assert [call["id"] for call in found[0]["tool_calls"]] == ["b", "call00001", "a"]
    assert [message.get("tool_call_id") for message in found[1:]] == ["a", None, "b", "call00001", None]


def test_a_dialog_without_tool_calls_is_not_copied():
    dialog = [ASKED, {"role": "assistant", "content": "2"}]
    assert with_call_ids(dialog) is dialog
