"""The answers of a page, without gradio and without a model: progress, ends, Stop."""

import asyncio
import threading

import pytest

from lagent_llms.errors import ContextLengthExceeded, InvalidArgument, RateLimited, TimeoutExceeded
from lagent_llms.serving.pages import answers
from lagent_llms.serving.pages.answers import Answers, Progress, in_words, pairs_of


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    monkeypatch.setattr(answers, "_PACE", 0.0)


class Endless:
    """Steps without end, until it is closed; as a stream of the engine behaves."""

    def __init__(self):
        self.n = 0
        self.closed = threading.Event()

    def __iter__(self):
        return self

    def __next__(self):
        if self.closed.is_set():
            raise StopIteration
        self.n += 1
        return "x" * self.n, self.n

    def close(self):
        self.closed.set()


async def collect(answers, start):
    return [step async for step in answers.stream("me", start)]


async def test_an_answer_grows_and_is_done():
    steps = await collect(Answers(), lambda: iter([("a", 1), ("ab", 2)]))
    assert steps == [Progress("a", 1), Progress("ab", 2), Progress("ab", 2, "done")]


async def test_an_asynchronous_answer():
    class Stream:
        def __init__(self):
            self.n, self.closed = 0, False

        def __aiter__(self):
            return self

        async def __anext__(self):
            await asyncio.sleep(0)
            if self.closed:
                raise StopAsyncIteration
            self.n += 1
            return "x" * self.n, None

        def close(self):
            self.closed = True

    answers, stream, last = Answers(), Stream(), None
    async for step in answers.stream("me", lambda: stream):
        if len(step.text) == 3:
            answers.stop("me")
        last = step
    assert (last.state, last.n_tokens, stream.closed) == ("stopped", None, True)


async def test_a_page_is_not_told_of_every_token(monkeypatch):
    monkeypatch.setattr(answers, "_PACE", 3600.0)
    steps = await collect(Answers(), lambda: iter([("x" * n, n) for n in range(1, 10_000)]))
    assert len(steps) <= 2
    assert steps[-1] == Progress("x" * 9_999, 9_999, "done")


@pytest.mark.parametrize("clear", [False, True])
async def test_stop_ends_the_generation(clear):
    answers, source, last = Answers(), Endless(), None
    async for step in answers.stream("me", lambda: source):
        if step.n_tokens == 3:
            answers.stop("me", clear=clear)
        last = step
    assert last.state == ("cleared" if clear else "stopped")
    assert source.closed.is_set()


async def test_stop_does_not_wait_for_the_first_token():
    class Silent(Endless):
        def __next__(self):
            self.closed.wait(60)
            raise StopIteration

    answers, source = Answers(), Silent()
    reading = asyncio.create_task(collect(answers, lambda: source))
    await asyncio.sleep(0.05)
    answers.stop("me")
    assert await reading == [Progress("", 0, "stopped")]
    assert source.closed.is_set()


async def test_a_plain_generator_is_closed_too():
    closed = threading.Event()

    def plain():
        try:
            for n in range(1, 1_000_000_000):
                yield "x", n
        finally:
            closed.set()

    answers = Answers()
    async for step in answers.stream("me", plain):
        if step.n_tokens == 3:
            answers.stop("me")
    assert closed.is_set()


async def test_one_visitor_does_not_stop_another():
    answers, mine, other = Answers(), Endless(), Endless()
    theirs = answers.stream("other", lambda: other)
    await anext(theirs)
    async for step in answers.stream("me", lambda: mine):
        if step.n_tokens == 3:
            answers.stop("me")
    assert not other.closed.is_set()
    await theirs.aclose()
    assert other.closed.is_set()


async def test_who_asks_again_gives_up_the_first_answer():
    answers, first = Answers(), Endless()
    stream = answers.stream("me", lambda: first)
    await anext(stream)
    await collect(answers, lambda: iter([("a", 1)]))
    assert first.closed.is_set()


async def test_cancelling_stops_the_generation():
    answers, source, begun = Answers(), Endless(), asyncio.Event()

    async def read():
        async for _ in answers.stream("me", lambda: source):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.closed.is_set()


async def test_a_failure_keeps_what_arrived_and_tells_no_internals(caplog):
    def broken():
        yield "half an ans", 4
        raise RuntimeError("/secret/path")

    last = (await collect(Answers(), broken))[-1]
    assert (last.text, last.n_tokens, last.state) == ("half an ans", 4, "failed")
    assert "secret" not in last.error
    assert "/secret/path" in caplog.text


async def test_a_refusal_at_the_beginning_is_told():
    def refuse():
        raise ContextLengthExceeded("the prompt has 9000 tokens")

    (only,) = await collect(Answers(), refuse)
    assert only == Progress(state="failed", error=in_words(ContextLengthExceeded()))


async def test_draining_waits_for_what_runs():
    answers = Answers()
    go_on = threading.Event()

    def slow():
        yield "a", 1
        go_on.wait(60)
        yield "ab", 2

    reading = asyncio.create_task(collect(answers, slow))
    await asyncio.sleep(0.05)
    draining = asyncio.create_task(asyncio.to_thread(answers.drain))
    await asyncio.sleep(0.05)
    assert not draining.done()
    go_on.set()
    await draining
    assert (await reading)[-1] == Progress("ab", 2, "done")
    refused = (await collect(answers, slow))[-1]
    assert refused.state == "failed"
    assert "ending" in refused.error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ContextLengthExceeded("9000 tokens"), "too long"),
        (RateLimited("queue"), "busy"),
        (TimeoutExceeded("idle"), "too long"),
        (InvalidArgument("max_new_tokens=-1: allowed is 1 or more"), "max_new_tokens=-1"),
        (KeyError("x"), "could not answer"),
    ],
)
def test_errors_in_words(error, told):
    assert told in in_words(error)


def test_pairs_of_a_chatbots_messages():
    def said(role, text):
        return {"role": role, "content": [{"type": "text", "text": text}]}

    messages = [said("user", "a"), said("assistant", "b"), said("user", "unanswered")]
    messages += [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}, said("user", "new")]
    assert pairs_of(messages) == [("a", "b"), ("c", "d")]
    assert pairs_of([]) == []
