"""Requests to servers with OpenAI's routes: URLs, keys, flavours, and what is refused before it is sent."""

import asyncio
import json
import logging
import threading

import pytest

from lagent_llms import (
    AsyncOpenAIClient,
    InvalidArgument,
    LLMError,
    LMDeployClient,
    NotFound,
    OpenAIClient,
    ServerError,
    UnsupportedParameter,
    create_llm,
)
from lagent_llms.backends.openai.flavours import FLAVOURS
from tests.scripted_server import ScriptedServer

HI = [{"role": "user", "content": "hi"}]
VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def serve():
    """Make a server: path -> what it answers, as JSON or (status, JSON); chats and prompts are answered."""
    servers = []

    def make(**answers):
        def script(connection):
            found = answers.get(connection.path.strip("/").replace("/", "_"))
            if found is not None:
                status, body = found if isinstance(found, tuple) else (200, found)
                connection.json(body, status)
            elif connection.path.endswith("completions"):
                connection.answer("Hello")
            else:
                connection.json({"detail": "Not Found"}, 404)

        servers.append(ScriptedServer(script))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def listed(owner, **fields):
    return {"object": "list", "data": [{"id": "m", "owned_by": owner, **fields}]}


def sent(llm, inputs=HI, **kwargs):
    request = llm.prepare(inputs, kwargs).request
    return json.loads(llm.answer_call(request, "m").request.body)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("host:8000", "http://host:8000/v1/chat/completions"),
        ("http://host/v1/", "http://host/v1/chat/completions"),
        ("http://host/v1/chat/completions", "http://host/v1/chat/completions"),
        ("http://host/v1/completions", "http://host/v1/chat/completions"),
        ("http://host/proxy/vllm", "http://host/proxy/vllm/v1/chat/completions"),
        ("https://host/api/paas/v4", "https://host/api/paas/v4/chat/completions"),
        ("https://host/v1beta/openai/", "https://host/v1beta/openai/chat/completions"),
        ("https://host/chat/completions", "https://host/chat/completions"),
        (None, "https://api.openai.com/v1/chat/completions"),
    ],
)
def test_the_url_may_be_that_of_the_server_of_its_api_or_of_a_route(given, url):
    llm = OpenAIClient(given, "m", flavour="openai")
    assert llm.endpoints.urls[0] + llm.answer_call(llm.prepare(HI, {}).request, "m").request.path == url


def test_servers_of_one_list_have_one_path():
    assert len(OpenAIClient(["http://a/v1", "http://b"], "m").endpoints.urls) == 2
    with pytest.raises(InvalidArgument, match=r"base_url: .* same path, got \['/v1', '/v4'\]"):
        OpenAIClient(["http://a/v1", "http://b/v4"], "m")


def test_the_environment_names_server_key_and_organization(serve, environment):
    server = serve()
    for name, value in zip(VARIABLES, (f"{server.url}/v1", "sk-1", "org-1", "proj-1"), strict=True):
        environment.setenv(name, value)
    OpenAIClient(model="m", flavour="openai", headers={"X-Team": "a"}).chat("hi")
    headers = server.requests[-1].headers
    assert headers["authorization"] == "Bearer sk-1"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")
    assert headers["x-team"] == "a"
    OpenAIClient(server.url, "m", flavour="openai", api_key="sk-2", organization="o").chat("hi")
    headers = server.requests[-1].headers
    assert (headers["authorization"], headers["openai-organization"]) == ("Bearer sk-2", "o")


def test_the_names_of_the_other_backends_are_understood():
    config = {"type": "OpenAIClient", "url": "http://a:1", "model_name": "m"}
    assert repr(create_llm(config)) == "OpenAIClient('http://a:1', model_name='m')"
    with pytest.raises(InvalidArgument, match="base_url and url are the same"):
        OpenAIClient("http://a", url="http://b")
    with pytest.raises(InvalidArgument, match="flavour='vlm': allowed are 'auto', .*did you mean 'vllm'"):
        OpenAIClient("http://a", flavour="vlm")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_was_not_given_is_not_sent(flavour):
    body = sent(OpenAIClient("http://a", "m", flavour=flavour))
    always = {"model", "messages", "stream", "stream_options"}
    assert body.keys() == always | FLAVOURS[flavour].always.keys()
    limit = "max_completion_tokens" if flavour == "openai" else "max_tokens"
    body = sent(OpenAIClient("http://a", "m", flavour=flavour, temperature=0), max_new_tokens=5, seed=3)
    assert (body["temperature"], body[limit], body["seed"]) == (0, 5, 3)
    assert not body.keys() & {"top_k", "top_p", "min_p", "repetition_penalty", "ignore_eos"}


