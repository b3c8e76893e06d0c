"""FallbackLLM and RouterLLM: members, parameters, sessions, streams, batches, copies, what is kept."""

import asyncio
import copy
import pickle
import threading

import pytest

from lagent_llms import (
    AsyncFallbackLLM,
    AsyncLMDeployClient,
    AsyncRouterLLM,
    FallbackLLM,
    LMDeployClient,
    RouterLLM,
    Timeout,
    create_llm,
)
from lagent_llms.errors import (
    BatchError,
    ConfigError,
    ConnectError,
    InvalidArgument,
    LLMError,
    ModelStatusCode,
    ServerError,
    StreamInterrupted,
    TemplateError,
    TimeoutExceeded,
    UnknownParameter,
    UnsupportedParameter,
)
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

ONCE = {"max_retries": 0}
OPEN = {"sequence_start": True, "sequence_end": False}
CONTINUE = {"sequence_start": False, "sequence_end": False}


def answers(text="ok", **kwargs):
    return ScriptedLLM(text, meta_template="chatml", **kwargs)


def fails(error=None, **kwargs):
    kwargs.setdefault("retry", ONCE)
    return ScriptedLLM([error or ConnectError("no server")], meta_template="chatml", **kwargs)


def requests(member):
    return [request.prompt for request in member.requests]


def test_the_next_member_answers_after_the_retries_of_the_first():
    first = fails(retry={"max_retries": 1, "base": 0.001})
    llm = FallbackLLM([first, answers("hello")])
    assert llm.chat("hi") == "hello"
    assert len(first.requests) == 2
    assert llm.chat("hi") == "hello"
    assert len(first.requests) == 2  # it comes last for a while


def test_without_a_cooldown_each_call_begins_with_the_first_member():
    first = fails()
    llm = FallbackLLM([first, answers()], cooldown=0)
    assert llm.chat([[{"role": "user", "content": "hi"}]] * 3) == ["ok"] * 3
    assert len(first.requests) == 3


async def test_asynchronous_members():
    for cls in (AsyncFallbackLLM, AsyncRouterLLM):
        first = AsyncScriptedLLM([ConnectError("no server")], retry=ONCE)
        async with cls([first, AsyncScriptedLLM(["Hel", "lo"])]) as llm:
            assert await llm.generate(["hi"] * 5) == ["Hello"] * 5
            chunks = [tuple(chunk) async for chunk in llm.stream_generate("hi")]
            assert chunks[0] == (ModelStatusCode.STREAM_ING, "Hel", 1)
            assert chunks[-1] == (ModelStatusCode.END, "Hello", 2)
            assert await llm.tokenize("ab") == [97, 98]
        with pytest.raises(LLMError, match="is closed"):
            await llm.members[1].generate("hi")


def test_a_failure_after_the_first_text_is_raised_with_it():
    other = answers()
    llm = FallbackLLM([ScriptedLLM(["Hel", "lo", ServerError("boom", status_code=500)]), other])
    stream = llm.stream_generate("hi", stop_words=["lost"])
    with pytest.raises(ServerError) as caught:
        list(stream)
    assert (caught.value.partial, stream.text, requests(other)) == ("Hello", "Hello", [])
    *_, last = llm.stream_generate("hi", stop_words=["lost"], on_error="status")
    assert tuple(last)[:2] == (ModelStatusCode.END, "ok")  # the other one: the first has failed


def test_a_failure_of_all_as_a_status():
    llm = FallbackLLM([fails(), fails(ServerError("boom", status_code=500))])
    (chunk,) = llm.stream_chat("hi", on_error="status")
    assert tuple(chunk) == (ModelStatusCode.SERVER_ERR, "", None)
    assert "no member has answered" in str(chunk.error)
    assert "no server" in str(chunk.error)
    assert "boom" in str(chunk.error)
    again = pickle.loads(pickle.dumps(chunk.error))
    assert (type(again), str(again)) == (ServerError, str(chunk.error))


