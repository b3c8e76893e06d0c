"""Dialogs as objects, synchronous and asynchronous."""

import asyncio
import copy
import gc
import os
import pickle

import pytest

from lagent_llms import (
    InvalidArgument,
    LLMError,
    ServerError,
    SessionBusy,
    SessionClosed,
    SessionError,
    UnknownParameter,
    UnsupportedParameter,
)
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM


def said(request):
    """An answer with what the model has seen: the texts of all messages."""
    return "|".join(message["content"] for message in request.messages)


def backend(script=said, **kwargs):
    return ScriptedLLM(script, meta_template="chatml", **kwargs)


def test_turns_are_remembered_and_the_end_frees_them():
    llm = backend()
    with llm.session(system="Be brief.") as session:
        assert session.messages == [{"role": "system", "content": "Be brief."}]
        assert session.chat("one") == "Be brief.|one"
        assert (
            session.complete([{"role": "user", "content": "two"}]).text == "Be brief.|one|Be brief.|one|two"
        )
        *_, last = session.stream_chat("three")
        assert last.text.endswith("|two|three")
        assert "".join(session.stream_text("four")).endswith("|four")
        assert [message["role"] for message in session.messages] == ["system", *["user", "assistant"] * 4]
        assert len(llm.sessions) == 1
    assert (len(llm.sessions), session.ended) == (0, True)
    assert session.messages[-2]["content"] == "four"
    session.end()
    with pytest.raises(SessionClosed, match=r"hold the dialog with llm\.session"):
        session.chat("five")


async def test_the_asynchronous_class(tmp_path):
    llm = AsyncScriptedLLM(said, meta_template="chatml")
    async with llm.session(system="S") as session:
        assert await session.chat("one") == "S|one"
        assert (await session.complete("two")).text == "S|one|S|one|two"
        chunks = [chunk async for chunk in session.stream_chat("three")]
        assert chunks[-1].text.endswith("three")
        assert [text async for text in session.stream_text("four")][-1].endswith("four")
        await session.save(tmp_path / "dialog.json")
    assert len(llm.sessions) == 0
    loaded = await llm.load_session(tmp_path / "dialog.json")
    assert loaded.messages == session.messages


def test_the_first_turn_opens_the_sequence_for_servers_that_count_turns():
    llm = backend()
    session = llm.session(system="S")
    session.chat("one")
    session.chat("two")
    options = [request.options for request in llm.requests]
    assert [(one.sequence_start, one.sequence_end) for one in options] == [(True, False), (False, False)]
    assert [one.session_id for one in options] == [session.id] * 2
    assert llm.session().id != session.id


def test_a_turn_that_fails_or_is_left_is_no_turn():
    steps = iter([[ServerError("no")], ["a", "b"], "fine", [ServerError("no")], "well"])
    llm = backend(lambda _: next(steps))
    session = llm.session(system="S")
    with pytest.raises(ServerError):
        session.chat("lost")
    with session.stream_chat("left") as stream:
        next(stream)
    assert session.messages == [{"role": "system", "content": "S"}]
    assert session.chat("one") == "fine"
    with pytest.raises(ServerError):
        session.chat("lost")
    assert session.chat("two") == "well"
    assert [message["content"] for message in session.messages] == ["S", "one", "fine", "two", "well"]
    assert [message["content"] for message in llm.requests[-1].messages] == ["S", "one", "fine", "two"]


def test_one_turn_at_a_time():
    session = backend(["a", "b"]).session()
    with session.stream_chat("one") as stream:
        next(stream)
        with pytest.raises(SessionBusy):
            session.chat("two")
        assert session.messages == []


def test_sessions_do_not_mix_with_each_other_and_with_numbered_ones():
    llm = backend()
    first, second = llm.session(), llm.session()
    llm.chat("numbered", session_id=1, sequence_end=False)
    first.chat("one")
    assert second.chat("two") == "two"
    assert first.chat("three") == "one|one|three"
    assert len(llm.sessions) == 3


def test_parameters_of_the_session_and_of_a_turn():
    llm = backend()
    session = llm.session(temperature=0, max_new_tokens=5)
    session.chat("one")
    session.chat("two", max_new_tokens=7)
    asked = [(request.params.temperature, request.params.max_new_tokens) for request in llm.requests]
    assert asked == [(0, 5), (0, 7)]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"system": 3}, InvalidArgument, "system=3: allowed is None or a text"),
        ({"system": ""}, InvalidArgument, "system=''"),
        ({"system": "\ud83d"}, InvalidArgument, "system.*half a character"),
        ({"messages": 3}, InvalidArgument, "messages: expected a list"),
        ({"messages": [{"content": "x"}]}, InvalidArgument, r"messages\[0\]: 'role' is missing"),
        ({"session_id": 3}, InvalidArgument, "session_id: a session object sets it itself"),
        ({"temprature": 1}, UnknownParameter, "did you mean 'temperature'"),
        ({"top_p": 3}, InvalidArgument, "top_p=3"),
        ({"priority": 3}, UnsupportedParameter, "priority=3"),
    ],
)
def test_bad_arguments_of_a_session(given, kind, message):
    llm = backend()
    with pytest.raises(kind, match=message):
        llm.session(**given)
    assert len(llm.sessions) == 0