def test_the_defaults_of_the_table_are_sent_when_asked_for():
    body = sent(OpenAIClient("http://a", "m", flavour="vllm", sampling="client"))
    assert (body["max_tokens"], body["top_k"], body["top_p"], body["ignore_eos"]) == (512, 40, 0.8, False)
    assert sent(OpenAIClient("http://a", "m", flavour="openai", sampling="client"))["top_p"] == 0.8


def test_values_that_change_nothing_are_sent_only_where_the_server_has_other_defaults():
    neutral = {"temperature": 1, "top_p": 1, "top_k": None}
    body = sent(OpenAIClient("http://a", "m", flavour="llama.cpp"), **neutral)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (1, 1, 0)
    assert sent(OpenAIClient("http://a", "m", flavour="vllm"), **neutral)["top_k"] == -1
    for flavour in ("openai", "tgi"):
        assert not sent(OpenAIClient("http://a", "m", flavour=flavour), **neutral).keys() & neutral.keys()
    ignored = {"ignore_eos": False, "min_p": 0, "repetition_penalty": 1, "skip_special_tokens": False}
    assert not sent(OpenAIClient("http://a", "m", flavour="openai"), **ignored).keys() & ignored.keys()


def test_fields_have_the_names_of_the_flavour():
    body = sent(OpenAIClient("http://a", "m", flavour="llama.cpp"), repetition_penalty=1.2)
    assert (body["repeat_penalty"], body["repeat_last_n"]) == (1.2, 1 << 17)
    body = sent(OpenAIClient("http://a", "m", flavour="llama.cpp"), frequency_penalty=1)
    assert (body["frequency_penalty"], body["repeat_last_n"]) == (1, 1 << 17)
    given = {"min_new_tokens": 3, "reasoning_effort": "low"}
    body = sent(OpenAIClient("http://a", "m", flavour="vllm"), logit_bias={7: 1}, **given)
    assert (body["min_tokens"], body["logit_bias"], body["reasoning_effort"]) == (3, {"7": 1}, "low")
    assert sent(OpenAIClient("http://a", "m", flavour="lmdeploy"), **given)["min_new_tokens"] == 3
    body = sent(OpenAIClient("http://a", "m", flavour="vllm"), presence_penalty=0, min_new_tokens=0)
    assert not body.keys() & {"presence_penalty", "min_tokens"}
    assert sent(OpenAIClient("http://a", "m", flavour="vllm"), adapter_name="lora")["model"] == "lora"
    body = sent(OpenAIClient("http://a", "m", flavour="sglang"), adapter_name="lora")
    assert (body["model"], body["lora_path"]) == ("m", "lora")
    words = [f"w{n}" for n in range(9)]
    assert sent(OpenAIClient("http://a", "m", flavour="vllm"), stop_words=words)["stop"] == words[:4]
    assert "stop" not in sent(OpenAIClient("http://a", "m", flavour="openai"), stop_words=words)


def test_a_template_makes_prompts_without_a_second_bos():
    llm = OpenAIClient("http://a", "m", flavour="vllm", meta_template="internlm2-lagent")
    request = llm.prepare(HI, {}).request
    call = llm.answer_call(request, "m")
    body = json.loads(call.request.body)
    assert call.request.path == "/v1/completions"
    assert body["prompt"].startswith("<|im_start|>user\nhi")
    assert body["skip_special_tokens"] is False
    assert json.loads(llm.tokenize_call("<s>hi", "m").request.body)["prompt"] == "hi"


