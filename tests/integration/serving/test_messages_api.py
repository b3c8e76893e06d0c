"""Anthropic's Messages API over real HTTP: events, keys, errors. Real clients: test_command.py."""

import json

import pytest

from lagent_llms import AsyncJAXPipeline, StreamInterrupted
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.limits import Limits
from lagent_llms.testing import AsyncScriptedLLM

from .test_backends import CALL, serve
from .test_openai_api import ANSWER, QUESTION, ask

TOOL = {"name": "weather", "description": "The weather of a city.", "input_schema": {"type": "object"}}


def send(server, headers=None, path="/v1/messages", **fields):
    body = {"model": "embedded", "max_tokens": 100, "messages": QUESTION, **fields}
    return ask(server, path, body, headers)


def events(text):
    found = [event.split("\n") for event in text.strip().split("\n\n")]
    items = [json.loads(data.removeprefix("data: ")) for _, data in found]
    assert [name.removeprefix("event: ") for name, _ in found] == [item["type"] for item in items]
    return items


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_text_and_calls_are_blocks(stream):
    llm = AsyncScriptedLLM(f"<think>\nHm.\n</think>\n\nOne moment.\n{CALL}", meta_template="qwen3")
    with serve(llm) as host:
        status, _, answer = send(host, model="model", tools=[TOOL], stream=stream)
        assert status == 200, answer
        if stream:
            found = events(answer)
            assert (found[0]["type"], found[-1]["type"]) == ("message_start", "message_stop")
            blocks = [item["content_block"] for item in found if item["type"] == "content_block_start"]
            for item in found:
                if item["type"] == "content_block_delta":
                    kind, text = item["delta"].values()
                    key = {"thinking_delta": "thinking", "text_delta": "text"}.get(kind, "json")
                    blocks[item["index"]][key] = blocks[item["index"]].get(key, "") + text
            blocks[-1]["input"] = json.loads(blocks[-1].pop("json"))
            answer = {**found[0]["message"], "content": blocks, **found[-2]["delta"]}
        thinking, text, call = answer["content"]
        assert thinking["thinking"].strip() == "Hm."
        assert text["text"].strip() == "One moment."
        assert (call["name"], call["input"], answer["stop_reason"]) == (
            "weather",
            {"city": "Paris"},
            "tool_use",
        )
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": "Sunny."}
        dialog = [
            *QUESTION,
            {"role": "assistant", "content": answer["content"]},
            {"role": "user", "content": [result]},
        ]
        assert send(host, model="model", messages=dialog, tools=[TOOL])[0] == 200
        assert "Sunny." in llm.requests[-1].prompt
        send(host, model="model", tools=[TOOL], tool_choice={"type": "none"})
        assert "weather of a city" not in llm.requests[-1].prompt


def test_parameters_reach_the_backend():
    llm = AsyncScriptedLLM("ok", meta_template="qwen2.5")
    with serve(llm) as host:
        form = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
        assert send(host, model="model", output_config=form)[0] == 400  # a scripted model has no constraints
        for given, passed in (
            ({"type": "any"}, "required"),
            ({"type": "tool", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
        ):
            fields = {"tools": [TOOL], "tool_choice": given, "top_k": 5, "max_tokens": 7}
            assert send(host, model="model", **fields)[0] == 200
            request = llm.requests[-1]
            assert (request.options.tool_choice, request.params.top_k) == (passed, 5)
            assert request.params.max_new_tokens == 7


def test_why_a_message_ended(server):
    answer = send(server, stop_sequences=[" Paris"], temperature=0)[2]
    assert answer["content"] == [{"type": "text", "text": "The capital of France is"}]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", " Paris")
    assert send(server, max_tokens=2)[2]["stop_reason"] == "max_tokens"
    answer = send(server, max_tokens=64_000, temperature=0)[
        2
    ]  # more than the context: clients send their own
    assert (answer["content"][0]["text"], answer["stop_reason"]) == (ANSWER, "end_turn")


def test_an_answer_that_was_begun_is_continued(server):
    begun = [*QUESTION, {"role": "assistant", "content": "The capital of"}]
    assert send(server, messages=begun, temperature=0)[2]["content"][0]["text"].strip() == "France is Paris."


def test_tokens_are_counted(server):
    counted = send(server, path="/v1/messages/count_tokens", max_tokens=None)[2]
    usage = send(server)[2]["usage"]
    assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}


def test_an_error_is_the_last_event():
    with serve(AsyncScriptedLLM(["The ", StreamInterrupted("cut")], meta_template="chatml")) as host:
        last = events(send(host, model="model", stream=True)[2])[-1]
        assert (last["type"], last["error"]["type"]) == ("error", "api_error")
        assert last["request_id"] in last["error"]["message"]


def test_errors_have_anthropics_form(engine):
    limits = Limits(api_key="sk-a", max_body=2000)
    key = {"x-api-key": "sk-a"}
    with Host(openai_app(AsyncJAXPipeline(engine=engine, temperature=0), "embedded", limits)) as host:
        assert send(host, key)[0] == 200
        assert send(host, {"Authorization": "Bearer sk-a"})[0] == 200
        for answer, status, kind in (
            (send(host), 401, "authentication_error"),
            (send(host, {"x-api-key": "sk-b"}), 401, "authentication_error"),
            (send(host, {**key, "Host": "evil.example"}), 403, "permission_error"),
            (send(host, key, model="other"), 404, "not_found_error"),
            (send(host, key, system="x" * 3000), 413, "request_too_large"),
            (send(host, key, max_tokens=0), 400, "invalid_request_error"),
            (send(host, key, max_tokens=None), 400, "invalid_request_error"),
            (send(host, key, path="/v1/messages/batches"), 404, "not_found_error"),
        ):
            assert (answer[0], answer[2]["type"], answer[2]["error"]["type"]) == (status, "error", kind)
            assert answer[2]["request_id"] == answer[1]["request-id"]
        limits.max_requests = 0
        answer = send(host, key)
        assert (answer[0], answer[1]["retry-after"]) == (429, "1")
        assert answer[2]["error"]["type"] == "rate_limit_error"
        assert "param" in ask(host, "/v1/chat/completions", {}, key)[2]["error"]  # OpenAI's keep their form


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stop_sequences": ["x"] * 200}, "stop_sequences"),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "tools[0].type='web_search_20250305'",
        ),
        ({"tool_choice": {"type": "tool"}}, "tool_choice="),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers="),
        ({"temprature": 1}, "unknown field 'temprature'"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "content[0].type='document'"),
    ],
)
def test_errors_name_the_field(server, fields, message):
    status, _, answer = send(server, **fields)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert message in answer["error"]["message"]


def test_fields_that_change_nothing_are_ignored(server):
    fields = {
        "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "service_tier": "auto",
        "output_config": {"effort": "low"},
        "mcp_servers": [],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }
    assert send(server, **fields)[0] == 200
