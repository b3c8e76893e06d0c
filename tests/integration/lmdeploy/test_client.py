"""LMDeployClient on lmdeploy's real api_server."""

import asyncio
import json
import re
import threading
from typing import Literal

import pytest

from lagent_llms import (
    AsyncLMDeployClient,
    LMDeployClient,
    ModelStatusCode,
    ServerError,
    SessionClosed,
    SessionOutOfLimit,
    UnsupportedParameter,
    create_llm,
)
from tests import lmdeploy_peer as peers
from tests.unit.test_media import PNG
from tests.waiting import until, wait_until

from .questions import CALCULATE, CALCULATOR, COUNT, DIALOGS, FRANCE, PARIS, user

GREEDY = {"temperature": 0, "max_new_tokens": 64}
LONG = {"ignore_eos": True, "max_new_tokens": 1500}


@pytest.fixture(scope="module")
def llm(peer):
    """A client with our template: prompts are sent to /v1/completions."""
    with LMDeployClient(peer.url, peers.NAME, meta_template="internlm2-lagent", **GREEDY) as llm:
        yield llm


@pytest.fixture(scope="module")
def chat(peer):
    """A client with the server's template: messages are sent to /v1/chat/completions."""
    with LMDeployClient(peer.url, peers.NAME, **GREEDY) as llm:
        yield llm


# the same answers as the JAX engine


@pytest.mark.parametrize("number", range(len(DIALOGS)))
@pytest.mark.parametrize("route", ["pytorch", "turbomind", "turbomind-chat"])
def test_greedy_answers_equal_those_of_jax(peer, other_peer, jax, number, route):
    url, key = (peer.url, None) if route == "pytorch" else (other_peer.url, "sk-right")
    template = None if route == "turbomind-chat" else "internlm2-lagent"
    expected = jax.complete(DIALOGS[number])
    with LMDeployClient(url, peers.NAME, api_key=key, meta_template=template, **GREEDY) as llm:
        completion = llm.complete(DIALOGS[number])
    assert completion.text == expected.text
    assert completion.finish_reason in (expected.finish_reason, "stop")
    assert completion.usage.completion_tokens == len(expected.token_ids)
    assert jax.tokenize(completion.text)[1:] == list(expected.token_ids)


async def test_the_asynchronous_client(peer, jax):
    async with AsyncLMDeployClient(peer.url, peers.NAME, meta_template="internlm2-lagent", **GREEDY) as llm:
        answers = await llm.chat(DIALOGS)
    assert answers == jax.chat(DIALOGS)


# prompts and messages


def test_the_prompt_has_one_bos(llm, chat):
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    counts = [
        llm.complete(FRANCE).usage.prompt_tokens,
        chat.complete(FRANCE).usage.prompt_tokens,
        llm.complete("<s>" + prompt).usage.prompt_tokens,
        len(llm.tokenize(prompt)),
    ]
    assert len(set(counts)) == 1


def test_tokenize_uses_the_server(llm, jax):
    texts = ["Hello", "你好 <|im_end|>", "<s>x"]
    assert llm.tokenize(texts) == jax.tokenize(texts)
    assert llm.tokenize("Hello") == jax.tokenize("Hello")


def test_do_preprocess(chat, llm):
    for client in (chat, llm):
        assert client.generate(FRANCE[0]["content"], do_preprocess=True) == PARIS
        assert client.generate(FRANCE[0]["content"]) != PARIS


def test_the_last_message_is_continued_by_both_routes(chat, llm):
    begun = [*FRANCE, {"role": "assistant", "content": PARIS.removesuffix(" is Paris.")}]
    for client in (chat, llm):
        completion = client.complete(
            begun, continue_final_message=True, chat_template_kwargs={} if client is llm else {"unread": 1}
        )
        assert completion.text == " is Paris."


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("choice", [None, "auto"])
def test_tools(chat, stream, choice):
    tools = [{"type": "function", "function": {**CALCULATOR, "parameters": {"type": "object"}}}]
    completion = chat.complete(CALCULATE, tools=tools, tool_choice=choice, stream=stream)
    (call,) = completion.tool_calls
    assert (call.name, call.arguments) == ("calculator", {"expression": "231 * 17"})
    assert call.id
    assert completion.finish_reason == "tool_calls"