@pytest.mark.parametrize(
    ("flavour", "given"),
    [
        ("openai", {"top_k": 5}),
        ("openai", {"skip_special_tokens": True}),
        ("compatible", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("ollama", {"logprobs": 1}),
        ("transformers", {"response_format": {"type": "json_object"}}),
        ("llama.cpp", {"adapter_name": "x"}),
        ("lagent_llms", {"tool_choice": "auto"}),
        ("lmdeploy", {"frequency_penalty": 1}),
        ("llama.cpp", {"min_new_tokens": 3}),
        ("tgi", {"presence_penalty": 1}),
        ("ollama", {"logit_bias": {3: 1}}),
        ("transformers", {"reasoning_effort": "low"}),
    ],
)
def test_what_a_flavour_does_not_take_is_refused_by_name(flavour, given):
    (name,) = given
    llm = OpenAIClient("http://a", "m", flavour=flavour)
    assert name in llm.unsupported
    with pytest.raises(UnsupportedParameter, match=f"{name}=.* for flavour='{flavour}'") as caught:
        llm.prepare(HI, given)
    assert caught.value.parameter == name
    with pytest.raises(UnsupportedParameter, match=name):
        OpenAIClient("http://a", "m", flavour=flavour, **given)


def test_what_a_route_does_not_take_is_refused_by_name():
    llm = OpenAIClient("http://a", "m", flavour="vllm")
    with pytest.raises(UnsupportedParameter, match="tool_choice='auto' for a prompt"):
        llm.prepare("hi", {"tool_choice": "auto"})
    with pytest.raises(UnsupportedParameter, match="reasoning_effort='low' for a prompt"):
        llm.prepare("hi", {"reasoning_effort": "low"})
    with pytest.raises(UnsupportedParameter, match=r"a prompt \(or meta_template\) for flavour='ollama'"):
        OpenAIClient("http://a", "m", flavour="ollama").prepare("hi", {})


def test_session_len_needs_a_server_that_counts():
    with pytest.raises(UnsupportedParameter, match="session_len=9: flavour='openai' has no route"):
        OpenAIClient("http://a", "m", flavour="openai", session_len=9)
    llm = OpenAIClient("http://a", "m", flavour="vllm", session_len=4096)
    assert sent(llm)["max_tokens"] == 512  # so that the answer fits


@pytest.mark.parametrize(
    ("models", "flavour"),
    [
        (listed("vllm"), "vllm"),
        (listed("llamacpp", status={"value": "loaded"}), "llama.cpp"),
        (listed("library"), "ollama"),
        (listed("m"), "tgi"),
        (listed("someone", status={"value": "loaded"}), "transformers"),
        (listed("organization"), "compatible"),
        (listed("system"), "openai"),
        ((404, {"detail": "Not Found"}), "compatible"),
    ],
)
def test_the_server_is_asked_once_for_its_flavour(serve, models, flavour):
    server = serve(v1_models=models)
    llm = OpenAIClient(server.url, "m")
    assert llm.chat([HI] * 8) == ["Hello"] * 8
    assert llm.flavour == flavour
    assert [request.path for request in server.requests].count("/v1/models") == 1

    async def ask():
        async with AsyncOpenAIClient(server.url, "m") as twin:
            return await twin.chat([HI] * 8), twin.flavour

    server.requests.clear()
    assert asyncio.run(ask()) == (["Hello"] * 8, flavour)
    assert [request.path for request in server.requests].count("/v1/models") == 1


def test_nothing_is_asked_when_flavour_and_model_are_given(serve):
    server = serve()
    assert OpenAIClient(server.url, "m", flavour="vllm").chat("hi") == "Hello"
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]


def test_the_model_is_asked_for(serve):
    server = serve(v1_models=listed("vllm"))
    llm = OpenAIClient(server.url)
    assert llm.chat("hi") == "Hello"
    assert (llm.model_name, llm.models(), server.requests[1].body["model"]) == ("m", ["m"], "m")
    with pytest.raises(NotFound):
        OpenAIClient(serve().url).chat("hi")


def test_an_unsupported_parameter_is_refused_once_the_server_is_known(serve):
    server = serve(v1_models=listed("library"))
    llm = OpenAIClient(server.url, "m", top_k=5)
    for _ in range(2):
        with pytest.raises(UnsupportedParameter, match="top_k=5 for flavour='ollama'"):
            llm.chat("hi")
    assert [request.path for request in server.requests] == ["/v1/models"]


@pytest.mark.parametrize(
    ("flavour", "answer", "body"),
    [
        ("vllm", {"tokens": [1, 2]}, {"model": "m", "prompt": "hi"}),
        ("llama.cpp", {"tokens": [1, 2]}, {"model": "m", "content": "hi", "add_special": True}),
        ("tgi", [{"id": 1, "text": "h"}, {"id": 2, "text": "i"}], {"inputs": "hi"}),
    ],
)
def test_tokenize(serve, flavour, answer, body):
    server = serve(tokenize=answer)
    assert OpenAIClient(server.url, "m", flavour=flavour).tokenize("hi") == [1, 2]
    assert body.items() <= server.requests[0].body.items()
    with pytest.raises(UnsupportedParameter, match=r"tokenize\(\): flavour='openai' has no route"):
        OpenAIClient(server.url, "m", flavour="openai").tokenize("hi")


