"""The base classes with a scripted model: behaviour that every backend inherits."""

import asyncio
import gc
import pickle
import signal
import threading
import time

import pytest

from lagent_llms import (
    BaseLLM,
    BatchError,
    InvalidArgument,
    LMDeployClient,
    ModelStatusCode,
    Piece,
    SessionBusy,
    SessionClosed,
    SessionOutOfLimit,
    StreamInterrupted,
    TemplateError,
    TimeoutExceeded,
    UnknownParameter,
    UnsupportedParameter,
)
from lagent_llms.core.sessions import Held
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

USER = [{"role": "user", "content": "hi"}]
OPEN = {"session_id": 1, "sequence_start": True, "sequence_end": False}
GO_ON = {"session_id": 1, "sequence_start": False, "sequence_end": False}
SLOW = ["a", 30.0, "b"]


def chatty(**kwargs):
    return ScriptedLLM(meta_template="internlm2-lagent", **kwargs)


# generate, chat, complete


def test_generate_uses_the_prompt_as_it_is():
    llm = chatty(script="fine")
    assert llm.generate("How are you?") == "fine"
    assert llm.requests[0].prompt == "How are you?"


def test_chat_applies_the_template_and_its_stop_words():
    llm = chatty(script=["fine<|im", "_end|>", "\n<|im_start|>user"])
    assert llm.chat(USER) == "fine"
    assert llm.requests[0].prompt.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_a_string_is_a_user_message():
    llm = chatty(script="fine")
    llm.chat("hi")
    llm.chat({"role": "user", "content": "hi"})
    llm.chat(USER)
    assert len({request.prompt for request in llm.requests}) == 1


def test_do_preprocess_makes_a_prompt_a_user_message():
    llm = chatty(script="fine")
    llm.chat(USER)
    llm.generate("hi", do_preprocess=True)
    llm.generate(["hi", "hi"], do_preprocess=True)
    assert len({request.prompt for request in llm.requests}) == 1
    llm.generate("hi", do_preprocess=False)
    llm.generate("hi", do_preprocess=None)
    assert [request.prompt for request in llm.requests[-2:]] == ["hi", "hi"]
    with pytest.raises(InvalidArgument, match="do_preprocess='yes'"):
        llm.generate("hi", do_preprocess="yes")


def test_complete_returns_text_finish_reason_and_usage():
    completion = ScriptedLLM(["ab", "c STOP d"]).complete("x", stop_words="STOP")
    assert (completion.text, completion.finish_reason, completion.stop_word) == ("abc ", "stop", "STOP")
    completion = ScriptedLLM("abc", finish_reason="length").complete("xy")
    assert (completion.finish_reason, completion.usage.prompt_tokens) == ("length", 2)


def test_own_stop_words_replace_the_templates():
    assert chatty(script="a<|im_end|>b|c").chat(USER, stop_words=["|c"]) == "a<|im_end|>b"
    assert chatty(script="a<|im_end|>b", stop_words=[]).chat(USER) == "a<|im_end|>b"


def test_ignore_eos_goes_on_after_the_templates_end_of_turn():
    assert chatty(script="a<|im_end|>b").chat(USER, ignore_eos=True) == "a<|im_end|>b"
    assert chatty(script="a<|im_end|>b|c").chat(USER, ignore_eos=True, stop_words="|") == "a<"


def test_a_per_call_value_never_changes_the_object():
    llm = ScriptedLLM(temperature=0.5)
    llm.generate("x", temperature=0, max_new_tokens=3)
    assert (llm.params.temperature, llm.params.max_new_tokens) == (0.5, 512)
    assert (llm.requests[0].params.temperature, llm.requests[0].params.max_new_tokens) == (0, 3)


# batches


def echo(request):
    return request.prompt.upper()


def test_a_batch_keeps_its_order():
    llm = ScriptedLLM(lambda request: [0.02 * (5 - int(request.prompt)), request.prompt])
    assert llm.generate([str(n) for n in range(5)]) == ["0", "1", "2", "3", "4"]


