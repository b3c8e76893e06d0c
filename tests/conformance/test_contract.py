"""The promises every backend keeps, with a real model that answers."""

import json
import pickle
import threading
import time

import pytest

from lagent_llms import (
    BatchError,
    InvalidArgument,
    ModelStatusCode,
    SessionBusy,
    SessionClosed,
    SessionOutOfLimit,
    TimeoutExceeded,
    UnknownParameter,
    UnsupportedParameter,
)

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
COUNT = [{"role": "user", "content": "Count from 1 to 60."}]
CALCULATE = [
    {"role": "system", "name": "plugin", "content": json.dumps([{"name": "calculator"}])},
    {"role": "user", "content": "What is 231 * 17?"},
]
CHINESE = [{"role": "user", "content": "你好"}]


def user(text):
    return [{"role": "user", "content": text}]


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


# answers


def test_chat(make):
    assert make().chat(FRANCE) == "The capital of France is Paris."


def test_generate_takes_the_prompt_as_it_is(make):
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    assert make().generate(prompt, stop_words=["<|im_end|>"]) == "The capital of France is Paris."


def test_a_bos_in_the_prompt_is_not_doubled(make):
    llm = make()
    assert llm.tokenize("<s>Hello") == llm.tokenize("Hello")


def test_complete_tells_everything(make):
    llm = make()
    completion = llm.complete(FRANCE)
    assert completion.text == "The capital of France is Paris."
    assert completion.finish_reason == "stop"
    assert completion.usage.completion_tokens > 3
    assert len(completion.token_ids) in (0, completion.usage.completion_tokens)  # not every server tells
    assert completion.usage.prompt_tokens > 5


def test_max_new_tokens_is_exact(make):
    completion = make().complete(COUNT, max_new_tokens=7)
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 7)


def test_ignore_eos_goes_on(make):
    completion = make().complete(FRANCE, ignore_eos=True, max_new_tokens=40)
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 40)


def test_skip_special_tokens(make):
    llm = make()
    kept = llm.chat(CALCULATE)
    assert kept.startswith("<|action_start|><|plugin|>")
    left_out = llm.chat(CALCULATE, skip_special_tokens=True)
    assert left_out.strip().startswith("{")
    assert "<|" not in left_out