@pytest.mark.parametrize(
    ("inputs", "given", "message"),
    [
        (["a", "b"], {}, "a turn of a session is a string or a list of messages, got a list of 2 inputs"),
        ([], {}, "the list of messages is empty"),
        ("", {}, "the prompt is empty"),
        (3, {}, "inputs: expected a list of messages"),
        ("x", {"sequence_end": True}, "sequence_end: a session object sets it itself"),
        ("x", {"session_ids": 3}, "session_ids: a session object sets it itself"),
    ],
)
def test_bad_arguments_of_a_turn(inputs, given, message):
    session = backend().session()
    with pytest.raises(InvalidArgument, match=message):
        session.chat(inputs, **given)
    assert session.chat("one") == "one"


def test_a_closed_backend_has_no_sessions():
    llm = backend()
    session = llm.session()
    llm.close()
    for call in (llm.session, lambda: session.chat("x")):
        with pytest.raises(LLMError, match="is closed"):
            call()


def test_a_session_that_is_dropped_is_forgotten():
    llm = backend()
    session = llm.session()
    session.chat("one")
    stream = session.stream_chat("two")
    next(stream)
    del session
    gc.collect()
    assert len(llm.sessions) == 0
    assert [chunk.text for chunk in stream][-1] == "one|one|two"


def test_the_messages_are_a_copy():
    llm = backend()
    given = [
        {"role": "user", "content": [{"type": "text", "text": "one"}]},
        {"role": "assistant", "content": "1"},
    ]
    session = llm.session(messages=given)
    given[0]["content"][0]["text"] = "changed"
    session.messages[0]["content"][0]["text"] = "changed"
    assert session.messages[0]["content"][0]["text"] == "one"


def test_copies_begin_with_the_messages_and_go_on_by_themselves():
    session = backend().session(system="S", temperature=0)
    assert session.chat("one") == "S|one"
    # `said` is a function of this module, so that the backend can be pickled.
    for made in (copy.copy(session), copy.deepcopy(session), pickle.loads(pickle.dumps(session))):
        assert made.id != session.id
        assert made.chat("two") == "S|one|S|one|two"
        assert made.llm.requests[-1].params.temperature == 0
    assert len(session.messages) == 3


def test_a_bare_prompt_in_between():
    llm = backend("x")
    session = llm.session(system="S")
    with pytest.raises(InvalidArgument, match="begun with messages"):
        llm.generate("prompt", session_id=session.id, sequence_start=False, sequence_end=False)
    session.chat("one")
    llm.generate("prompt", session_id=session.id, sequence_start=False, sequence_end=False)
    with pytest.raises(SessionError, match="a bare prompt"):
        _ = session.messages
    session.end()
    assert session.messages == []


def test_closing_by_id():
    llm = backend()
    session = llm.session()
    llm.sessions.close(session.id)
    with pytest.raises(SessionClosed):
        session.chat("one")
    with pytest.raises(SessionClosed):
        _ = session.messages


def test_tool_calls_and_reasoning_are_kept(tmp_path):
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    answers = iter([f"<think>\nhm\n</think>\n\n{call}", "3"])
    llm = ScriptedLLM(lambda _: next(answers), meta_template="qwen3")
    session = llm.session(tools=[{"type": "function", "function": {"name": "add"}}])
    answer = session.complete("1 + 2?")
    assert answer.tool_calls[0].name == "add"
    session.save(tmp_path / "dialog.json")
    loaded = llm.load_session(tmp_path / "dialog.json")
    (_, kept) = loaded.messages
    assert kept["reasoning_content"].strip() == "hm"
    assert kept["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert loaded.chat([{"role": "tool", "content": "3"}]) == "3"
    assert loaded.messages[2]["tool_call_id"] == kept["tool_calls"][0]["id"]


def test_a_forked_child_continues_by_itself():
    session = backend().session()
    session.chat("one")
    if not (pid := os.fork()):
        os._exit(0 if session.chat("two") == "one|one|two" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(session.messages) == 2


async def test_a_cancelled_turn():
    llm = AsyncScriptedLLM(["a", 30.0, "b"], meta_template="chatml")
    session = llm.session()
    task = asyncio.create_task(session.chat("one"))
    while not llm.open:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert session.messages == []