def test_a_batch_runs_at_once_but_not_more_than_allowed():
    together, seen = threading.Barrier(3, timeout=30), []

    def script(request):
        together.wait()  # returns once three requests run at the same time
        seen.append(llm.open)
        return [0.05, "x"]

    llm = ScriptedLLM(script, max_concurrency=3)
    assert llm.generate(["a"] * 9) == ["x"] * 9
    assert max(seen) <= 2  # the request itself is not counted yet


def test_chat_with_a_list_of_dialogs():
    llm = chatty(script=lambda request: "A" if "one" in request.prompt else "B")
    dialogs = [[{"role": "user", "content": text}] for text in ("one", "two")]
    assert llm.chat(dialogs) == ["A", "B"]
    assert [item.text for item in llm.complete(dialogs)] == ["A", "B"]


def test_one_bad_prompt_does_not_lose_the_others():
    llm = ScriptedLLM(
        lambda request: [StreamInterrupted("gone")] if request.prompt == "bad" else request.prompt,
        retry={"max_retries": 0},
    )
    with pytest.raises(BatchError, match=r"inputs\[1\] \(and 1 more\) failed") as caught:
        llm.generate(["a", "bad", "c", ""])
    assert caught.value.index == 1
    assert caught.value.results[0::2] == ["a", "c"]
    assert isinstance(caught.value.results[1], StreamInterrupted)
    assert isinstance(caught.value.results[3], InvalidArgument)
    assert pickle.loads(pickle.dumps(caught.value)).results[0] == "a"


def test_a_bad_parameter_fails_a_batch_before_anything_is_sent():
    llm = ScriptedLLM()
    with pytest.raises(InvalidArgument, match="top_p"):
        llm.generate(["a", "b"], top_p=3)
    assert llm.requests == []


def test_sessions_of_a_batch():
    llm = chatty(script="ok")
    llm.chat([USER, USER], session_ids=[1, 2], sequence_end=False)
    assert 1 in llm.sessions
    assert 2 in llm.sessions
    with pytest.raises(InvalidArgument, match="3 values for 2 inputs"):
        llm.chat([USER, USER], session_ids=[1, 2, 3])


def test_adapters_of_a_batch():
    llm = chatty(script="ok")
    assert llm.generate(["a", "b", "c"], adapter_id=["french", None, "pirate"]) == ["ok"] * 3
    asked = {request.prompt: request.options.adapter_name for request in llm.requests}
    assert asked == {"a": "french", "b": None, "c": "pirate"}
    with pytest.raises(InvalidArgument, match="adapter_id: 1 values for 2 inputs"):
        llm.generate(["a", "b"], adapter_id=["french"])
    with pytest.raises(InvalidArgument, match="adapter_id=\\["):
        llm.generate("a", adapter_id=["french"])


def test_opt_in_parameters_are_refused_by_other_backends():
    llm = chatty(script="ok")
    for name, value in (("adapter_source", "hub"), ("merged_adapters", {"ids": ["a"], "weights": [1]})):
        with pytest.raises(UnsupportedParameter, match=name):
            llm.generate("a", **{name: value})
        with pytest.raises(UnknownParameter, match=name):
            ScriptedLLM(**{name + "s": value})
    assert "adapter_source" in ScriptedLLM.unsupported_names()
    assert llm.requests == []


