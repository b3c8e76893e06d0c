"""Retries of a call, whatever the backend: what is repeated, what a caller sees, and how the wait ends."""

import asyncio
import signal
import threading
import time

import pytest

from lagent_llms import (
    ConnectError,
    RateLimited,
    RetryPolicy,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from lagent_llms.core.deadline import Deadline, LaterAttempt
from lagent_llms.core.sessions import Held
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM
from lagent_llms.testing.conformance import Caller

USER = [{"role": "user", "content": "hi"}]
OPEN = {"session_id": 1, "sequence_start": True, "sequence_end": False}
GO_ON = {"session_id": 1, "sequence_start": False, "sequence_end": False}
QUICK = RetryPolicy(max_retries=2, base=0.001)
SLOW = RetryPolicy(max_retries=2, base=600, max_backoff=600, max_wait=600)
BUSY = ServerError("busy", status_code=503)
#: Waits for 300 s at least, whatever is drawn.
LATER = RateLimited("later", status_code=429, retry_after=300)


@pytest.fixture(params=[ScriptedLLM, AsyncScriptedLLM], ids=["sync", "async"])
def scripted(request):
    """Factory of a caller of a model that answers each request with the next of several scripts."""
    made = []

    def scripted(*scripts, **kwargs):
        rest = iter(scripts)
        llm = request.param(lambda _: next(rest), meta_template="chatml", **{"retry": QUICK, **kwargs})
        made.append(Caller(llm))
        return made[-1]

    yield scripted
    for one in made:
        one.close()


def test_a_call_is_repeated_until_it_is_answered(scripted):
    llm = scripted([BUSY], [ConnectError("no")], ["he", "llo"])
    assert llm.chat(USER) == "hello"
    assert len(llm.llm.requests) == 3


def test_a_stream_shows_nothing_of_failed_attempts(scripted):
    llm = scripted([BUSY], [StreamInterrupted("gone")], ["he", "llo"])
    assert "".join(chunk.delta for chunk in llm.chunks("stream_chat", USER)) == "hello"


def test_a_source_without_an_end_is_a_failure(scripted):
    llm = scripted([], [], [])
    llm.llm._finish_reason = None
    with pytest.raises(StreamInterrupted, match=r"final marker \(after 3 attempts in"):
        llm.chat(USER)


def test_a_call_whose_answer_has_begun_is_not_repeated(scripted):
    llm = scripted(["he", StreamInterrupted("gone")], ["hello"])
    with pytest.raises(StreamInterrupted) as caught:
        llm.chat(USER)
    assert (caught.value.partial, len(llm.llm.requests)) == ("he", 1)


def test_a_prompt_of_a_batch_is_repeated_from_the_beginning(scripted):
    llm = scripted(["he", StreamInterrupted("gone")], ["lo"], max_concurrency=1)
    assert llm.generate(["x"]) == ["lo"]


def test_the_policy_of_one_call(scripted):
    llm = scripted([BUSY], ["x"])
    with pytest.raises(ServerError, match="^busy$"):
        llm.chat(USER, retry={"max_retries": 0})
    assert llm.chat(USER) == "x"


def test_the_last_chunk_reports_the_attempts(scripted):
    llm = scripted([BUSY], [BUSY], [ServerError("busy", status_code=503)], on_error="status")
    (last,) = llm.chunks("stream_chat", USER)
    assert last.status < 0
    assert "after 3 attempts" in str(last.error)


def test_a_retried_turn_of_a_session(scripted):
    llm = scripted("one", [BUSY], "two", "three")
    llm.chat(USER, **OPEN)
    assert llm.chat([{"role": "user", "content": "more"}], **GO_ON) == "two"
    assert llm.llm.requests[1].prompt == llm.llm.requests[2].prompt
    llm.chat(USER, **GO_ON)
    last = llm.llm.requests[3].prompt
    assert (last.count("one"), last.count("more"), last.count("two")) == (1, 1, 1)


@pytest.mark.parametrize(
    ("error", "repeated"), [(BUSY, True), (StreamInterrupted("gone"), False), (ConnectError("no"), True)]
)
def test_a_session_at_the_server_repeats_only_what_was_refused(scripted, error, repeated):
    """A turn that the server may have executed would be in its session twice."""
    llm = scripted("one", [error], "two")
    begin = llm.llm._begin
    seen = []

    def keep(request):
        seen.append(request.held)
        request.held = Held(len(seen), request.prompt, 7)
        return begin(request)

    llm.llm._begin = keep
    llm.chat(USER, **OPEN)
    if not repeated:
        with pytest.raises(type(error)):
            llm.chat(USER, **GO_ON)
        return
    assert llm.chat(USER, **GO_ON) == "two"
    assert seen[1] is seen[2]  # the failed attempt left no trace


def test_a_closed_object_begins_no_attempt(scripted):
    llm = scripted("x")
    closing = threading.Event()

    def script(request):
        llm.llm.closed = True
        closing.set()
        raise BUSY

    llm.llm._script = script
    with pytest.raises(ServerError, match="^busy$"):
        llm.chat(USER)
    assert closing.is_set()


# the wait between two attempts


def read_in_thread(llm):
    """Read a stream in a thread; return the stream, the thread and the chunks or errors it gets."""
    stream, got = llm.llm.stream_chat(USER, retry=SLOW), []

    async def read():
        async for chunk in stream:
            got.append(chunk)

    def run():
        try:
            if llm.asynchronous:
                asyncio.run(read())
            else:
                got.extend(stream)
        except Exception as error:
            got.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for_backoff(stream)
    return stream, thread, got


def wait_for_backoff(stream):
    end = time.monotonic() + 60
    while stream._wake is None and time.monotonic() < end:
        time.sleep(0.005)
    assert stream._wake is not None


def test_close_from_another_thread_ends_the_wait(scripted):
    llm = scripted([LATER], ["x"])
    stream, thread, got = read_in_thread(llm)
    stream.close()
    thread.join(60)
    assert not thread.is_alive()
    assert got == []
    assert len(llm.llm.requests) == 1


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt: a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_wait_and_frees_the_session():
    scripts = iter([[LATER], ["x"]])
    llm = ScriptedLLM(lambda _: next(scripts), meta_template="chatml", retry=SLOW)
    stream = llm.stream_chat(USER, **OPEN)

    def interrupt():
        wait_for_backoff(stream)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.main_thread().ident
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    thread.join(60)
    assert list(stream) == []
    assert llm.chat(USER, **OPEN) == "x"


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_waits_of_a_batch():
    llm = ScriptedLLM([LATER], retry=SLOW)
    main = threading.main_thread().ident

    def interrupt():
        end = time.monotonic() + 60
        while not llm.requests and time.monotonic() < end:  # the others wait for their places
            time.sleep(0.005)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["a", "b", "c"])
    thread.join(60)
    assert len(llm.requests) < 4