def test_a_server_of_another_kind_is_named(serve):
    refused = (422, {"detail": "Unexpected fields in the request: {'top_k'}"})
    server = serve(v1_chat_completions=refused, tokenize={"count": 1})
    llm = OpenAIClient(f"{server.url}/v1/chat/completions", "m", flavour="vllm", max_retries=0)
    with pytest.raises(ServerError) as caught:
        llm.chat("hi", top_k=5)
    assert str(caught.value).startswith(
        f"{server.url}/v1/chat/completions: Unexpected fields in the request: {{'top_k'}} (HTTP 422); "
        "flavour='vllm' has top_k: is the server another kind? flavour='auto' asks it"
    )
    with pytest.raises(ServerError) as caught:
        llm.chat("hi")
    assert "flavour" not in str(caught.value)
    asked = serve(v1_models=listed("vllm"), v1_chat_completions=refused)
    with pytest.raises(ServerError) as caught:
        OpenAIClient(asked.url, "m", max_retries=0).chat("hi", top_k=5)
    assert "flavour" not in str(caught.value)  # the server was asked
    with pytest.raises(LLMError, match=r"flavour='vllm' answers an object with 'tokens'.*\"count\":1"):
        llm.tokenize("hi")
    with pytest.raises(
        NotFound, match=r"/v1/encode: Not Found;.*flavour='lmdeploy' has the route /v1/encode"
    ):
        OpenAIClient(server.url, "m", flavour="lmdeploy").tokenize("hi")


def test_an_answer_cut_by_the_servers_default_limit_is_logged_once(serve, caplog):
    def script(connection):
        connection.head()
        connection.text("Hel", "length")
        connection.event("[DONE]")
        connection.chunk()

    server = serve()
    server.script = script
    llm = OpenAIClient(server.url, "m", flavour="vllm")
    with caplog.at_level(logging.WARNING, "lagent_llms"):
        assert llm.chat("hi", max_new_tokens=1) == "Hel"
        assert not caplog.records
        assert [llm.chat("hi"), llm.complete("hi").finish_reason] == ["Hel", "length"]
    assert [record.getMessage() for record in caplog.records] == [
        f"OpenAIClient('{server.url}', model_name='m'): the server's default limit has cut an answer; "
        "max_new_tokens= sets another"
    ]


def test_a_cached_answer_with_the_servers_default_is_not_that_of_a_given_value(serve, tmp_path):
    server = serve()
    with OpenAIClient(server.url, "m", flavour="vllm", temperature=0, cache=tmp_path / "c.db") as llm:
        for given in ({}, {}, {"max_new_tokens": 512}, {"max_new_tokens": 512}):
            assert llm.chat("hi", **given) == "Hello"
    assert [request.body.get("max_tokens") for request in server.requests] == [None, 512]


def test_threads_ask_the_server_once(serve):
    server = serve(v1_models=listed("vllm"))
    llm = OpenAIClient(server.url, "m")
    threads = [threading.Thread(target=llm.chat, args=["hi"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [request.path for request in server.requests].count("/v1/models") == 1


# images, audio and files

IMAGE = {"type": "image_url", "image_url": {"url": "https://host/cat.png"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "UklGRgAAAABXQVZF", "format": "wav"}}
AUDIO_URL = {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,UklGRgAAAABXQVZF"}}
FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}


def said(*parts):
    return [{"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_flavour_gets_the_parts_that_it_takes(flavour):
    llm, taken = OpenAIClient("http://a", "m", flavour=flavour), FLAVOURS[flavour].parts.types
    assert ("image_url" in taken) == (flavour != "lagent_llms")
    for part in (IMAGE, AUDIO, FILE):
        form = AUDIO_URL if part is AUDIO and "input_audio" not in taken else part
        if form["type"] in taken:
            assert sent(llm, said(part))["messages"] == said(form)
            continue
        with pytest.raises(
            UnsupportedParameter, match=rf"inputs\[0\].*content\[1\], a part of type '{part['type']}'.*text"
        ):
            llm.prepare(said(part), {})


def test_parts_are_checked_once_the_server_is_known(serve):
    server = serve(v1_models=listed("sglang"))
    llm = OpenAIClient(server.url)
    request = {"session_id": 1, "sequence_end": False}
    assert llm.chat(said(AUDIO), **request) == "Hello"
    assert server.requests[-1].body["messages"] == said(AUDIO_URL)
    assert llm.chat(said(IMAGE), session_id=1, sequence_start=False, sequence_end=False) == "Hello"
    answer = {"role": "assistant", "content": "Hello"}
    assert server.requests[-1].body["messages"] == [*said(AUDIO_URL), answer, *said(IMAGE)]
    count = len(server.requests)
    for client in (llm, OpenAIClient(server.url)):
        with pytest.raises(UnsupportedParameter, match="it takes text, audio_url, image_url, video_url"):
            client.chat(said(FILE))
    assert [item.path for item in server.requests[count:]] == ["/v1/models"]


def test_servers_of_lmdeploy_get_parts_in_messages_of_the_user_and_of_tools():
    for llm in (LMDeployClient("http://a", "m"), OpenAIClient("http://a", "m", flavour="lmdeploy")):
        assert sent(llm, said(IMAGE, AUDIO))["messages"] == said(IMAGE, AUDIO_URL)
        with pytest.raises(UnsupportedParameter, match="in messages of tool and user"):
            llm.prepare([{"role": "system", "content": [IMAGE]}, *HI], {})