def test_ctrl_c_leaves_nothing_of_a_batch_running():
    llm = ScriptedLLM(SLOW, timeout=60)
    timer = threading.Timer(0.2, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    # A process started in the background ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            llm.generate(["a"] * 4)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 5
    assert llm.open == 0


# streams


def test_a_stream_unpacks_to_three_and_ends_with_end():
    llm = ScriptedLLM(["Hel", "lo"])
    steps = [(status, text, tokens) for status, text, tokens in llm.stream_generate("x")]
    assert steps == [
        (ModelStatusCode.STREAM_ING, "Hel", 1),
        (ModelStatusCode.STREAM_ING, "Hello", 2),
        (ModelStatusCode.END, "Hello", 2),
    ]


def test_stream_text_gives_deltas():
    assert list(ScriptedLLM(["a<", "x", "<E"]).stream_text("x", stop_words="<EN")) == ["a", "<x", "<E"]
    assert "".join(chatty(script=["a", "b"]).stream_text(USER)) == "ab"


def test_bad_input_is_refused_before_the_first_step():
    llm = ScriptedLLM()
    with pytest.raises(InvalidArgument, match="temperature"):
        llm.stream_generate("x", temperature="hot")
    with pytest.raises(UnknownParameter):
        llm.stream_chat(USER, tmperature=1)
    assert llm.requests == []


def break_out(stream):
    for _ in stream:
        break


def with_block(stream):
    with stream:
        next(stream)


def drop(stream):
    next(stream)
    del stream
    gc.collect()


@pytest.mark.parametrize(
    "leave", [break_out, with_block, drop, lambda stream: (next(stream), stream.close())]
)
def test_leaving_a_stream_stops_the_generation(leave):
    llm = ScriptedLLM(SLOW)
    leave(llm.stream_generate("x", **OPEN))
    assert llm.open == 0
    assert 1 not in llm.sessions
    with pytest.raises(SessionClosed):
        llm.generate("x", **GO_ON)


def test_leaving_stream_text_stops_the_generation():
    llm = ScriptedLLM(SLOW)
    for _ in llm.stream_text("x"):
        break
    gc.collect()
    assert llm.open == 0


def test_a_stream_that_breaks_off_is_no_success():
    llm = ScriptedLLM(["Hel", "lo"], finish_reason=None)
    stream = llm.stream_generate("x")
    with pytest.raises(StreamInterrupted) as caught:
        list(stream)
    assert caught.value.partial == "Hello"
    with pytest.raises(StreamInterrupted):
        llm.generate("x")


def test_errors_as_status():
    llm = ScriptedLLM(["Hel", "lo"], finish_reason=None, on_error="status")
    *_, last = llm.stream_generate("x")
    assert tuple(last) == (ModelStatusCode.SERVER_ERR, "Hello", 2)
    assert isinstance(last.error, StreamInterrupted)
    assert [tuple(chunk) for chunk in llm.stream_generate("x", **GO_ON)] == [(-2, "", None)]
    assert [tuple(chunk) for chunk in llm.stream_generate("x", top_p=3)] == [(-4, "", None)]
    with pytest.raises(StreamInterrupted):
        llm.generate("x")


def test_other_exceptions_come_through_and_free_the_source():
    llm = ScriptedLLM(["a", ZeroDivisionError("a bug")], on_error="status")
    with pytest.raises(ZeroDivisionError):
        list(llm.stream_generate("x"))
    assert llm.open == 0


class _Explaining(ScriptedLLM):
    def explain(self, error):
        return StreamInterrupted(f"the server ended: {error}", partial=error.partial)


def test_a_backend_may_explain_an_error():
    llm = _Explaining(["Hel", StreamInterrupted("gone")])
    with pytest.raises(StreamInterrupted, match="the server ended: gone") as caught:
        llm.generate("x")
    assert caught.value.partial == "Hel"
    *_, last = llm.stream_generate("x", on_error="status")
    assert (last.text, str(last.error)) == ("Hel", "the server ended: gone")
    llm = _Explaining(["a", ZeroDivisionError("a bug")])
    with pytest.raises(ZeroDivisionError):
        llm.generate("x")


def test_timeouts_apply_to_streams():
    llm = ScriptedLLM(SLOW)
    stream = llm.stream_generate("x", timeout=0.1)
    next(stream)
    with pytest.raises(TimeoutExceeded, match="no further piece of the answer came within 0.1 s") as caught:
        next(stream)
    assert (caught.value.phase, caught.value.partial, llm.open) == ("idle", "a", 0)


# sessions


def test_a_session_keeps_its_history():
    llm = chatty(script=lambda request: f"answer {request.prompt.count('user')}")
    llm.chat([{"role": "user", "content": "one"}], **OPEN)
    assert llm.chat([{"role": "user", "content": "two"}], **GO_ON) == "answer 2"
    prompt = llm.requests[1].prompt
    assert prompt.index("one") < prompt.index("answer 1") < prompt.index("two")
    assert prompt.startswith(llm.requests[0].prompt + "answer 1<|im_end|>\n")
    llm.chat(USER, session_id=1, sequence_start=False, sequence_end=True)
    with pytest.raises(SessionClosed):
        llm.chat(USER, **GO_ON)


def test_a_session_of_bare_prompts():
    llm = ScriptedLLM(lambda request: f"<{len(request.prompt)}>")
    llm.generate("ab", **OPEN)
    llm.generate("cd", **GO_ON)
    assert llm.requests[1].prompt == "ab<2>cd"


def test_prompts_and_messages_in_one_session():
    llm = chatty(script="ok")
    llm.chat(USER, **OPEN)
    llm.generate("bare", **GO_ON)
    llm.chat(USER, **GO_ON)
    first, second, third = (request.prompt for request in llm.requests)
    assert second == first + "okbare"
    assert third.startswith(second + "ok<|im_start|>user\nhi")


def test_a_failed_turn_leaves_history_as_it_was():
    scripts = iter(["one", [StreamInterrupted("gone")], "three"])
    llm = chatty(script=lambda request: next(scripts), retry={"max_retries": 0})
    llm.chat(USER, **OPEN)
    with pytest.raises(StreamInterrupted):
        llm.chat([{"role": "user", "content": "lost"}], **GO_ON)
    llm.chat(USER, **GO_ON)
    assert "lost" not in llm.requests[2].prompt
    assert "one" in llm.requests[2].prompt


class _ServerSessions(ScriptedLLM):
    """A backend whose server stores sessions: it keeps the tokens of all requests so far."""

    def _open(self, request):
        tokens = 0 if request.held is None else request.held.tokens
        request.held = Held(tokens + len(request.prompt), request.prompt, 7)
        return super()._open(request)


def test_only_a_successful_call_updates_the_server_state_of_a_session():
    scripts = iter(["a", [StreamInterrupted("gone")], "b", "c", "d"])
    llm = _ServerSessions(lambda request: next(scripts))
    llm.generate("12", **OPEN)
    with pytest.raises(StreamInterrupted):
        llm.generate("34", **GO_ON)
    llm.generate("5", **GO_ON)
    llm.generate("6", **GO_ON)
    llm.generate("7", **OPEN)
    seen = [(request.prompt, request.held.tokens) for request in llm.requests]
    assert seen == [("12", 2), ("12a34", 7), ("12a5", 6), ("12a5b6", 12), ("7", 1)]


def test_a_second_concurrent_call_on_a_session_is_refused():
    llm = chatty(script=SLOW)
    stream = llm.stream_chat(USER, **OPEN)
    next(stream)
    with pytest.raises(SessionBusy):
        llm.chat(USER, **OPEN)
    stream.close()


def test_stateless_calls_with_equal_ids_do_not_disturb_each_other():
    llm = ScriptedLLM(["a", 0.05, "b"])
    assert llm.generate(["x"] * 5, session_id=9) == ["ab"] * 5


def test_session_len_is_checked_before_anything_is_sent():
    llm = ScriptedLLM("abc", session_len=20, max_new_tokens=10)
    llm.generate("12345", **OPEN)
    with pytest.raises(SessionOutOfLimit, match="12 tokens .* max_new_tokens=10 exceed session_len=20"):
        llm.generate("1234", **GO_ON)
    assert len(llm.requests) == 1
    assert llm.generate("12", **GO_ON) == "abc"


def test_an_unusable_dialog_does_not_block_the_session():
    llm = chatty(script="ok")
    llm.chat(USER, **OPEN)
    with pytest.raises(Exception, match="nobody"):
        llm.chat([{"role": "nobody", "content": "x"}], **GO_ON)
    assert llm.chat(USER, **GO_ON) == "ok"


# bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda llm: llm.generate(""), "the prompt is empty"),
        (lambda llm: llm.chat(""), "the prompt is empty"),
        (lambda llm: llm.stream_chat([]), "the list of messages is empty"),
        (lambda llm: llm.chat(USER, tools=[3]), r"tools\[0\]=3: allowed is a function with type hints"),
        (lambda llm: llm.generate(3), r"expected a prompt \(str\) or a list of prompts, got int"),
        (lambda llm: llm.generate([{"role": "user"}]), r"inputs\[0\]: expected a prompt \(str\), got dict"),
        (lambda llm: llm.chat(None), "expected a list of messages, got NoneType"),
        (lambda llm: llm.chat([{"role": "user"}]), r"inputs\[0\] \(role 'user'\): 'content' is missing"),
        (lambda llm: llm.chat([{"content": "x"}]), r"inputs\[0\]: 'role' is missing"),
        (lambda llm: llm.chat([{"role": "user", "content": 3}]), "'content' is a int"),
        (lambda llm: llm.chat([*USER, 3]), r"inputs\[1\]: a message is a dict .* got int"),
        (lambda llm: llm.stream_generate(USER), "messages go to chat"),
        (lambda llm: llm.chat(USER, 1, session_id=2), "session_ids and session_id are both given"),
    ],
)
def test_bad_input(call, message):
    llm = chatty()
    with pytest.raises(InvalidArgument, match=message):
        call(llm)
    assert llm.requests == []


