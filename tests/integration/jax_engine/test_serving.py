"""Batching, chunks, prefix reuse, cancelling, limits and the end of an engine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from lagent_llms.errors import ContextLengthExceeded, InvalidArgument, LLMError
from lagent_llms.jax_engine import Engine, SamplingParams

from .conftest import Result, prompt_of, run, start

GREEDY = {"temperature": 0.0, "ignore_eos": True}


@pytest.fixture(scope="module")
def small(load):
    """An engine with a single slot and decode chunks of 4 tokens."""
    return load("llama", max_slots=1, decode_chunk=4)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 9, 13])
def test_max_new_tokens_is_exact(small, count):
    """The limit is before, at or after the end of a decode chunk."""
    whole = run(small, prompt_of(9), max_new_tokens=20, **GREEDY).ids
    result = run(small, prompt_of(9), max_new_tokens=count, **GREEDY)
    assert result.ids == whole[:count]
    assert result.last.finish_reason == "length"


def test_the_first_token_comes_alone(small, monkeypatch):
    """The first token is emitted right after prefill, not with the first decode chunk."""
    monkeypatch.setattr("lagent_llms.jax_engine.model_runner._DECODE_SECONDS", 1e6)  # no chunk is shortened
    result = run(small, prompt_of(9), max_new_tokens=9, **GREEDY)
    assert [len(event.token_ids) for event in result.events] == [1, 4, 4]


@pytest.mark.parametrize("length", [15, 16, 17, 24, 25, 33, 48, 49, 64, 65, 129, 200])
def test_prompt_buckets(engine, small, length):
    """A prompt as long as a bucket gives the same tokens as one prolonged token by token."""
    prompt = prompt_of(length, salt=length)
    whole = run(engine, prompt, max_new_tokens=6, **GREEDY).ids
    assert run(small, [*prompt, *whole[:3]], max_new_tokens=3, **GREEDY).ids == whole[3:]


def test_prefix_is_reused(load):
    engine, cold = load("llama", max_slots=2), load("llama", max_slots=2)
    first = prompt_of(50)
    answer = run(engine, first, max_new_tokens=12, **GREEDY)
    assert answer.last.cached_tokens == 0
    follow_up = [*first, *answer.ids, *prompt_of(20, salt=9)]
    warm = run(engine, follow_up, max_new_tokens=15, **GREEDY)
    assert warm.last.cached_tokens == 50 + 12 - 1  # the model has not seen the last token
    assert warm.ids == run(cold, follow_up, max_new_tokens=15, **GREEDY).ids
    same = run(engine, follow_up, max_new_tokens=15, **GREEDY)
    assert same.last.cached_tokens == len(follow_up) - 1  # one token must be computed
    assert same.ids == warm.ids
    assert engine.stats().cached_prompt_tokens == 61 + len(follow_up) - 1


def test_diverging_prompt_reuses_only_what_is_equal(load):
    engine, cold = load("llama", max_slots=1), load("llama", max_slots=1)
    run(engine, prompt_of(80), max_new_tokens=10, **GREEDY)
    other = [*prompt_of(30), *prompt_of(40, salt=3)]
    result = run(engine, other, max_new_tokens=20, **GREEDY)
    assert result.last.cached_tokens == 30
    assert result.ids == run(cold, other, max_new_tokens=20, **GREEDY).ids
    back = run(engine, prompt_of(80), max_new_tokens=10, **GREEDY)
    assert back.ids == run(cold, prompt_of(80), max_new_tokens=10, **GREEDY).ids


def test_prompt_in_pieces(load, monkeypatch):
    """A prompt longer than a piece gives the same answer; a running stream gets tokens between the pieces."""
    expected = run(load("llama", max_slots=2), prompt_of(220), max_new_tokens=8, **GREEDY).ids
    monkeypatch.setattr("lagent_llms.jax_engine.engine._PREFILL_CHUNK", 32)
    monkeypatch.setattr("lagent_llms.jax_engine.worker._PREFILL_TOKENS", 32)
    engine = load("llama", max_slots=2)
    order: list[str] = []
    stream = start(engine, prompt_of(5), lambda _: order.append("stream"), max_new_tokens=120, **GREEDY)
    stream.wait_begun()
    long = start(engine, prompt_of(220), lambda _: order.append("long"), max_new_tokens=8, **GREEDY)
    assert long.wait().ids == expected
    stream.wait()
    assert order[: order.index("long")].count("stream") >= 6


def test_running_streams_wait_for_one_prefill_bucket_at_most(load, monkeypatch):
    """At most 128 prompt tokens, padding included, are computed between two decode steps of a stream."""
    monkeypatch.setattr("lagent_llms.jax_engine.engine._PREFILL_CHUNK", 64)
    monkeypatch.setattr("lagent_llms.jax_engine.worker._PREFILL_TOKENS", 128)
    engine = load("llama", max_slots=8)
    computed: list[int] = []
    runner = engine._worker._runner
    prefill, decode = runner.prefill, runner.decode

    def counted_prefill(rows):
        computed[-1] += (
            runner.prefill_bucket(max(len(row.tokens) for row in rows)) << (len(rows) - 1).bit_length()
        )
        return prefill(rows)

    def counted_decode(rows):
        computed.append(0)
        return decode(rows)

    began = threading.Event()

    def slowly(_):
        began.set()
        time.sleep(0.02)  # keeps the stream running until the others arrive

    stream = start(engine, prompt_of(5), slowly, max_new_tokens=240, **GREEDY)
    assert began.wait(120)
    computed.append(0)
    monkeypatch.setattr(runner, "prefill", counted_prefill)
    monkeypatch.setattr(runner, "decode", counted_decode)
    longs = [
        start(engine, prompt_of(length), max_new_tokens=2, **GREEDY) for length in (200, 20, 90, 220, 33)
    ]
    for one in (*longs, stream):
        one.wait()
    assert sum(computed) >= 200 + 20 + 90 + 220 + 33
    assert max(computed) <= 128


def test_requests_start_in_the_order_of_arrival(load):
    """There are more requests than slots; every request starts and ends."""
    engine = load("llama", max_slots=2)
    begun: list[int] = []
    results = [
        start(
            engine,
            prompt_of(6, salt=number),
            lambda _, number=number: number in begun or begun.append(number),
            max_new_tokens=20,
            **GREEDY,
        )
        for number in range(10)
    ]
    assert [len(result.wait().ids) for result in results] == [20] * 10
    assert begun == sorted(begun)


def test_a_seed_of_the_engine_repeats_its_run_but_not_one_answer(load):
    def answers(seed):
        engine = load("llama", max_slots=1, seed=seed)
        return [run(engine, prompt_of(5), max_new_tokens=12, temperature=1.5).ids for _ in range(3)]

    first = answers(556)
    assert first == answers(556) != answers(557)
    assert len(set(map(tuple, first))) == 3


def test_answer_up_to_the_context_limit(load):
    """Use the last positions of a slot, where neither a chunk nor a prefill bucket fits."""
    engine, whole = load("llama", max_slots=1, max_len=100), load("llama", max_slots=1)
    long = run(whole, prompt_of(60), max_new_tokens=60, **GREEDY).ids
    result = run(engine, prompt_of(60), max_new_tokens=10_000, **GREEDY)
    assert (len(result.ids), result.last.finish_reason) == (40, "length")
    assert result.ids == long[:40]
    # Reuse up to the end: the prefill bucket would exceed the slot.
    result = run(engine, [*prompt_of(60), *long[:39]], max_new_tokens=5, **GREEDY)
    assert (result.ids, result.last.cached_tokens) == (long[39:40], 98)
    other = run(engine, [*prompt_of(60), *long[:20], *prompt_of(19, salt=5)], max_new_tokens=5, **GREEDY)
    assert (
        other.ids
        == run(whole, [*prompt_of(60), *long[:20], *prompt_of(19, salt=5)], max_new_tokens=1, **GREEDY).ids
    )


def test_cancel_frees_the_slot(small):
    """With a single slot, a waiting request runs as soon as the first is cancelled."""
    stream = Result()
    running = start(small, prompt_of(5), lambda _: time.sleep(0.02), max_new_tokens=250, **GREEDY)
    waiting = small.submit(prompt_of(6), SamplingParams(max_new_tokens=3, **GREEDY), on_event=stream)
    running.wait_begun()
    running.handle.cancel()
    running.handle.cancel()
    assert running.wait().last.finish_reason == "cancelled"
    assert len(running.ids) < 250
    assert len(stream.wait().ids) == 3
    waiting.cancel()
    assert small.stats().slots_in_use == 0
    assert stream.events[-1].finish_reason == "length"


def test_cancel_while_waiting(small):
    running = start(small, prompt_of(5), max_new_tokens=100, **GREEDY)
    waiting = start(small, prompt_of(6), max_new_tokens=100, **GREEDY)
    waiting.handle.cancel()
    assert (waiting.wait().ids, waiting.last.finish_reason) == ([], "cancelled")
    assert len(running.wait().ids) == 100


def test_submitting_from_many_threads(engine):
    expected = {
        length: run(engine, prompt_of(length), max_new_tokens=10, **GREEDY).ids for length in (4, 20, 45)
    }
    results: list[tuple[int, Result]] = []

    def submit(length):
        for _ in range(4):
            results.append((length, run(engine, prompt_of(length), max_new_tokens=10, **GREEDY)))

    threads = [threading.Thread(target=submit, args=(length,)) for length in expected for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 24
    assert all(result.ids == expected[length] for length, result in results)


def test_statistics(load):
    engine = load("llama", max_slots=2)
    results = [start(engine, prompt_of(length), max_new_tokens=7, **GREEDY) for length in (5, 6, 7)]
    for result in results:
        result.wait()
    stats = engine.stats()
    assert (stats.requests_served, stats.prompt_tokens, stats.completion_tokens) == (3, 18, 21)
    assert (stats.slots_in_use, stats.waiting) == (0, 0)


def test_a_callback_that_raises_does_not_affect_other_requests(engine, caplog):
    def refuse(event):
        raise RuntimeError("not today")

    engine.submit(prompt_of(5), SamplingParams(max_new_tokens=200, **GREEDY), on_event=refuse)
    assert len(run(engine, prompt_of(8), max_new_tokens=20, **GREEDY).ids) == 20
    assert "not today" in caplog.text
    assert engine.stats().slots_in_use == 0


def test_an_error_in_the_engine_reaches_every_request(load, monkeypatch):
    """Waiting requests fail as well; afterwards the engine continues with an empty cache."""
    engine = load("llama", max_slots=1)
    expected = run(engine, prompt_of(40), max_new_tokens=20, **GREEDY).ids
    broken = RuntimeError("out of memory")

    def fail(*_args, **_kwargs):
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr("lagent_llms.jax_engine.graphs.decode", fail)
        results = [start(engine, prompt_of(40), max_new_tokens=20, **GREEDY) for _ in range(3)]
        for result in results:
            error = result.wait().last.error
            assert isinstance(error, LLMError)
            assert (error.__cause__, str(error)) == (broken, "the engine failed: RuntimeError: out of memory")
    after = run(engine, prompt_of(40), max_new_tokens=20, **GREEDY)
    assert (after.ids, after.last.cached_tokens) == (expected, 0)


def test_close_ends_requests_in_flight(load):
    engine = load("llama", max_slots=1)
    results = [
        start(engine, prompt_of(5), lambda _: time.sleep(0.02), max_new_tokens=250, **GREEDY)
        for _ in range(3)
    ]
    results[0].wait_begun()
    engine.close()
    engine.close()
    for result in results:
        assert isinstance(result.wait().last.error, LLMError)
    with pytest.raises(LLMError, match="closed"):
        engine.submit([1], SamplingParams(), on_event=print)
    with pytest.raises(LLMError, match="closed"):
        engine.stats()


def test_context_manager_closes(load):
    with load("llama", max_slots=1) as engine:
        run(engine, prompt_of(5), max_new_tokens=2)
    with pytest.raises(LLMError):
        engine.submit([1], SamplingParams(), on_event=print)


def test_interpreter_exits_with_requests_in_flight(checkpoint):
    code = f"""
