"""The OpenAI-compatible routes over other backends: errors, tools, sessions, /tokenize."""

import json

import pytest

from lagent_llms import AsyncJAXPipeline, AsyncLMDeployClient, LLMError, RateLimited
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.testing import AsyncScriptedLLM
from tests.scripted_server import ScriptedServer

from .test_openai_api import QUESTION, ask, events

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def serve(llm):
    return Host(openai_app(llm, "model"))


def chat(host, **fields):
    return ask(host, "/v1/chat/completions", {"model": "model", "messages": QUESTION, **fields})


def test_a_backend_that_cannot_be_reached_is_502():
    with serve(AsyncLMDeployClient("http://127.0.0.1:9", "x", max_retries=0)) as host:
        for stream in (False, True):
            status, _, answer = chat(host, stream=stream)
            assert (status, answer["error"]["code"]) == (502, "upstream_unreachable")
            assert answer["error"]["type"] == "server_error"


def test_a_backend_that_times_out_is_504():
    with serve(AsyncScriptedLLM([30.0] * 3, meta_template="chatml", timeout=0.2)) as host:
        for stream in (False, True):
            assert chat(host, stream=stream)[0] == 504


def test_the_status_of_a_backend_is_passed_on():
    def refuse(connection):
        connection.json({"error": {"message": "come later"}}, 429, Retry_After=7)

    with (
        ScriptedServer(refuse) as remote,
        serve(AsyncLMDeployClient(remote.url, "x", max_retries=0)) as host,
    ):
        status, headers, _ = chat(host)
        assert (status, headers["retry-after"]) == (429, "7")


def test_a_request_that_a_backend_cannot_use_is_400():
    def refuse(connection):
        connection.json({"error": {"message": "no such thing as a purple tool"}}, 422)

    with ScriptedServer(refuse) as remote:
        llm = AsyncLMDeployClient(remote.url, "x", max_retries=0)
        with serve(llm) as host:
            status, _, answer = chat(host)
    assert status == 400
    assert "purple tool" in answer["error"]["message"]


def test_an_error_after_the_first_chunk_comes_in_the_stream():
    script = ["The ", "capital", RateLimited("no more", retry_after=1)]
    with serve(AsyncScriptedLLM(script, meta_template="chatml")) as host:
        status, _, text = chat(host, stream=True)
        items = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
        assert status == 200
        assert items[0]["choices"][0]["delta"]["content"] == "The "
        assert items[-1]["error"]["message"] == "no more"
        assert "[DONE]" not in text


def test_a_fault_of_the_backend_is_500_and_the_server_stays_up():
    def script(request):
        return [LLMError("broken")] if "France" in request.prompt else "fine"

    with serve(AsyncScriptedLLM(script, meta_template="chatml")) as host:
        status, _, answer = chat(host)
        assert status == 500
        assert answer["error"]["message"].startswith("the server failed; ")  # the log has the details
        answer = chat(host, messages=[{"role": "user", "content": "hi"}])[2]
        assert answer["choices"][0]["message"]["content"] == "fine"


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'


@pytest.mark.parametrize("stream", [False, True])
def test_the_template_formats_and_parses_tools(stream):
    llm = AsyncScriptedLLM(CALL, meta_template="qwen2.5")
    with serve(llm) as host:
        status, _, answer = chat(host, tools=TOOLS, tool_choice="auto", stream=stream)
        assert status == 200
        if stream:
            choices = [item["choices"][0] for item in events(answer)]
            reason = choices[-1]["finish_reason"]
            assert "".join(choice["delta"].get("content") or "" for choice in choices) == ""
            parts = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
            assert {part["index"] for part in parts} == {0}
            arguments = "".join(part["function"]["arguments"] for part in parts)
            function = {"name": parts[0]["function"]["name"], "arguments": arguments}
            message = {"tool_calls": [{**parts[0], "function": function}]}
        else:
            choice = answer["choices"][0]
            message, reason = choice["message"], choice["finish_reason"]
        assert reason == "tool_calls"
        (call,) = message["tool_calls"]
        assert call["type"] == "function"
        assert call["function"]["name"] == "weather"
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
        assert "The weather of a city." in llm.requests[-1].prompt
        chat(host, tools=TOOLS, tool_choice="none")
        assert "The weather of a city." not in llm.requests[-1].prompt
        # The next turn in the format of OpenAI's clients.
        dialog = [
            *QUESTION,
            {"role": "assistant", "content": None, "tool_calls": [{"id": "call_0", **call}]},
            {"role": "tool", "tool_call_id": "call_0", "content": "Sunny."},
        ]
        assert chat(host, messages=dialog, tools=TOOLS)[0] == 200
        assert "Sunny." in llm.requests[-1].prompt


