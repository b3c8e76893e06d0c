"""Calls with a cache and a journal: which are answered from the cache, and what is kept of each."""

import asyncio
import hashlib
import multiprocessing
import os
import sqlite3
import threading

import pytest

from lagent_llms import (
    ConnectError,
    JAXClient,
    LLMError,
    OpenAIClient,
    RateLimited,
    ReplayLLM,
    RetryPolicy,
    ServerError,
    StreamInterrupted,
)
from lagent_llms.content_parts import EVERY_PART
from lagent_llms.core.recording import Recorder, messages_text
from lagent_llms.store.journal_reader import JournalReader
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM
from lagent_llms.testing.conformance import Caller
from lagent_llms.testing.replay import NotRecorded

USER = [{"role": "user", "content": "hi"}]
CALL = "<|action_start|><|plugin|>\n"
QUICK = RetryPolicy(max_retries=2, base=0.001)


@pytest.fixture(params=[ScriptedLLM, AsyncScriptedLLM], ids=["sync", "async"])
def scripted(request, tmp_path):
    """Factory of callers of a scripted model with a cache and a journal."""
    made = []

    def scripted(script="hello", twin=False, **kwargs):
        asynchronous = (request.param is AsyncScriptedLLM) != twin
        model = AsyncScriptedLLM if asynchronous else ScriptedLLM
        kept = {"cache": tmp_path / "cache", "journal": tmp_path / "calls.sqlite"}
        defaults = {"meta_template": "chatml", "temperature": 0, "retry": QUICK}
        made.append(Caller(model(script, **{**kept, **defaults, **kwargs})))
        return made[-1]

    yield scripted
    for one in made:
        one.close()


def asked(llm):
    """The number of calls that the model has got; what was answered is stored."""
    llm.llm.cache.flush()
    return len(llm.llm.requests)


def recorded(tmp_path):
    reader = JournalReader(tmp_path / "calls.sqlite")
    try:
        return list(reader.calls())
    finally:
        reader.close()


def test_an_equal_call_is_answered_from_the_cache(scripted):
    llm = scripted(["he", "l", "lo"])
    first = llm.chunks("stream_chat", USER)
    assert asked(llm) == 1
    again = llm.chunks("stream_chat", USER)
    assert again == first
    assert [chunk.delta for chunk in again] == ["he", "l", "lo", ""]
    assert again[-1].completion == first[-1].completion
    assert again[-1].usage == first[-1].usage
    assert again[-1].completion.cached
    assert not first[-1].completion.cached
    assert llm.chat(USER) == "hello"
    assert llm.complete([USER, USER])[1].cached
    assert asked(llm) == 1
    assert (llm.llm.cache.hits, llm.llm.cache.misses) == (4, 1)


def test_other_objects_and_the_twin_share_it(scripted):
    first = scripted()
    assert first.generate("x") == "hello"
    assert asked(first) == 1
    for other in (scripted(), scripted(twin=True)):
        assert other.generate("x") == "hello"
        assert asked(other) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 9},
        {"stop_words": ["Z"]},
        {"top_p": 0.5},
        {"seed": 1},
        {"logprobs": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"reasoning": None},
        {"tool_parser": None},
        {"adapter_name": "a"},
        {"injection": "escape"},
    ],
    ids=str,
)
def test_another_parameter_is_another_call(scripted, change):
    llm = scripted(meta_template="internlm2-lagent")
    llm.chat(USER)
    llm.chat(USER, **change)
    assert asked(llm) == 2


@pytest.mark.parametrize(
    "change",
    [{"timeout": 77}, {"request_id": "r"}, {"session_id": 5}, {"retry": QUICK}, {"on_error": "status"}],
    ids=str,
)
def test_what_changes_no_answer_is_no_other_call(scripted, change):
    llm = scripted()
    llm.chat(USER)
    assert asked(llm) == 1
    llm.chunks("stream_chat", USER, **change)
    assert asked(llm) == 1