def test_no_tool_choice(chat):
    tools = [{"type": "function", "function": {**CALCULATOR, "parameters": {"type": "object"}}}]
    completion = chat.complete(CALCULATE, tools=tools, tool_choice="none")
    assert completion.tool_calls == ()
    assert "<|plugin|>" in completion.text


def test_tool_calls_with_our_template_are_parsed_by_the_client(llm):
    completion = llm.complete(CALCULATE)
    assert completion.tool_calls[0].arguments == {"expression": "231 * 17"}
    assert completion.finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_is_separate_from_the_text(thinking_peer, stream):
    with LMDeployClient(thinking_peer.url, **GREEDY) as llm:
        completion = llm.complete(CALCULATE, stream=stream)
        assert completion.reasoning.strip() == "<|action_start|>"
        assert completion.text.strip().startswith('{"name": "calculator"')
        assert "</think>" not in completion.text
        with llm.stream_chat(CALCULATE, stream=stream) as chunks:
            assert "".join(chunk.delta for chunk in chunks) == completion.text


def test_response_format(chat):
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    for given in (wanted, schema):
        answer = json.loads(chat.chat(user("Is this fine?"), response_format=given))
        assert answer.keys() == {"ok"}
    assert re.fullmatch(r"[XZ]\d-[a-c]", chat.chat(FRANCE, response_format=re.compile(r"[XZ]\d-[a-c]")))
    choice = ["x.y|(z)", "[a]+", "\\"]
    assert chat.chat(FRANCE, response_format=choice) in choice
    assert chat.parse(FRANCE, Literal["red", "blue"]) in ("red", "blue")
    with pytest.raises(UnsupportedParameter, match="response_format"):
        chat.generate("Is this fine?", response_format=wanted)


def test_the_server_reads_images_and_its_model_does_not(chat):
    content = [{"type": "text", "text": "What?"}, {"type": "image", "image": PNG}]
    with pytest.raises(ServerError, match="Multimodal input is not supported by this model"):
        chat.chat([{"role": "user", "content": content}])


def test_logprobs_without_alternatives(chat):
    completion = chat.complete(FRANCE, logprobs=True)
    assert len(completion.logprobs) == completion.usage.completion_tokens
    assert {item.top for item in completion.logprobs} == {()}


# adapters, model names


def test_adapters_are_model_names(llm, chat):
    assert set(llm.models()) == {peers.NAME, "shout", "french", "pirate"}
    for client in (llm, chat):
        assert client.chat(FRANCE, adapter_name="shout") == PARIS.upper()
        assert client.chat(FRANCE) == PARIS


def test_the_server_is_asked_for_the_model(peer):
    with LMDeployClient(peer.url, **GREEDY) as llm:
        assert llm.chat(FRANCE) == PARIS
        assert llm.model_name == peers.NAME


def test_by_configuration(peer):
    config = {"type": "LMDeployClient", "url": peer.url, "model_name": peers.NAME, **GREEDY}
    with create_llm(config) as llm:
        assert llm.chat(FRANCE) == PARIS


# the parameters of the seed


def test_ignore_eos(llm):
    completion = llm.complete(FRANCE, ignore_eos=True, max_new_tokens=33)
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 33)


def test_stream_false_is_one_answer(llm):
    chunks = list(llm.stream_chat(FRANCE, stream=False))
    assert [chunk.status for chunk in chunks] == [ModelStatusCode.STREAM_ING, ModelStatusCode.END]
    assert chunks[-1].text == PARIS
    assert len(list(llm.stream_chat(FRANCE))) > 5


@pytest.mark.parametrize("word", ["capital of Fra", " is Paris", "ance", "i"])
def test_stop_words_of_any_length(llm, chat, word):
    for client in (llm, chat):
        completion = client.complete(FRANCE, stop_words=[word, "<|im_end|>"])
        assert completion.text == PARIS.split(word)[0]
        assert completion.stop_word == word


def test_sessions_are_stored_in_the_client(llm, chat):
    for client in (llm, chat):
        opened = {"session_id": 2967, "sequence_start": True, "sequence_end": False}
        client.chat(user("My name is Alice."), **opened)
        continued = {**opened, "sequence_start": False}
        client.chat(FRANCE, **continued)
        assert "Alice" in client.chat(user("What is my name?"), **{**continued, "sequence_end": True})
        with pytest.raises(SessionClosed):
            client.chat(FRANCE, **continued)