async def test_cancelling_the_task_ends_the_wait():
    llm = AsyncScriptedLLM([LATER], meta_template="chatml", retry=SLOW)
    stream = llm.stream_chat(USER, **OPEN)
    task = asyncio.create_task(stream.__anext__())
    while stream._wake is None:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [chunk async for chunk in stream] == []
    assert llm.sessions.begin(1, start=True, end=False)


async def test_cancelling_a_batch_ends_its_waits():
    llm = AsyncScriptedLLM([LATER], retry=SLOW, max_concurrency=2)
    task = asyncio.create_task(llm.generate(["x"] * 5))
    while not llm.requests:  # the others wait for their places
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_total_limit_is_that_of_all_attempts(scripted):
    llm = scripted([LATER], ["x"], retry=SLOW)
    with pytest.raises(RateLimited, match=r"timeout=Timeout\(total=30\) ends before a retry"):
        llm.chat(USER, timeout=Timeout(total=30))
    llm = scripted([BUSY], [60.0, "x"])
    with pytest.raises(TimeoutExceeded, match=r"took longer than 0.3 s.*timeout=Timeout\(total=…\)"):
        llm.chat(USER, timeout=Timeout(total=0.3))


def test_later_attempts_have_what_is_left_of_the_total_limit():
    now = [100.0]
    timeout = LaterAttempt.of(Timeout(first_token=5, total=10), 92.0)
    deadline = Deadline(timeout, lambda: now[0])
    assert deadline.remaining() == 2
    now[0] += 2
    error = deadline.exceeded("http://x")
    assert (error.phase, error.seconds) == ("total", 10)
    assert LaterAttempt.of(Timeout(), 92.0) == Timeout()


def test_a_timeout_is_repeated_unless_the_policy_says_no(scripted):
    limits = Timeout(first_token=0.05)
    assert scripted([60.0], ["x"]).chat(USER, timeout=limits) == "x"
    with pytest.raises(TimeoutExceeded, match="first token"):
        scripted([60.0], ["x"]).chat(USER, timeout=limits, retry={"timeouts": False})


def test_an_answer_cut_by_a_default_limit_is_logged_once(caplog):
    llm = ScriptedLLM("ok", finish_reason="length")
    llm.generate("a", max_new_tokens=5)
    assert not caplog.records
    llm.generate("a")
    llm.generate(["a", "b"])
    (record,) = caplog.records
    assert record.name == "lagent_llms.limit"
    assert "the default max_new_tokens=512 has cut an answer" in record.getMessage()
    ScriptedLLM("ok", finish_reason="length", max_new_tokens=512).generate("a")
    assert len(caplog.records) == 1