@pytest.mark.parametrize(
    "change", [{"script": "other"}, {"session_len": 4000}, {"meta_template": "qwen2"}, {"cls": True}], ids=str
)
def test_another_model_is_another_call(scripted, change):
    first = scripted()
    first.generate("x")
    asked(first)

    class Other(type(first.llm)):
        pass

    other = scripted(**{name: value for name, value in change.items() if name != "cls"})
    if "cls" in change:
        other.llm.__class__ = Other
    other.generate("x")
    assert asked(other) == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 1}, False),
        ({"temperature": 1, "seed": 3}, True),
        ({"temperature": 1, "top_k": 1}, True),
    ],
    ids=str,
)
def test_deterministic_calls_only(scripted, given, kept):
    llm = scripted()
    for _ in range(2):
        llm.generate("x", **given)
        count = asked(llm)
    assert count == (1 if kept else 2)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([ServerError("no", status_code=400)], ServerError),
        (["he", StreamInterrupted("gone")], StreamInterrupted),
        (["he", ValueError("a bug")], ValueError),
    ],
)
def test_a_failed_answer_is_not_cached(scripted, script, error, tmp_path):
    llm = scripted(script)
    for _ in range(2):
        with pytest.raises(error):
            llm.generate("x")
    assert asked(llm) == 2
    llm.shut()
    calls = recorded(tmp_path)
    assert [call.status for call in calls] == [error.__name__] * 2
    assert calls[0].text == "".join(part for part in script if isinstance(part, str))


def test_a_stream_that_is_left_is_not_cached(scripted, tmp_path):
    llm = scripted(["he", "llo"])
    with llm.stream("stream_generate", "x") as stream:
        next(stream)
    assert llm.generate("x") == "hello"
    assert asked(llm) == 2
    llm.shut()
    left, whole = recorded(tmp_path)
    assert (left.status, left.text, whole.status) == ("closed", "he", "stop")


def test_retries_are_one_call(scripted, tmp_path):
    scripts = iter([[ConnectError("no")], [RateLimited("later", status_code=429)], ["ok"]])
    llm = scripted(lambda _: next(scripts))
    assert llm.generate("x") == "ok"
    assert llm.complete("x").cached
    llm.shut()
    first, cached = recorded(tmp_path)
    assert (first.attempts, first.cached, first.error) == (3, False, None)
    assert (cached.attempts, cached.cached) == (1, True)


def test_an_open_session_goes_on_after_a_cached_turn(scripted):
    opened = {"session_id": 1, "sequence_start": True, "sequence_end": False}
    goes_on = {"session_id": 1, "sequence_start": False, "sequence_end": False}
    llm = scripted()
    for _ in range(2):
        llm.chat(USER, **opened)
        asked(llm)
        llm.chat(USER, **goes_on)
        count = asked(llm)
    assert count == 2
    assert llm.llm.cache.hits == 2
    assert llm.llm.sessions.begin(1, start=False, end=True).history.messages[-1]["content"] == "hello"


def test_calls_of_tools_come_back_in_the_same_parts(scripted):
    call = f'Look: {CALL}{{"name": "f", "parameters": {{"a": 1}}}}<|action_end|>'
    llm = scripted(
        [call[place : place + 5] for place in range(0, len(call), 5)], meta_template="internlm2-lagent"
    )
    tools = [{"type": "function", "function": {"name": "f"}}]
    shown = []
    for _ in range(2):
        chunks = llm.chunks("stream_chat", USER, tools=tools)
        shown.append(
            [(one.delta, one.content, one.tool_calls, one.reasoning, one.n_tokens) for one in chunks]
        )
        assert chunks[-1].completion.tool_calls[0].arguments == {"a": 1}
        assert chunks[-1].finish_reason == "tool_calls"
        assert asked(llm) == 1
    assert shown[0] == shown[1]


def test_a_cached_answer_says_nothing_of_the_server(scripted):
    llm = scripted()
    llm.generate("x")
    asked(llm)
    answered = []
    llm.llm.retry_budget.answered = lambda: answered.append(1)
    assert llm.complete("x").cached
    assert not answered


def test_a_cache_that_cannot_be_read_fails_no_call(scripted, caplog):
    llm = scripted()
    llm.generate("x")
    asked(llm)
    llm.llm.cache.close()
    next(llm.llm.cache.path.glob("answers-*.sqlite")).write_bytes(b"\xff" * 5000)
    assert llm.generate("x") == "hello"
    assert "cannot be read" in caplog.text


def test_what_a_caller_changes_later_is_not_recorded(scripted, tmp_path):
    llm = scripted()
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    llm.chat(messages)
    messages[0]["content"][0]["text"] = "changed"
    llm.shut()
    assert recorded(tmp_path)[0].messages[0]["content"] == [{"text": "hi", "type": "text"}]


def test_times_are_recorded(scripted, tmp_path):
    llm = scripted([0.05, "he", 0.05, "llo"])
    llm.generate("x")
    llm.shut()
    (call,) = recorded(tmp_path)
    assert 0.05 <= call.first_token <= call.seconds - 0.05


