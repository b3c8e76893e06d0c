"""OpenAI's Responses API over real HTTP: events, dialogs, keys, errors. Real clients: test_command.py."""

import json

import pytest

from lagent_llms import AsyncJAXPipeline, StreamInterrupted
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.limits import Limits
from lagent_llms.testing import AsyncScriptedLLM

from .test_backends import CALL, serve
from .test_openai_api import ANSWER, QUESTION, ask

TOOL = {"type": "function", "name": "weather", "description": "The weather of a city.", "parameters": {}}


def respond(server, headers=None, model="embedded", **fields):
    return ask(server, "/v1/responses", {"model": model, "input": QUESTION, **fields}, headers)


def events(text):
    found = [event.split("\n") for event in text.strip().split("\n\n")]
    items = [json.loads(data.removeprefix("data: ")) for _, data in found]
    assert [name.removeprefix("event: ") for name, _ in found] == [item["type"] for item in items]
    assert [item["sequence_number"] for item in items] == [*range(len(items))]
    return items


def test_a_dialog_is_kept_but_its_instructions_are_not():
    llm = AsyncScriptedLLM("ok", meta_template="qwen2.5")
    with serve(llm) as host:
        first = respond(host, model="model", instructions="Be a pirate.", input="My name is Ann.")[2]
        again = {"previous_response_id": first["id"], "input": "Who am I?"}
        second = respond(host, model="model", **again)[2]
        assert "My name is Ann." in llm.requests[-1].prompt
        assert "ok" in llm.requests[-1].prompt
        assert "pirate" in llm.requests[0].prompt
        assert "pirate" not in llm.requests[-1].prompt
        for path in (f"/v1/responses/{first['id']}", f"/v1/responses/{second['id']}"):
            assert ask(host, path)[2] == (first if first["id"] in path else second)
        assert ask(host, f"/v1/responses/{first['id']}", method="DELETE")[2]["deleted"] is True
        status, _, answer = respond(host, model="model", **again)
        assert (status, answer["error"]["code"]) == (404, "previous_response_not_found")
        unkept = respond(host, model="model", store=False)[2]
        assert ask(host, f"/v1/responses/{unkept['id']}")[0] == 404


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_text_and_calls_are_items(stream):
    llm = AsyncScriptedLLM(f"<think>\nHm.\n</think>\n\nOne moment.\n{CALL}", meta_template="qwen3")
    with serve(llm) as host:
        status, _, answer = respond(host, model="model", tools=[TOOL], stream=stream)
        assert status == 200, answer
        if stream:
            found = events(answer)
            assert found[0]["type"] == "response.created"
            done = [item["item"] for item in found if item["type"] == "response.output_item.done"]
            answer = found[-1]["response"]
            assert done == answer["output"]
            deltas = "".join(item["delta"] for item in found if item["type"].endswith("arguments.delta"))
            assert json.loads(deltas) == {"city": "Paris"}
        assert answer["status"] == "completed"
        reasoning, message, call = answer["output"]
        assert reasoning["content"][0]["text"].strip() == "Hm."
        assert message["content"][0]["text"].strip() == "One moment."
        assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Paris"})
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny."}
        assert respond(host, model="model", input=[*QUESTION, *answer["output"], result])[0] == 200
        assert "Sunny." in llm.requests[-1].prompt
        assert respond(host, model="model", input=[result], previous_response_id=answer["id"])[0] == 200
        assert llm.requests[-1].prompt == llm.requests[-2].prompt


def test_parameters_reach_the_backend():
    llm = AsyncScriptedLLM("ok", meta_template="qwen2.5")
    with serve(llm) as host:
        form = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
        assert respond(host, model="model", text=form)[0] == 400  # a scripted model has no constraints
        choice = {"type": "function", "name": "weather"}
        fields = {"tools": [TOOL], "tool_choice": choice, "seed": 5, "max_output_tokens": 7}
        assert respond(host, model="model", **fields)[0] == 200
        request = llm.requests[-1]
        assert request.options.tool_choice == {"type": "function", "function": {"name": "weather"}}
        assert (request.params.seed, request.params.max_new_tokens) == (5, 7)


def test_the_length_makes_it_incomplete(server):
    answer = respond(server, max_output_tokens=2, temperature=0)[2]
    assert (answer["status"], answer["incomplete_details"]["reason"]) == ("incomplete", "max_output_tokens")
    last = events(respond(server, max_output_tokens=2, temperature=0, stream=True)[2])[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")
    assert last["response"]["usage"] == answer["usage"] | {
        "input_tokens_details": last["response"]["usage"]["input_tokens_details"]
    }


def test_an_error_is_the_last_event():
    with serve(AsyncScriptedLLM(["The ", StreamInterrupted("cut")], meta_template="chatml")) as host:
        last = events(respond(host, model="model", stream=True)[2])[-1]
        assert (last["type"], last["code"]) == ("error", "upstream_interrupted")
        assert last["error"]["message"] == last["message"]


def test_a_client_has_the_responses_of_its_key_only(engine):
    limits = Limits(api_keys={"alice": "sk-alice", "bob": "sk-bob"})
    with Host(openai_app(AsyncJAXPipeline(engine=engine, temperature=0), "embedded", limits)) as host:
        alice, bob = ({"Authorization": f"Bearer sk-{name}"} for name in ("alice", "bob"))
        answer = respond(host, alice)[2]
        assert answer["output"][0]["content"][0]["text"] == ANSWER
        path = f"/v1/responses/{answer['id']}"
        assert ask(host, path, headers=alice)[2] == answer
        for refused in (
            ask(host, path, headers=bob),
            ask(host, path, headers=bob, method="DELETE"),
            respond(host, bob, previous_response_id=answer["id"]),
        ):
            assert refused[0] == 404
        assert ask(host, path)[0] == 401


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"max_output_tokens": 10**9}, "max_output_tokens", "allowed are 1 to 2048"),
        ({"input": []}, "input", ""),
        ({"input": [{"type": "computer_call"}]}, "input", "input[0].type='computer_call'"),
        ({"tools": [{"type": "web_search"}]}, "tools", "tools[0].type='web_search'"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice", "'required'"),
        ({"background": True}, "background", "background=True is not supported"),
        ({"conversation": "c"}, "conversation", "conversation='c' is not supported"),
        ({"temprature": 1}, "temprature", "unknown field 'temprature'"),
        ({"include": ["message.output_text.logprobs"]}, "include", "not supported"),
        ({"temperature": -1}, "temperature", "temperature"),
    ],
)
def test_errors_name_the_field(server, fields, param, message):
    status, _, answer = respond(server, **fields)
    assert (status, answer["error"]["param"].partition(".")[0]) == (400, param)
    assert message in answer["error"]["message"]


def test_fields_that_change_nothing_are_ignored(server):
    fields = {
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "include": ["reasoning.encrypted_content"],
        "truncation": "disabled",
        "user": "u",
        "background": False,
        "conversation": None,
    }
    status, _, answer = respond(server, temperature=0, **fields)
    assert status == 200, answer
    assert answer["metadata"] == {"a": "b"}
    assert answer["parallel_tool_calls"] is False