def test_an_unknown_role_names_the_role_and_the_allowed_ones():
    llm = chatty()
    with pytest.raises(TemplateError, match=r"no role 'usr', did you mean 'user'\? \(allowed: .*assistant"):
        llm.chat([{"role": "usr", "content": "x"}])
    assert llm.requests == []


def test_an_empty_message_does_not_lose_the_others():
    with pytest.raises(BatchError, match=r"inputs\[1\] failed: inputs: the prompt is empty") as caught:
        chatty(script="ok").chat(["a", "", "b"])
    assert (caught.value.results[0], caught.value.results[2]) == ("ok", "ok")


def test_an_unknown_constructor_argument_suggests_the_nearest_name():
    with pytest.raises(
        UnknownParameter, match="ScriptedLLM: unknown parameter 'sesion_len', did you mean 'session_len'"
    ):
        ScriptedLLM(sesion_len=3)
    with pytest.raises(InvalidArgument, match="session_len=-1: allowed is an integer of 1 or more"):
        ScriptedLLM(session_len=-1)
    with pytest.raises(InvalidArgument, match="temperature='hot'"):
        ScriptedLLM(temperature="hot")
    with pytest.raises(UnsupportedParameter):
        ScriptedLLM(response_format={"type": "json_object"})


def test_tokenize():
    assert ScriptedLLM().tokenize("ab") == [97, 98]
    assert ScriptedLLM().tokenize(["a", "b"]) == [[97], [98]]


