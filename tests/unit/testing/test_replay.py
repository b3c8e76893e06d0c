"""A journal played back."""

import pytest

from lagent_llms import (
    ConfigError,
    RateLimited,
    ServerError,
    StreamInterrupted,
    UnsupportedParameter,
    create_llm,
)
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM
from lagent_llms.testing.conformance import Caller
from lagent_llms.testing.replay import NotRecorded

USER = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def journal(tmp_path):
    """Factory of journals of a model with one answer after another."""

    def journal(*scripts, calls=(), model=ScriptedLLM, **kwargs):
        rest = iter(scripts)
        llm = Caller(model(lambda _: next(rest), meta_template="chatml", journal=tmp_path / "j", **kwargs))
        for inputs, given in calls:
            try:
                llm.complete(inputs, **given)
            except Exception:
                continue
        llm.close()
        return tmp_path / "j"

    return journal


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def replay(request):
    made = []

    def replay(path, **kwargs):
        config = {"type": "ReplayLLM", "journal": str(path), **kwargs}
        made.append(Caller(create_llm(config, asynchronous=request.param)))
        return made[-1]

    yield replay
    for one in made:
        one.close()


@pytest.mark.parametrize("model", [ScriptedLLM, AsyncScriptedLLM])
def test_answers_come_back(journal, replay, model):
    path = journal(["Pa", "ris"], ["more"], calls=[(USER, {}), ("a prompt", {})], model=model)
    llm = replay(path)
    assert [chunk.delta for chunk in llm.chunks("stream_chat", USER)] == ["Pa", "ris", ""]
    assert llm.chat(USER) == "Paris"
    assert llm.generate(["a prompt", "a prompt"]) == ["more", "more"]


def test_several_answers_to_one_input_come_in_turn(journal, replay):
    llm = replay(journal("one", "two", calls=[(USER, {})] * 2))
    assert [llm.chat(USER) for _ in range(4)] == ["one", "two", "two", "two"]


def test_the_nearest_parameters_decide(journal, replay):
    path = journal("cold", "hot", calls=[(USER, {"temperature": 0}), (USER, {"temperature": 1.5})])
    llm = replay(path)
    assert llm.chat(USER, temperature=1.5) == "hot"
    assert llm.chat(USER, temperature=0) == "cold"


def test_errors_come_back(journal, replay):
    busy = RateLimited("busy", status_code=429, code="full", retry_after=300.0)
    path = journal(
        [busy], ["he", StreamInterrupted("gone")], calls=[(USER, {"retry": {"max_retries": 0}}), ("x", {})]
    )
    llm = replay(path)
    with pytest.raises(RateLimited, match="busy") as caught:
        llm.chat(USER)
    assert (caught.value.status_code, caught.value.code, caught.value.retry_after) == (429, "full", 300.0)
    with pytest.raises(StreamInterrupted, match="gone") as interrupted:
        llm.generate("x")
    assert interrupted.value.partial == "he"


def test_an_error_of_another_library_is_named(journal, replay):
    llm = replay(journal([ValueError("a bug")], calls=[(USER, {})]))
    with pytest.raises(Exception, match="ValueError: a bug"):
        llm.chat(USER)


def test_a_call_that_was_never_made_shows_the_difference(journal, replay):
    other = [{"role": "user", "content": "Sing!"}]
    llm = replay(journal("Paris", "la", calls=[(USER, {}), (other, {})]))
    with pytest.raises(NotRecorded) as caught:
        llm.chat([{"role": "user", "content": "What is the capital of Spain?"}])
    message = str(caught.value)
    assert "call 1" in message
    assert "-user: What is the capital of France?" in message
    assert "+user: What is the capital of Spain?" in message
    with pytest.raises(NotRecorded, match=r"\+Once"):
        llm.generate("Once")


def test_a_session_is_played_back(journal, replay):
    opened = {"session_id": 1, "sequence_start": True, "sequence_end": False}
    last = {"session_id": 1, "sequence_start": False, "sequence_end": True}
    llm = replay(journal("one", "two", calls=[(USER, opened), (USER, last)]))
    assert [llm.chat(USER, **turn) for turn in (opened, last)] == ["one", "two"]


def test_messages_of_tools_match_whatever_the_template_calls_them(tmp_path, replay):
    messages = [*USER, {"role": "assistant", "content": "look"}, {"role": "environment", "content": "42"}]
    with ScriptedLLM("ok", meta_template="internlm2-lagent", journal=tmp_path / "j") as llm:
        llm.chat(messages)
    assert replay(tmp_path / "j").chat([*messages[:-1], {"role": "tool", "content": "42"}]) == "ok"


def test_journals_that_cannot_be_played(tmp_path, replay):
    with pytest.raises(ConfigError, match="there is no journal"):
        replay(tmp_path / "missing")
    with ScriptedLLM(journal={"path": tmp_path / "j", "content": False}) as llm:
        llm.generate("x")
    with pytest.raises(NotRecorded, match="no call with content"):
        replay(tmp_path / "j").generate("x")


def test_it_has_no_tokenizer(journal, replay):
    with pytest.raises(UnsupportedParameter, match="no tokenizer"):
        replay(journal()).tokenize("x")


def test_a_replay_can_be_recorded_and_cached(journal, replay, tmp_path):
    path = journal("Paris", [ServerError("no", status_code=400)], calls=[(USER, {"temperature": 0})])
    llm = replay(path, cache=str(tmp_path / "cache"), temperature=0)
    assert llm.chat(USER) == "Paris"
    llm.llm.cache.flush()
    assert llm.complete(USER).cached