def test_unsupported_tools_and_tool_choice_are_refused(engine):
    with serve(AsyncJAXPipeline(engine=engine, temperature=0, meta_template="chatml")) as host:
        status, _, answer = chat(host, tools=TOOLS)
        assert (status, answer["error"]["code"]) == (400, "unsupported_parameter")
        status, _, answer = chat(host, tools=TOOLS, tool_choice="required")
        assert (status, answer["error"]["param"]) == (400, "tool_choice")


def test_tool_calls_of_the_embedded_model_are_parsed(engine):
    plugin = {"role": "system", "name": "plugin", "content": json.dumps([{"name": "calculator"}])}
    with serve(AsyncJAXPipeline(engine=engine, temperature=0)) as host:
        asked = [plugin, {"role": "user", "content": "What is 231 * 17?"}]
        choice = chat(host, messages=asked)[2]["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["tool_calls"][0]["function"]["name"] == "calculator"


@pytest.mark.parametrize("sessions", [{"sequence_end": False}, {"sequence_start": False}])
def test_clients_share_no_session(sessions):
    llm = AsyncScriptedLLM("fine", meta_template="chatml", **sessions)
    with serve(llm) as host:
        assert ask(host, "/tokenize", {"messages": QUESTION})[0] == 200
        for stream in (False, True):
            assert chat(host, stream=stream)[0] == 200
        assert ask(host, "/v1/completions", {"model": "model", "prompt": ["one", "two"]})[0] == 200
    assert len({request.prompt for request in llm.requests}) == 3
    assert all(request.options.stateless for request in llm.requests)
    assert len(llm.sessions) == 0


def test_tokenize(engine):
    llm = AsyncJAXPipeline(engine=engine, temperature=0)
    with serve(llm) as host:
        count = ask(host, "/tokenize", {"model": "model", "prompt": "hello"})[2]
        assert count["count"] == len(count["tokens"]) > 0
        assert count["max_model_len"] == engine.max_len
        asked = ask(host, "/tokenize", {"messages": QUESTION})[2]["count"]
        assert asked == chat(host)[2]["usage"]["prompt_tokens"]
        assert ask(host, "/tokenize", {})[0] == 400
    with serve(AsyncLMDeployClient("http://127.0.0.1:9", "x", max_retries=0)) as host:
        assert ask(host, "/tokenize", {"messages": QUESTION})[0] == 400


def test_a_client_cannot_have_a_file_of_this_machine_read(tmp_path):
    (tmp_path / "own.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    path = str(tmp_path / "own.png")
    text = AsyncScriptedLLM("fine", meta_template="chatml")
    seeing = AsyncLMDeployClient("http://127.0.0.1:9", "x", max_retries=0)
    for llm in (text, seeing):
        with serve(llm) as host:
            for part in (
                {"type": "image", "image": path},
                {"type": "image_url", "image_url": {"url": path}},
                {"type": "image_url", "image_url": {"url": f"file://{path}"}},
                {"type": "file", "file": {"file_data": path}},
                {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
            ):
                messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}]
                status, _, body = chat(host, messages=messages)
                refused = 400, "messages[0].content: only text parts are allowed"
                assert (status, body["error"]["message"].partition(",")[0]) == refused
                status, _, body = ask(host, "/tokenize", {"messages": messages})
                assert (status, body["error"]["message"].partition(",")[0]) == refused
    assert not text.requests


def test_options_of_the_chat_template():
    with serve(llm := AsyncScriptedLLM("fine", meta_template="qwen3")) as host:
        begun = [*QUESTION, {"role": "assistant", "content": "It"}]
        assert chat(host, chat_template_kwargs={"enable_thinking": False})[0] == 200
        assert llm.requests[-1].prompt.endswith("<think>\n\n</think>\n\n")
        assert chat(host, messages=begun, continue_final_message=True, add_generation_prompt=False)[0] == 200
        assert llm.requests[-1].prompt.endswith("It")
        prompt = {"messages": begun, "continue_final_message": True}
        assert ask(host, "/tokenize", prompt)[0] == 200
        sent = len(llm.requests)
        for fields, message in (
            ({"chat_template_kwargs": {"thinking": 1}}, "unknown option 'thinking'"),
            ({"chat_template_kwargs": {"history": 1, "self": 1}}, "self is given by the call"),
            ({"chat_template_kwargs": {"now": "x"}}, "now"),
            ({"chat_template_kwargs": []}, "chat_template_kwargs"),
            ({"continue_final_message": True}, "its role is 'user'"),
            ({"continue_final_message": True, "add_generation_prompt": True}, "only one of them can be true"),
            ({"add_generation_prompt": False}, "add_generation_prompt=False"),
        ):
            status, _, answer = chat(host, **fields)
            assert status == 400, fields
            assert message in answer["error"]["message"]
        assert len(llm.requests) == sent