def test_a_seed_makes_sampling_repeatable(make):
    llm = make(temperature=1.5, top_k=None, top_p=1)
    prompt = "<|im_start|>assistant\n"
    texts = [llm.generate(prompt, seed=seed, max_new_tokens=24) for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_logprobs(make, backend):
    completion = make(**backend.for_logprobs).complete(FRANCE, logprobs=3)
    assert len(completion.logprobs) == completion.usage.completion_tokens
    assert "".join(item.token for item in completion.logprobs) == completion.text
    for item in completion.logprobs:
        assert item.logprob <= 0
        assert len(item.top) == 3
        assert (item.token, item.token_id, item.logprob) == item.top[0]  # greedy takes the best
    assert make().complete(FRANCE).logprobs == ()


# batches


def test_a_batch_keeps_its_order(make):
    places = {"France": "Paris", "Germany": "Berlin", "Japan": "Tokyo", "Italy": "Rome"}
    answers = make().chat([user(f"What is the capital of {country}?") for country in places])
    assert answers == [f"The capital of {country} is {city}." for country, city in places.items()]


def test_one_bad_prompt_does_not_lose_the_others(make):
    with pytest.raises(BatchError) as caught:
        make().chat([FRANCE, [], FRANCE])
    assert caught.value.index == 1
    assert caught.value.results[0] == caught.value.results[2] == "The capital of France is Paris."
    assert pickle.loads(pickle.dumps(caught.value)).index == 1


def test_more_prompts_than_slots(make):
    llm = make()
    assert llm.chat([FRANCE] * 40) == ["The capital of France is Paris."] * 40


# streams


@pytest.mark.parametrize("messages", [FRANCE, CHINESE, COUNT], ids=["english", "chinese", "long"])
def test_a_stream_adds_up_to_the_answer(make, messages):
    llm = make(max_new_tokens=300)
    with llm.stream("stream_chat", messages) as stream:
        chunks = list(stream)
    assert [chunk.status for chunk in chunks[:-1]] == [ModelStatusCode.STREAM_ING] * (len(chunks) - 1)
    assert chunks[-1].status == ModelStatusCode.END
    assert "".join(chunk.delta for chunk in chunks) == chunks[-1].text == llm.chat(messages)
    texts = [text for _, text, _ in chunks]
    assert all(later.startswith(earlier) for earlier, later in zip(texts, texts[1:], strict=False))
    assert "\N{REPLACEMENT CHARACTER}" not in texts[-1]
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == chunks[-1].n_tokens


def test_stream_text(make):
    llm = make()
    with llm.stream("stream_text", FRANCE) as stream:
        assert "".join(stream) == "The capital of France is Paris."


@pytest.mark.parametrize("word", ["Paris", " of Fra", "France is", "."])
def test_a_stop_word_cut_anywhere_never_shows(make, word):
    llm = make()
    expected = "The capital of France is Paris.".split(word)[0]
    completion = llm.complete(FRANCE, stop_words=[word])
    assert (completion.text, completion.finish_reason, completion.stop_word) == (expected, "stop", word)
    with llm.stream("stream_chat", FRANCE, stop_words=[word]) as stream:
        for _, text, _ in stream:
            assert expected.startswith(text)


def test_what_only_looks_like_a_stop_word_is_flushed(make):
    assert make().chat(FRANCE, stop_words=["Paris.!"]) == "The capital of France is Paris."


def test_leaving_a_stream_frees_the_slot(make, backend):
    llm = make(max_new_tokens=500, ignore_eos=True)
    with llm.stream("stream_chat", COUNT) as stream:
        next(iter(stream))
        assert backend.running() == 1
    assert wait_until(lambda: backend.running() == 0)


def test_a_stop_word_frees_the_slot(make, backend):
    llm = make(max_new_tokens=1000, ignore_eos=True)
    assert llm.chat(COUNT, stop_words=["5"]) == "1, 2, 3, 4, "
    assert wait_until(lambda: backend.running() == 0, seconds=1)


def test_timeouts_hold_in_streams(make, backend):
    llm = make()
    with pytest.raises(TimeoutExceeded) as caught:
        llm.chat(COUNT, timeout=1e-6)
    assert caught.value.phase == "first_token"
    assert wait_until(lambda: backend.running() == 0)


# sessions


def test_three_turns_remember_the_name(make):
    llm = make()
    llm.chat(user("My name is Alice."), session_id=5, sequence_start=True, sequence_end=False)
    llm.chat(FRANCE, session_id=5, sequence_start=False, sequence_end=False)
    answer = llm.chat(user("What is my name?"), session_id=5, sequence_start=False, sequence_end=True)
    assert "Alice" in answer
    assert "Alice" not in llm.chat(user("What is my name?"))
    with pytest.raises(SessionClosed):
        llm.chat(FRANCE, session_id=5, sequence_start=False, sequence_end=True)


def test_sessions_in_streams(make):
    llm = make()
    for number, text in enumerate(["My name is Bob.", "What is my name?"]):
        with llm.stream(
            "stream_chat", user(text), session_id=6, sequence_start=number == 0, sequence_end=False
        ) as stream:
            *_, last = stream
    assert "Bob" in last.text


def test_a_cancelled_turn_leaves_history_as_it_was(make):
    llm = make()
    llm.chat(user("My name is Alice."), session_id=7, sequence_end=False)
    with llm.stream(
        "stream_chat", user("My name is Bob."), session_id=7, sequence_start=False, sequence_end=False
    ) as stream:
        next(iter(stream))
    answer = llm.chat(user("What is my name?"), session_id=7, sequence_start=False)
    assert "Alice" in answer


def test_a_session_is_busy_while_it_answers(make):
    llm = make(max_new_tokens=300)
    with llm.stream("stream_chat", COUNT, session_id=8, sequence_end=False) as stream:
        next(iter(stream))
        with pytest.raises(SessionBusy):
            llm.chat(FRANCE, session_id=8, sequence_start=False)


def test_session_len(make):
    llm = make(session_len=100, max_new_tokens=40)
    llm.chat(FRANCE, session_id=9, sequence_end=False)
    with pytest.raises(SessionOutOfLimit, match="session_len=100"):
        for _ in range(5):
            llm.chat(FRANCE, session_id=9, sequence_start=False, sequence_end=False)
    with llm.stream(
        "stream_chat", FRANCE * 5, session_id=9, sequence_start=False, on_error="status"
    ) as stream:
        assert [tuple(chunk) for chunk in stream] == [(ModelStatusCode.SESSION_OUT_OF_LIMIT, "", None)]


def test_stateless_calls_with_one_id_do_not_disturb_each_other(make):
    llm = make()
    assert llm.chat([FRANCE] * 6, session_id=4) == ["The capital of France is Paris."] * 6


# parameters and bad input


def test_bad_input_is_refused_before_anything_is_sent(make):
    llm = make()
    with pytest.raises(UnknownParameter, match="did you mean 'temperature'"):
        llm.chat(FRANCE, temprature=1)
    with pytest.raises(InvalidArgument, match="top_p=2"):
        llm.chat(FRANCE, top_p=2)
    with pytest.raises(InvalidArgument, match="the prompt is empty"):
        llm.generate("")
    with pytest.raises(InvalidArgument, match="list of messages is empty"):
        llm.chat([])


def test_what_the_backend_cannot_honour_is_refused(make):
    llm = make()
    for name in type(llm.llm).unsupported_parameters:
        with pytest.raises(UnsupportedParameter, match=name):
            llm.chat(FRANCE, **{name: {"type": "x"}})


def test_thread_safety(make):
    llm = make()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(llm.chat(FRANCE))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["The capital of France is Paris."] * 12