def test_what_is_the_callers_mistake_is_not_sent_to_the_next_member():
    other = answers()
    llm = FallbackLLM([fails(ServerError("too long", status_code=400)), other])
    with pytest.raises(ServerError, match="too long"):
        llm.chat("hi")
    assert other.requests == []


def test_a_parameter_that_one_member_does_not_take_is_refused_before_anything_is_sent():
    first = answers()
    llm = FallbackLLM([first, LMDeployClient("http://127.0.0.1:9", "m", meta_template="chatml")])
    assert "response_format" in llm.unsupported
    with pytest.raises(
        UnsupportedParameter, match=r"^LMDeployClient\('http.*logprobs=1 for a prompt"
    ) as caught:
        llm.chat("hi", logprobs=1)
    assert (caught.value.parameter, caught.value.backend) == ("logprobs", "LMDeployClient")
    with pytest.raises(UnsupportedParameter, match="ScriptedLLM cannot honour response_format"):
        llm.generate(["hi", "there"], response_format={"type": "json_object"})
    with pytest.raises(UnsupportedParameter, match="ScriptedLLM cannot honour priority=1"):
        FallbackLLM([first], priority=1)
    with pytest.raises(UnknownParameter, match="did you mean 'temperature'"):
        llm.chat("hi", temprature=1)
    with pytest.raises(InvalidArgument, match="^top_p=2"):
        llm.chat("hi", top_p=2)
    assert first.requests == []


def test_members_keep_their_defaults_and_get_what_was_given():
    first, second = answers(temperature=0.5, top_k=3), answers(max_new_tokens=9)
    llm = RouterLLM([first, second], temperature=0.1)
    for _ in range(2):
        llm.chat("hi", max_tokens=5, stop="x")
    (one,), (two,) = first.requests, second.requests
    assert (one.params.temperature, one.params.top_k, one.params.max_new_tokens) == (0.1, 3, 5)
    assert (two.params.temperature, two.params.top_k, two.params.max_new_tokens) == (0.1, 40, 5)
    assert one.stop_words == two.stop_words == ("x",)
    assert first.params.temperature == 0.5


def test_each_member_uses_its_own_template():
    first, second = fails(), ScriptedLLM(meta_template="internlm2")
    assert FallbackLLM([first, second]).chat("hi") == "ok"
    assert requests(first) != requests(second)
    assert "<|im_start|>user\nhi<|im_end|>" in requests(second)[0]
    with pytest.raises(TemplateError, match="ScriptedLLM needs a meta_template"):
        FallbackLLM([first, ScriptedLLM()]).chat("hi")


def test_a_session_goes_on_at_another_member():
    first = ScriptedLLM(lambda _: next(script), meta_template="chatml", retry=ONCE)
    script = iter(["Hello Alice", [ConnectError("gone")]])
    second = answers("Alice")
    llm = FallbackLLM([first, second])
    llm.chat("I am Alice", session_id=1, **OPEN)
    assert llm.chat("Who am I?", session_id=1, **CONTINUE) == "Alice"
    assert requests(second) == [
        "<|im_start|>user\nI am Alice<|im_end|>\n<|im_start|>assistant\nHello Alice<|im_end|>\n"
        "<|im_start|>user\nWho am I?<|im_end|>\n<|im_start|>assistant\n"
    ]
    assert len(llm.sessions) == 1
    assert len(first.sessions) == len(second.sessions) == 0


def test_tool_calls_are_read_by_the_member():
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    tools = [{"type": "function", "function": {"name": "add"}}]
    member = ScriptedLLM([call[:20], call[20:]], meta_template="qwen2.5")
    alone = ScriptedLLM([call[:20], call[20:]], meta_template="qwen2.5")
    llm = FallbackLLM([member])
    chunks, expected = (list(one.stream_chat("1?", tools=tools)) for one in (llm, alone))
    assert [chunk.tool_calls for chunk in chunks] == [chunk.tool_calls for chunk in expected]
    assert [chunk.content for chunk in chunks] == [chunk.content for chunk in expected]
    assert chunks[-1].completion == expected[-1].completion
    assert [item.name for item in chunks[-1].completion.tool_calls] == ["add"]