# asynchronous classes


async def test_async_calls():
    llm = AsyncScriptedLLM(echo, meta_template="internlm2-lagent")
    assert await llm.generate("ab") == "AB"
    assert await llm.generate(["a", "b"]) == ["A", "B"]
    assert "HI" in await llm.chat(USER)
    assert len(await llm.chat([USER, USER])) == 2
    assert (await llm.complete("x")).finish_reason == "stop"
    assert [item.text for item in await llm.complete(["x", "y"])] == ["X", "Y"]
    assert [text async for text in llm.stream_text("x")] == ["X"]
    assert [chunk.status async for chunk in llm.stream_chat(USER)] == [1, 0]
    assert await llm.tokenize("ab") == [97, 98]


async def test_async_batches_are_complete_and_bounded():
    llm = AsyncScriptedLLM(
        lambda request: [StreamInterrupted("gone")] if request.prompt == "bad" else [0.02, request.prompt],
        max_concurrency=2,
        retry={"max_retries": 0},
    )
    with pytest.raises(BatchError) as caught:
        await llm.generate(["a", "bad", "c"])
    assert caught.value.results[0::2] == ["a", "c"]
    peak = []
    llm = AsyncScriptedLLM(lambda request: peak.append(llm.open) or [0.02, "x"], max_concurrency=2)
    await llm.generate(["a"] * 6)
    assert max(peak) == 1


