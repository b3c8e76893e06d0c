"""Totals of what calls have used."""

import asyncio
import copy
import gc
import os
import sys
import threading

import pytest

from lagent_llms import BatchError, InvalidArgument, ServerError, Usage, UsageTotals
from lagent_llms.core.usage import CallRecord, UsageCounter
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

PROMPT = "a prompt"
ONE = UsageTotals(calls=1, prompt_tokens=len(PROMPT), completion_tokens=1)


def count(counter, model="m", prompt=1, completion=2, cached=None, **given):
    used = Usage(prompt, completion, cached)
    counter.add(model, used, **{"cached": False, "failed": False, "retries": 0, **given})


def test_an_answer():
    llm = ScriptedLLM("fine")
    llm.generate(PROMPT)
    assert llm.usage.totals() == ONE
    assert (llm.usage.calls, llm.usage.total_tokens) == (1, len(PROMPT) + 1)
    assert repr(llm.usage).startswith("UsageTotals(calls=1, errors=0")


def test_errors_and_retries():
    script = iter([ServerError("busy", status_code=503), "fine", ServerError("bad", status_code=400)])
    llm = ScriptedLLM(lambda _: [next(script)], retry={"base": 0.001})
    llm.generate(PROMPT)
    with pytest.raises(ServerError):
        llm.generate(PROMPT)
    chunks = [*ScriptedLLM([ServerError("no")], on_error="status").stream_generate(PROMPT)]
    assert chunks[-1].error is not None
    assert llm.usage.totals() == UsageTotals(2, 1, 1, len(PROMPT), 1)


def test_what_is_refused_is_no_call():
    llm = ScriptedLLM()
    with pytest.raises(InvalidArgument):
        llm.generate("")
    [*llm.stream_generate("", on_error="status")]
    llm.stream_generate("not begun").close()
    assert llm.usage.totals() == UsageTotals()


def test_a_batch_is_as_many_calls():
    llm = ScriptedLLM(lambda request: [ServerError("no")] if request.prompt == "b" else "fine")
    with pytest.raises(BatchError):
        llm.generate(["a", "b", "c"])
    assert llm.usage.totals() == UsageTotals(3, 1, 0, 2, 2)


def test_answers_that_are_cut_or_left_count_their_tokens_so_far():
    llm = ScriptedLLM(["one", "two", "three", "four"])
    llm.generate(PROMPT, stop_words=["three"])
    with llm.stream_generate(PROMPT) as stream:
        next(stream)
    dropped = llm.stream_generate(PROMPT)
    next(dropped)
    del dropped
    gc.collect()
    assert llm.usage.totals() == UsageTotals(calls=3, completion_tokens=3 + 1 + 1)


def test_cached_answers_use_no_tokens(tmp_path):
    llm = ScriptedLLM("fine", cache=tmp_path, temperature=0)
    llm.generate(PROMPT)
    llm.cache.flush()
    llm.generate(PROMPT)
    assert llm.usage.totals() == UsageTotals(2, 0, 0, len(PROMPT), 1, 0, 1)
    llm.close()


def test_cached_tokens():
    counter = UsageCounter()
    count(counter, cached=1)
    count(counter)
    assert counter.cached_tokens == 1


async def test_asynchronous_and_cancelled_calls():
    llm = AsyncScriptedLLM(["a", 30.0, "b"])
    task = asyncio.create_task(llm.generate(PROMPT))
    while not llm.open:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (llm.usage.calls, llm.usage.errors) == (1, 0)


def test_models():
    llm = ScriptedLLM("fine")
    llm.generate(PROMPT)
    llm.model_name = "m"
    llm.generate(PROMPT)
    llm.generate(PROMPT, adapter_name="french")
    assert llm.usage.models() == {"": ONE, "m": ONE, "french": ONE}
    llm.model_name, llm.path = None, "/models/mine"
    llm.generate(PROMPT)
    llm.path = "Qwen/Qwen3-8B"
    llm.generate(PROMPT)
    assert [*llm.usage.models()][-2:] == ["mine", "Qwen/Qwen3-8B"]


def test_names_from_callers_do_not_fill_the_memory():
    counter = UsageCounter()
    for number in range(3000):
        count(counter, str(number))
        assert len(counter._pending) < 2000
    assert len(counter.models()) == 1001
    assert counter.models()["others"].calls == 2000
    assert counter.calls == 3000


def test_reset():
    llm = ScriptedLLM("fine")
    llm.generate(PROMPT)
    assert llm.usage.reset() == ONE
    assert (llm.usage.totals(), llm.usage.models()) == (UsageTotals(), {})
    llm.generate(PROMPT)
    assert llm.usage.totals() == ONE


class Composed(ScriptedLLM):
    """A backend whose calls a member answers."""

    def __init__(self, members, **kwargs):
        super().__init__(lambda request: members[0].generate(request.prompt), **kwargs)
        self.usage = UsageCounter(member.usage for member in members)


def test_members_of_a_composed_backend(tmp_path):
    first, second = ScriptedLLM("fine"), ScriptedLLM("fine")
    first.model_name, second.model_name = "m", "n"
    whole, records = Composed([first, second], cache=tmp_path, temperature=0), []
    whole.usage.subscribe(records.append)
    whole.generate(PROMPT)
    whole.cache.flush()
    whole.generate(PROMPT)
    second.generate(PROMPT)
    cached = UsageTotals(calls=1, cached_answers=1)
    assert whole.usage.models() == {"": cached, "m": ONE, "n": ONE}
    assert [(record.provider, record.model) for record in records] == [
        ("ScriptedLLM", "m"),
        ("Composed", ""),
        ("ScriptedLLM", "n"),
    ]
    assert whole.usage.reset() == cached + ONE + ONE
    assert first.usage.totals() == whole.usage.totals() == UsageTotals()
    whole.close()


def test_copies_count_from_zero():
    llm = ScriptedLLM("fine")
    llm.generate(PROMPT)
    assert copy.copy(llm).usage.calls == 0


def test_threads_lose_nothing():
    counter, taken, threads, each = UsageCounter(), [], 8, 4000
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        done = threading.Event()

        def read():
            while not done.is_set():
                taken.append(counter.reset())

        reader = threading.Thread(target=read)
        reader.start()
        work = [
            threading.Thread(target=lambda: [count(counter, failed=True) for _ in range(each)])
            for _ in range(threads)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        done.set()
        reader.join()
    finally:
        sys.setswitchinterval(switch)
    calls = threads * each
    assert sum(taken, counter.totals()) == UsageTotals(calls, calls, 0, calls, 2 * calls)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_counts_its_own_calls():
    llm = ScriptedLLM("fine")
    llm.generate(PROMPT)
    with llm.usage._lock:  # as another thread may hold it
        if not (pid := os.fork()):
            llm.generate(PROMPT)
            os._exit(0 if llm.usage.totals() == ONE else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert llm.usage.totals() == ONE


def test_records_of_calls(caplog):
    llm, records = ScriptedLLM(["a", ServerError("no")], meta_template="chatml"), []
    llm.model_name = "m"

    def fails(_):
        raise RuntimeError("a fault of the listener")

    llm.usage.subscribe(fails)
    llm.usage.subscribe(records.append)
    with pytest.raises(ServerError):
        llm.chat("Hi")
    (record,) = records
    assert isinstance(record, CallRecord)
    assert record[:3] == ("chat", "ScriptedLLM", "m")
    assert 0 <= record.first_chunk <= record.seconds < 60
    assert (record.completion, type(record.error), record.retries) == (None, ServerError, 0)
    assert "a listener of llm.usage has failed" in caplog.text