def test_an_event_loop_goes_on_while_the_cache_waits(tmp_path):
    llm = AsyncScriptedLLM(temperature=0, cache=tmp_path)
    may_read = threading.Event()
    read = llm.cache.get

    def get(key):
        may_read.wait(60)
        return read(key)

    llm.cache.get = get

    async def main():
        call = asyncio.ensure_future(llm.generate("x"))
        while not call.done():
            await asyncio.sleep(0)
            may_read.set()  # were the loop blocked, this would not be reached within the test's time
        await llm.aclose()
        return await call

    assert asyncio.run(main()) == "ok"


def test_a_child_uses_the_cache_and_the_journal_of_its_parent(tmp_path):
    llm = ScriptedLLM(temperature=0, cache=tmp_path / "cache", journal=tmp_path / "calls.sqlite")
    llm.generate("parent")

    def child():
        cached = llm.complete("parent").cached
        llm.generate("child")
        llm.close()
        os._exit(0 if cached else 1)

    llm.cache.flush()
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert llm.complete("child").cached
    llm.close()
    assert sorted(call.prompt for call in recorded(tmp_path)) == ["child", "child", "parent", "parent"]


def test_values_that_cannot_be_compared_are_not_cached(tmp_path):
    recorder = Recorder(None, None)
    llm = ScriptedLLM()
    request = llm.prepare("x", {}).request
    assert recorder.key(llm, request, "m") != recorder.key(llm, request, "n")
    request.options.__dict__["merged_adapters"] = object()
    assert recorder.key(llm, request, "m") is None


def test_a_model_directory_that_changes_is_another_model(tmp_path):
    class Local(ScriptedLLM):
        def __init__(self, path, **kwargs):
            super().__init__(**kwargs)

    (tmp_path / "weights").write_bytes(b"1")
    keys = []
    for content in (b"1", b"1", b"22"):
        if content != b"1":
            (tmp_path / "weights").write_bytes(content)
        llm = Local(tmp_path)
        keys.append(Recorder(None, None).key(llm, llm.prepare("x", {}).request, ""))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("client", [JAXClient, OpenAIClient])
def test_the_address_of_a_server_is_no_part_of_the_model(client):
    keys = set()
    for url, key in (("http://a:1", None), ("http://b:2", "sk-key")):
        llm = client(url, "m", api_key=key, timeout=3, meta_template="chatml")
        keys.add(Recorder(None, None).key(llm, llm.prepare("x", {}).request, "m"))
    assert len(keys) == 1


def test_messages_as_text():
    assert messages_text([{"role": "environment", "content": "é"}]) == '[{"content":"é","role":"tool"}]'
    assert (
        messages_text([{"role": "user", "content": "\ud83d"}]) == '[{"content": "\\ud83d", "role": "user"}]'
    )


def test_a_full_disk_fails_no_call(scripted, tmp_path, monkeypatch, caplog):
    llm = scripted()
    for store in (llm.llm.cache, llm.llm.journal):

        def fail(connection, entry):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(store._writer, "_insert", fail)
    assert llm.generate("x") == "hello"
    llm.shut()
    assert (llm.llm.cache.lost, llm.llm.journal.lost) == (1, 1)
    assert "disk is full" in caplog.text
    with pytest.raises(LLMError, match="closed"):
        llm.generate("x")


# images


class Seeing(ScriptedLLM):
    """A model that takes messages with images."""

    takes_messages = True
    accepted_parts = EVERY_PART


def look(data):
    return [{"role": "user", "content": [{"type": "image", "image": data}]}]


def test_images_are_part_of_what_a_cached_answer_is_known_by(tmp_path):
    first, second = (b"\x89PNG\r\n\x1a\n" + bytes(2000) + end for end in (b"1", b"2"))
    (tmp_path / "first.png").write_bytes(first)
    with Seeing(temperature=0, cache=tmp_path / "cache") as llm:
        for one in (first, second, tmp_path / "first.png"):
            llm.chat(look(one))
            llm.cache.flush()
        assert len(llm.requests) == 2


def test_a_journal_has_the_hash_of_an_image_and_finds_the_call_again(tmp_path):
    image = b"\x89PNG\r\n\x1a\n" + bytes(2000)
    with Seeing(journal=tmp_path / "j") as llm:
        assert llm.chat(look(image)) == "ok"
    (call,) = JournalReader(tmp_path / "j").calls()
    (part,) = call.messages[0]["content"]
    digest = hashlib.sha256(image).hexdigest()
    assert part["image_url"] == {"url": f"data:image/png;bytes={len(image)};sha256={digest},"}
    with ReplayLLM(tmp_path / "j") as replay:
        assert replay.chat(look(image)) == "ok"
        with pytest.raises(NotRecorded, match="sha256="):
            replay.chat(look(image + b"1"))