def test_leaving_a_stream_stops_the_generation_at_the_member():
    member = ScriptedLLM(["a", 60.0, "b"])
    llm = RouterLLM([member])
    stream = llm.stream_generate("hi")
    next(stream)
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    stream.close()
    reader.join(30)
    assert not reader.is_alive()
    assert member.open == 0
    assert llm.pool.take() == 0  # no call is in flight
    assert llm.pool._in_flight == [1]


async def test_cancelling_a_call_stops_the_generation_at_the_member():
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(_):
        loop.call_soon_threadsafe(started.set)
        return [60.0, "a"]

    member = AsyncScriptedLLM(script)
    llm = AsyncRouterLLM([member])
    task = asyncio.ensure_future(llm.generate("hi"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (member.open, llm.pool._in_flight) == (0, [0])


def test_the_limit_of_the_whole_answer_is_one_for_all_members():
    slow = ScriptedLLM([60.0, "late"], retry=ONCE)
    llm = FallbackLLM([slow, ScriptedLLM([60.0, "late"], retry=ONCE)])
    timeout = Timeout(first_token=0.2, total=0.3)
    with pytest.raises(TimeoutExceeded) as caught:
        llm.generate("hi", timeout=timeout)
    assert caught.value.phase == "total"


def test_a_batch_goes_around_a_dead_member_and_names_a_bad_prompt():
    llm = RouterLLM([fails(), answers("a"), answers("a")])
    assert llm.generate(["hi"] * 20) == ["a"] * 20
    with pytest.raises(BatchError) as caught:
        llm.generate(["hi", ""])
    assert (caught.value.index, caught.value.results[0]) == (1, "a")


def test_a_prompt_of_a_batch_is_tried_again_when_all_members_have_failed():
    failures = iter([ServerError("busy", status_code=503)] * 2)

    def script(_):
        return [error] if (error := next(failures, None)) else "ok"

    members = [ScriptedLLM(script, retry=ONCE) for _ in range(2)]
    llm = FallbackLLM(members, retry={"base": 0.001})
    assert llm.generate(["hi"]) == ["ok"]
    failures = iter([ServerError("busy", status_code=503)] * 2)
    with pytest.raises(ServerError, match="no member has answered"):
        llm.generate("hi", retry=ONCE)


def test_the_member_with_the_fewest_calls_answers():
    running, free = ScriptedLLM(["a", 60.0]), ScriptedLLM("b")
    llm = RouterLLM([running, free])
    streams = [llm.stream_generate("hi") for _ in range(2)]
    texts = {next(stream).text for stream in streams}
    assert texts == {"a", "b"}
    list(streams[0 if streams[0].text == "b" else 1])
    assert llm.generate("hi") == "b"
    for stream in streams:
        stream.close()


def test_tokens_are_counted_by_the_first_member_that_can():
    class Dead(ScriptedLLM):
        def _tokenize(self, text):
            raise ConnectError("no server")

    assert FallbackLLM([Dead(retry=ONCE), ScriptedLLM()]).tokenize("ab") == [97, 98]
    with pytest.raises(ConnectError, match="no server"):
        FallbackLLM([Dead(retry=ONCE)]).tokenize("ab")


@pytest.mark.parametrize(
    "way", [lambda llm: pickle.loads(pickle.dumps(llm)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_copies_have_members_of_their_own(way):
    configs = [{"type": "LMDeployClient", "url": "http://127.0.0.1:9"}, LMDeployClient("http://127.0.0.1:8")]
    llm = RouterLLM(configs, temperature=0.25)
    again = way(llm)
    assert (
        repr(again)
        == repr(llm)
        == ("RouterLLM([LMDeployClient('http://127.0.0.1:9'), LMDeployClient('http://127.0.0.1:8')])")
    )
    assert again.params == llm.params
    assert not set(map(id, again.members)) & set(map(id, llm.members))


def test_all_members_are_closed_even_if_one_fails():
    class Stuck(ScriptedLLM):
        def _free(self):
            raise OSError("stuck")

    last = ScriptedLLM()
    llm = FallbackLLM([ScriptedLLM(), Stuck(), last])
    with pytest.raises(OSError, match="stuck"):
        llm.close()
    assert all(member.closed for member in llm.members)
    with pytest.raises(LLMError, match="is closed"):
        llm.generate("hi")


def test_members_that_were_made_are_closed_if_a_later_one_cannot_be(monkeypatch):
    closed = []
    monkeypatch.setattr(ScriptedLLM, "_free", lambda self: closed.append(self))
    given = ScriptedLLM()
    with pytest.raises(ConfigError, match=r"llms\[2\]: .*'url' is missing"):
        FallbackLLM([given, {"type": ScriptedLLM}, {"type": "LMDeployClient"}])
    assert len(closed) == 1
    assert not given.closed


def test_answers_are_cached_and_calls_recorded(tmp_path):
    members = [{"type": "lagent_llms.testing.ScriptedLLM", "script": ["Hel", "lo"]}]
    given = {"temperature": 0, "cache": tmp_path / "cache", "journal": tmp_path / "calls.sqlite"}
    with FallbackLLM(members, **given) as llm:
        first = llm.complete("hi")
        llm.cache.flush()
        again = llm.complete("hi")
        assert (first, first.cached, again.cached) == (again, False, True)
    other = [{"type": "lagent_llms.testing.ScriptedLLM", "script": "Bye"}]
    with FallbackLLM(other, **given) as llm:
        assert llm.generate("hi") == "Bye"  # other members
    with create_llm({"type": "ReplayLLM", "journal": tmp_path / "calls.sqlite"}) as replay:
        assert replay.generate("hi") == "Hello"


def test_secrets_of_members_are_known_and_not_shown():
    llm = FallbackLLM([{"type": "LMDeployClient", "url": "http://u:pass@h", "api_key": "sk-secret"}])
    assert "sk-secret" in llm.secrets()
    assert "secret" not in repr(llm)
    assert "pass" not in repr(llm)


@pytest.mark.parametrize(
    ("llms", "message"),
    [
        ([], "llms: allowed is a list of configurations"),
        ("a", "llms: allowed is a list of configurations"),
        ({"type": "LMDeployClient"}, "llms: allowed is a list of configurations"),
        ([5], r"llms\[0\]: expected a configuration, the name of a profile or an object of BaseLLM, got int"),
        (
            [AsyncLMDeployClient("http://127.0.0.1:9")],
            r"llms\[0\]: expected .*BaseLLM, got AsyncLMDeployClient",
        ),
        ([{"type": "LMDeployClient", "url": "ftp://x"}], r"llms\[0\]: .*url='ftp://x'"),
    ],
)
def test_bad_members_are_refused(llms, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        FallbackLLM(llms)
    assert caught.value.argument == "llms"


def test_bad_arguments_are_refused():
    with pytest.raises(InvalidArgument, match="cooldown=-1"):
        FallbackLLM([ScriptedLLM()], cooldown=-1)
    with pytest.raises(InvalidArgument, match=r"llms\[0\]: meta_template must be given to .*ScriptedLLM"):
        FallbackLLM([ScriptedLLM()], meta_template="chatml")


def test_defaults_of_members_that_are_made():
    kind = "lagent_llms.testing.ScriptedLLM"
    members = [{"type": kind, "session_len": 7}, {"type": kind, "meta_template": "internlm2"}]
    llm = FallbackLLM(members, meta_template="chatml", session_len=99)
    assert [member.session_len for member in llm.members] == [7, 99]
    assert llm.context_len == 7
    assert llm.members[0].template.render([{"role": "user", "content": "x"}]).startswith("<|im_start|>user")
    assert llm.members[1].template != llm.members[0].template


def test_a_connection_that_breaks_before_the_first_text_is_no_end():
    llm = FallbackLLM([ScriptedLLM([StreamInterrupted("broken")], retry=ONCE), ScriptedLLM("ok")])
    assert llm.generate("hi") == "ok"
    with pytest.raises(StreamInterrupted):
        FallbackLLM([ScriptedLLM("cut", finish_reason=None)]).generate("hi")