async def test_cancelling_a_task_stops_the_generation():
    llm = AsyncScriptedLLM(SLOW)
    task = asyncio.create_task(llm.generate("x", **OPEN))
    await asyncio.sleep(0.05)
    assert llm.open == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert llm.open == 0
    assert 1 not in llm.sessions


async def test_cancelling_a_batch_stops_all_of_it():
    llm = AsyncScriptedLLM(SLOW, max_concurrency=5)
    task = asyncio.create_task(llm.generate(["x"] * 5))
    await asyncio.sleep(0.05)
    assert llm.open == 5
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert llm.open == 0


async def test_leaving_an_async_stream_stops_the_generation():
    llm = AsyncScriptedLLM(SLOW)
    async for _ in llm.stream_generate("x"):
        break
    gc.collect()
    assert llm.open == 0
    async for _ in llm.stream_text("x"):
        break
    gc.collect()
    await asyncio.sleep(0)
    assert llm.open == 0
    async with llm.stream_generate("x") as stream:
        await anext(stream)
    assert llm.open == 0


async def test_async_errors():
    llm = AsyncScriptedLLM(["a", 30.0, "b"])
    with pytest.raises(TimeoutExceeded):
        await llm.generate("x", timeout=0.05)
    chunks = [chunk async for chunk in llm.stream_generate("x", timeout=0.05, on_error="status")]
    assert tuple(chunks[-1]) == (ModelStatusCode.SERVER_ERR, "a", 1)
    assert llm.open == 0


async def test_async_sessions():
    llm = AsyncScriptedLLM("ok", meta_template="internlm2-lagent", session_len=200, max_new_tokens=20)
    await llm.chat(USER, **OPEN)
    await llm.chat(USER, **GO_ON)
    assert llm.requests[1].prompt.count("hi") == 2
    with pytest.raises(SessionOutOfLimit):
        await llm.chat(USER, **GO_ON)


async def test_a_thousand_concurrent_requests():
    llm = AsyncScriptedLLM(["a", 0.01, "b"], max_concurrency=1000)
    assert await llm.generate(["x"] * 1000) == ["ab"] * 1000


class _SlowToOpen(BaseLLM):
    def __init__(self):
        super().__init__()
        self.opening, self.go, self.closed_sources = threading.Event(), threading.Event(), 0

    def _open(self, request):
        self.opening.set()
        assert self.go.wait(10)
        return self

    def _tokenize(self, text):
        return []

    def __next__(self):
        return Piece("too late ")

    def close(self):
        self.closed_sources += 1


def test_a_stream_closed_while_it_opens_leaves_nothing_running():
    llm, shown = _SlowToOpen(), []
    stream = llm.stream_generate("x")
    reader = threading.Thread(target=lambda: shown.extend(stream))
    reader.start()
    assert llm.opening.wait(10)
    stream.close()
    llm.go.set()
    reader.join(10)
    assert (shown, llm.closed_sources) == ([], 1)


def test_session_len_for_messages_needs_a_meta_template():
    llm = LMDeployClient("http://127.0.0.1:9", "m", session_len=100)
    with pytest.raises(UnsupportedParameter, match="session_len=100 for messages without a meta_template"):
        llm.chat("hello")


@pytest.mark.parametrize("call", [lambda llm, text: llm.generate(text), lambda llm, text: llm.chat(text)])
def test_a_lone_surrogate_is_refused_before_anything_is_sent(call):
    llm = chatty(script="ok")
    with pytest.raises(InvalidArgument, match="half a character"):
        call(llm, "a cut emoji: \ud83d")
    with pytest.raises(InvalidArgument, match="half a character"):
        llm.generate("x", stop_words=["\ud83d"])
    assert llm.requests == []