def test_many_calls_with_one_session_id(llm):
    """lmdeploy refuses a session id in use; stateless calls never send one."""
    assert llm.chat([FRANCE] * 12, session_id=2967) == [PARIS] * 12


def test_session_len(peer):
    with (
        LMDeployClient(
            peer.url, peers.NAME, meta_template="internlm2-lagent", session_len=64, **GREEDY
        ) as llm,
        pytest.raises(SessionOutOfLimit, match="session_len=64"),
    ):
        llm.chat(FRANCE)


# many concurrent calls


@pytest.mark.cpu_engine
def test_a_batch_is_sent_bounded_and_concurrently(peer):
    most, done = 0, threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, peer.running())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with LMDeployClient(
        peer.url, peers.NAME, meta_template="internlm2-lagent", max_concurrency=4, **GREEDY
    ) as llm:
        answers = llm.chat([COUNT, FRANCE] * 10)
    done.set()
    watcher.join()
    assert answers[1::2] == [PARIS] * 10
    assert 2 <= most <= 4


@pytest.mark.alone
async def test_two_hundred_streams_half_of_them_cancelled_leave_the_server_idle(peer):
    ended = []

    async def one(llm, number):
        stream = llm.stream_chat(COUNT, **({"max_new_tokens": 40} if number % 2 else LONG))
        async for chunk in stream:
            if number % 2 == 0 and len(chunk.text) > 3:
                if number % 4 == 0:
                    asyncio.current_task().cancel()  # noticed at the next await
                else:
                    stream.close()
        ended.append((number, stream.completion is not None))

    async with AsyncLMDeployClient(
        peer.url, peers.NAME, meta_template="internlm2-lagent", temperature=0, timeout=300
    ) as llm:
        results = await asyncio.gather(*(one(llm, n) for n in range(200)), return_exceptions=True)
    cancelled = [result for result in results if isinstance(result, asyncio.CancelledError)]
    assert len(cancelled) == 50
    assert sorted(ended) == [(n, n % 2 == 1) for n in range(200) if n % 4]
    assert wait_until(lambda: peer.running() == 0)
    # lmdeploy's own metrics agree; they are updated every ten seconds.
    for metric in ("running", "waiting"):
        assert wait_until(lambda metric=metric: peer.metric(f"lmdeploy:num_requests_{metric}") == 0)
    assert wait_until(lambda: peer.metric("lmdeploy:num_api_requests_routed") == 0)
    assert wait_until(lambda: peer.metric("lmdeploy:num_api_requests_waiting") == 0)


@pytest.mark.cpu_engine
def test_leaving_a_stream_stops_the_generation(peer, llm):
    for leave in ("close", "del"):
        stream = llm.stream_chat(COUNT, **LONG)
        next(stream)
        assert peer.running() == 1
        if leave == "close":
            stream.close()
        del stream
        assert wait_until(lambda: peer.running() == 0)


@pytest.mark.cpu_engine
async def test_cancelling_an_unstreamed_call_stops_the_generation(peer):
    async with AsyncLMDeployClient(peer.url, peers.NAME, **GREEDY) as llm:
        task = asyncio.create_task(llm.chat(user("[[slow 0.05]] Count."), stream=False, **LONG))
        await until(peer.running, task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert wait_until(lambda: peer.running() == 0)


def test_the_servers_defaults_and_fields_without_a_parameter(llm, chat, caplog):
    assert llm.chat(FRANCE, sampling="server") == chat.chat(FRANCE, sampling="server") == PARIS
    cut = chat.complete(FRANCE, extra_body={"max_completion_tokens": 3})  # it precedes max_tokens
    assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 3)
    assert chat.complete(FRANCE, min_new_tokens=20).usage.completion_tokens >= 20
    for given in ({"min_new_tokens": 20}, {"reasoning_effort": "low"}):
        with pytest.raises(UnsupportedParameter, match="for a prompt"):
            llm.chat(FRANCE, **given)
    for given in ({"frequency_penalty": 1}, {"logit_bias": {5: -100}}):
        with pytest.raises(UnsupportedParameter, match="LMDeployClient cannot honour"):
            chat.chat(FRANCE, **given)
    assert not [record for record in caplog.records if record.name == "lagent_llms.limit"]
