"""The generations of a page, without gradio and without a model: progress, end, Stop."""

import asyncio
import threading

import pytest

from lagent_llms.errors import ContextLengthExceeded, InvalidArgument, RateLimited, TimeoutExceeded
from lagent_llms.serving.pages import generations
from lagent_llms.serving.pages.generations import Generations, Progress, error_note, history_pairs


@pytest.fixture(autouse=True)
def every_update(monkeypatch):
    monkeypatch.setattr(generations, "_UPDATE_INTERVAL", 0.0)


class Endless:
    """A stream that ends only when it is closed, like the stream of an engine."""

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


async def collect(running, start):
    return [progress async for progress in running.stream("me", start)]


async def test_an_answer_grows_until_it_is_done():
    updates = await collect(Generations(), lambda: iter([("a", 1), ("ab", 2)]))
    assert updates == [Progress("a", 1), Progress("ab", 2), Progress("ab", 2, "done")]


async def test_an_asynchronous_stream():
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

    running, stream, last = Generations(), Stream(), None
    async for progress in running.stream("me", lambda: stream):
        if len(progress.text) == 3:
            running.stop("me")
        last = progress
    assert (last.state, last.n_tokens, stream.closed) == ("stopped", None, True)


async def test_updates_keep_their_interval(monkeypatch):
    monkeypatch.setattr(generations, "_UPDATE_INTERVAL", 3600.0)
    updates = await collect(Generations(), lambda: iter([("x" * n, n) for n in range(1, 10_000)]))
    assert len(updates) <= 2
    assert updates[-1] == Progress("x" * 9_999, 9_999, "done")


@pytest.mark.parametrize("clear", [False, True])
async def test_stop_ends_the_generation(clear):
    running, source, last = Generations(), Endless(), None
    async for progress in running.stream("me", lambda: source):
        if progress.n_tokens == 3:
            running.stop("me", clear=clear)
        last = progress
    assert last.state == ("cleared" if clear else "stopped")
    assert source.closed.is_set()


async def test_stop_does_not_wait_for_the_first_token():
    class Silent(Endless):
        def __next__(self):
            self.closed.wait(60)
            raise StopIteration

    running, source = Generations(), Silent()
    reading = asyncio.create_task(collect(running, lambda: source))
    await asyncio.sleep(0.05)
    running.stop("me")
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

    running = Generations()
    async for progress in running.stream("me", plain):
        if progress.n_tokens == 3:
            running.stop("me")
    assert closed.is_set()


async def test_one_visitor_does_not_stop_another():
    running, mine, other = Generations(), Endless(), Endless()
    theirs = running.stream("other", lambda: other)
    await anext(theirs)
    async for progress in running.stream("me", lambda: mine):
        if progress.n_tokens == 3:
            running.stop("me")
    assert not other.closed.is_set()
    await theirs.aclose()
    assert other.closed.is_set()


async def test_a_second_request_stops_the_first():
    running, first = Generations(), Endless()
    stream = running.stream("me", lambda: first)
    await anext(stream)
    await collect(running, lambda: iter([("a", 1)]))
    assert first.closed.is_set()


async def test_cancelling_stops_the_generation():
    running, source, begun = Generations(), Endless(), asyncio.Event()

    async def read():
        async for _ in running.stream("me", lambda: source):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.closed.is_set()


async def test_a_failure_keeps_the_text_and_shows_no_internals(caplog):
    def broken():
        yield "half an ans", 4
        raise RuntimeError("/secret/path")

    last = (await collect(Generations(), broken))[-1]
    assert (last.text, last.n_tokens, last.state) == ("half an ans", 4, "failed")
    assert "secret" not in last.error
    assert "/secret/path" in caplog.text


async def test_a_failure_at_the_start_is_reported():
    def refuse():
        raise ContextLengthExceeded("the prompt has 9000 tokens")

    (only,) = await collect(Generations(), refuse)
    assert only == Progress(state="failed", error=error_note(ContextLengthExceeded()))


async def test_draining_waits_for_running_generations():
    running = Generations()
    go_on = threading.Event()

    def slow():
        yield "a", 1
        go_on.wait(60)
        yield "ab", 2

    reading = asyncio.create_task(collect(running, slow))
    await asyncio.sleep(0.05)
    draining = asyncio.create_task(asyncio.to_thread(running.drain))
    await asyncio.sleep(0.05)
    assert not draining.done()
    go_on.set()
    await draining
    assert (await reading)[-1] == Progress("ab", 2, "done")
    refused = (await collect(running, slow))[-1]
    assert refused.state == "failed"
    assert "shutting down" in refused.error


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (ContextLengthExceeded("9000 tokens"), "too long"),
        (RateLimited("queue"), "busy"),
        (TimeoutExceeded("idle"), "too long"),
        (InvalidArgument("max_new_tokens=-1: allowed is 1 or more"), "max_new_tokens=-1"),
        (KeyError("x"), "could not answer"),
    ],
)
def test_error_notes(error, note):
    assert note in error_note(error)


def test_the_pairs_of_a_chatbots_messages():
    def message(role, text):
        return {"role": role, "content": [{"type": "text", "text": text}]}

    messages = [message("user", "a"), message("assistant", "b"), message("user", "unanswered")]
    messages += [
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
        message("user", "new"),
    ]
    assert history_pairs(messages) == [("a", "b"), ("c", "d")]
    assert history_pairs([]) == []