import threading
from lagent_llms.jax_engine import Engine, SamplingParams
engine = Engine.load({str(checkpoint("llama"))!r})
begun, params = threading.Event(), SamplingParams(max_new_tokens=240, ignore_eos=True)
for _ in range(9):
    engine.submit([1, 5, 6], params, on_event=lambda event: begun.set())
assert begun.wait(60)
print("leaving")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr


def test_wrong_prompts(engine):
    with pytest.raises(InvalidArgument, match="empty"):
        engine.submit([], SamplingParams(), on_event=print)
    with pytest.raises(InvalidArgument, match="320"):
        engine.submit([1, 320], SamplingParams(), on_event=print)
    with pytest.raises(InvalidArgument, match="-1"):
        engine.submit([-1], SamplingParams(), on_event=print)
    with pytest.raises(ContextLengthExceeded, match=r"256 tokens.*256"):
        engine.submit([5] * 256, SamplingParams(), on_event=print)
    assert len(run(engine, [5] * 255, max_new_tokens=4, **GREEDY).ids) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_slots": 0},
        {"max_len": 1},
        {"max_len": 257},
        {"decode_chunk": 0},
        {"dtype": "int8"},
        {"max_slots": True},
    ],
)
def test_wrong_options(checkpoint, wrong):
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Engine.load(checkpoint("llama"), cache_dir=False, **wrong)


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_k": -2}, {"top_p": 0}, {"logprobs": 21}, {"seed": -1}]
)
def test_wrong_sampling(wrong):
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        SamplingParams(**wrong)
