"""A batch on a scripted model, with both drivers: every row once, failures beside answers, every end."""

import asyncio
import json
import threading
import time

import pytest

from lagent_llms import (
    AuthenticationError,
    ConfigError,
    InvalidArgument,
    LLMError,
    RetryPolicy,
    ServerError,
    run_batch,
)
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

MODEL = {"meta_template": "chatml", "retry": RetryPolicy(max_retries=0)}


def echo(request):
    return f"{request.prompt}!"


@pytest.fixture(params=["sync", "async"])
def results_of(request):
    """Run a batch to its end and return its results and its summary; `each` is called with every result."""

    def sync(script, rows, output=None, each=lambda run, result: None, **options):
        run = run_batch(ScriptedLLM(script, **MODEL), rows, output, **options)
        found = []
        for result in run:
            found.append(result)
            each(run, result)
        return found, run.summary

    def asynchronous(script, rows, output=None, each=lambda run, result: None, **options):
        async def main():
            run = run_batch(AsyncScriptedLLM(script, **MODEL), rows, output, **options)
            found = []
            async for result in run:
                found.append(result)
                each(run, result)
            return found, run.summary

        return asyncio.run(main())

    return sync if request.param == "sync" else asynchronous


def texts(results):
    return {result.row.position: result.completion.text for result in results}


def stored(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_every_row_has_its_answer(results_of, tmp_path):
    found, summary = results_of(echo, (f"p{n}" for n in range(3000)), tmp_path / "out", max_concurrency=7)
    assert texts(found) == {n: f"p{n}!" for n in range(3000)}
    assert (summary.rows, summary.failed, summary.stopped) == (3000, 0, "")
    rows = stored(tmp_path / "out")
    assert sorted(row["row"] for row in rows) == list(range(3000))
    assert {row["text"] for row in rows} == {f"p{n}!" for n in range(3000)}


def test_without_an_output_results_are_only_returned(results_of):
    found, _ = results_of(echo, [{"id": "a", "prompt": "Hi"}])
    assert found[0].row.id == "a"
    assert found[0].completion.text == "Hi!"


def test_the_order_of_the_input_on_request(results_of, tmp_path):
    def slow_first(request):
        return [0.05, "slow"] if request.prompt == "0" else "fast"

    found, _ = results_of(slow_first, map(str, range(50)), tmp_path / "out", ordered=True, max_concurrency=9)
    assert [result.row.position for result in found] == list(range(50))
    assert [row["row"] for row in stored(tmp_path / "out")] == list(range(50))


def test_failures_are_rows_and_run_again_on_request(results_of, tmp_path):
    broken = {"3", "5"}

    def some_fail(request):
        return [ServerError("out of memory", status_code=500)] if request.prompt in broken else "ok"

    rows = [str(n) for n in range(8)]
    found, summary = results_of(some_fail, rows, tmp_path / "out")
    assert summary.failed == 2
    errors = [row["error"] for row in stored(tmp_path / "out") if row["error"]]
    assert {error["type"] for error in errors} == {"ServerError"}
    assert {error["status"] for error in errors} == {500}
    assert results_of(some_fail, rows, tmp_path / "out")[0] == []  # failed rows are results too
    broken.clear()
    found, summary = results_of(some_fail, rows, tmp_path / "out", retry_errors=True)
    assert sorted(texts(found)) == [3, 5]
    assert (summary.rows, summary.earlier, summary.failed) == (8, 6, 0)


def test_parameters_of_a_row_are_those_of_its_call(results_of):
    limits = {}

    def note(request):
        limits[request.prompt] = request.params.max_new_tokens
        return "ok"

    rows = [{"prompt": "a", "max_new_tokens": 3}, {"prompt": "b"}, {"prompt": "c", "max_new_tokens": 0}]
    found, _ = results_of(note, rows)
    assert limits == {"a": 3, "b": 512}
    assert isinstance(next(one.error for one in found if one.row.position == 2), InvalidArgument)


def test_too_many_failures_end_the_job(results_of, tmp_path):
    def fail(request):
        return [ServerError("no")]

    _, summary = results_of(fail, map(str, range(5000)), tmp_path / "out", max_failures=3, max_concurrency=2)
    assert summary.rows < 5000
    assert "more than max_failures allows" in summary.stopped
    rows = [*["good"] * 150, *map(str, range(5000))]

    def most_fail(request):
        return "ok" if request.prompt == "good" else [ServerError("no")]

    _, summary = results_of(most_fail, iter(rows), max_failures="10%", max_concurrency=2)
    assert 150 < summary.rows < 5000


def test_refused_credentials_end_the_job_and_their_rows_run_again(results_of, tmp_path):
    def refuse(request):
        return [AuthenticationError("no such key", status_code=401)]

    with pytest.raises(AuthenticationError, match="no such key"):
        results_of(refuse, map(str, range(5000)), tmp_path / "out", max_concurrency=2)
    found, _ = results_of(echo, map(str, range(5000)), tmp_path / "out")
    assert len(found) == 5000


@pytest.mark.parametrize("ordered", [False, True])
def test_a_bug_of_a_backend_ends_the_job_with_its_error(results_of, tmp_path, ordered):
    def some_fail(request):
        return [ZeroDivisionError("a bug")] if request.prompt == "3" else "ok"

    with pytest.raises(ZeroDivisionError, match="a bug"):
        results_of(some_fail, map(str, range(5000)), tmp_path / "out", max_concurrency=2, ordered=ordered)
    assert 3 <= len(stored(tmp_path / "out")) < 5000
    assert 3 not in {row["row"] for row in stored(tmp_path / "out")}
    _, summary = results_of(echo, map(str, range(5000)), tmp_path / "out")
    assert (summary.rows, summary.failed) == (5000, 0)


def test_a_backend_that_is_closed_ends_the_job(tmp_path):
    llm = ScriptedLLM()
    with pytest.raises(LLMError, match="is closed"):
        for _ in run_batch(llm, map(str, range(5000)), tmp_path / "out", max_concurrency=2):
            llm.close()
    assert all(row["error"] is None for row in stored(tmp_path / "out"))


def test_stopping_finishes_and_stores_the_rows_that_run(results_of, tmp_path):
    def stop(run, result):
        run.stop("enough")

    found, summary = results_of(echo, map(str, range(5000)), tmp_path / "out", stop, max_concurrency=4)
    assert summary.stopped == "enough"
    assert 0 < len(found) < 5000
    assert len(stored(tmp_path / "out")) == len(found)
    more, summary = results_of(echo, map(str, range(5000)), tmp_path / "out", max_concurrency=4)
    assert len(more) + len(found) == 5000


def test_leaving_the_loop_stops_the_calls(tmp_path):
    llm = ScriptedLLM(lambda request: "ok" if request.prompt == "0" else ["a", 3600.0])
    for result in run_batch(llm, map(str, range(50)), tmp_path / "out", max_concurrency=4):
        assert result.row.position == 0
        break
    assert llm.open == 0
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("batch-")] == []
    assert len(stored(tmp_path / "out")) == 1


def test_the_end_of_a_with_block_stops_the_calls_though_an_exception_holds_the_loop(tmp_path):
    llm = ScriptedLLM(lambda request: "ok" if request.prompt == "0" else ["a", 3600.0])
    with (
        pytest.raises(KeyboardInterrupt) as caught,
        run_batch(llm, map(str, range(9)), tmp_path / "out") as run,
    ):
        for _ in run:
            raise KeyboardInterrupt
    assert llm.open == 0
    assert caught.tb is not None  # which holds the iterator
    run_batch(llm, ["0"], tmp_path / "out").close()


async def test_the_end_of_an_async_with_block_waits_for_the_end_of_the_calls(tmp_path):
    llm = AsyncScriptedLLM(lambda request: "ok" if request.prompt == "0" else ["a", 3600.0])
    async with run_batch(llm, map(str, range(9)), tmp_path / "out") as run:
        async for _ in run:
            break
    assert llm.open == 0
    await run_batch(llm, ["0"], tmp_path / "out").aclose()


def test_a_batch_is_iterated_once():
    run = run_batch(ScriptedLLM(), ["a"])
    list(run)
    with pytest.raises(LLMError, match="only once"):
        iter(run)


def test_rows_that_come_slowly_hold_no_result_back(tmp_path):
    arrived = threading.Event()

    def rows():
        yield "a"
        assert arrived.wait(60)
        yield "b"

    for _ in run_batch(ScriptedLLM("ok"), rows(), tmp_path / "out", max_concurrency=2):
        arrived.set()
    assert len(stored(tmp_path / "out")) == 2


def test_a_broken_row_is_stored_while_a_call_takes_its_time(tmp_path):
    llm = ScriptedLLM(["a", 3600.0])
    for result in run_batch(llm, [{}, "slow"], tmp_path / "out", max_concurrency=1):
        assert result.row.position == 0
        break
    assert llm.open == 0


async def test_an_event_loop_is_not_held_up_by_rows_that_are_stored(tmp_path):
    async for _ in run_batch(AsyncScriptedLLM("ok"), map(str, range(20_000)), tmp_path / "out"):
        pass
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    async for _ in run_batch(AsyncScriptedLLM("ok"), map(str, range(20_000)), tmp_path / "out"):
        raise AssertionError("a row ran again")
    counting.cancel()
    assert turns > 10


async def test_cancelling_stops_the_calls(tmp_path):
    llm = AsyncScriptedLLM(lambda request: "ok" if request.prompt == "0" else ["a", 3600.0])
    arrived = asyncio.Event()

    async def main():
        async for _ in run_batch(llm, map(str, range(50)), tmp_path / "out", max_concurrency=4):
            arrived.set()

    task = asyncio.ensure_future(main())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert llm.open == 0
    assert len(stored(tmp_path / "out")) == 1


def test_the_error_of_the_input_comes_after_the_rows_before_it(results_of, tmp_path):
    def rows():
        yield from map(str, range(5))
        raise ValueError("the cable is loose")

    with pytest.raises(ValueError, match="the cable is loose"):
        results_of(echo, rows(), tmp_path / "out")
    assert len(stored(tmp_path / "out")) == 5


def test_a_changed_row_ends_the_job(results_of, tmp_path):
    results_of(echo, ["a", "b"], tmp_path / "out")
    with pytest.raises(ConfigError, match="row 1: its content has changed"):
        results_of(echo, ["a", "c"], tmp_path / "out")


def test_a_repeated_id_is_left_out_and_counted(results_of, tmp_path):
    rows = [{"id": "a", "prompt": "1"}, {"id": "a", "prompt": "2"}, {"id": "b", "prompt": "3"}]
    found, summary = results_of(echo, rows, tmp_path / "out")
    assert {result.row.id for result in found} == {"a", "b"}
    assert summary.repeated == 1


def test_rows_are_read_as_they_are_needed(results_of):
    read = []

    def rows():
        for number in range(100_000):
            read.append(number)
            yield str(number)

    def stop(run, result):
        run.stop()

    results_of(echo, rows(), None, stop, max_concurrency=2)
    assert len(read) < 5000


def test_openai_form(results_of, tmp_path):
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    rows = [{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}, "p"]
    results_of("ok", rows, tmp_path / "out", output_format="openai")
    first, second = sorted(stored(tmp_path / "out"), key=lambda row: row["row"])
    assert first["custom_id"] == "a"
    assert first["error"] is None
    answer = first["response"]["body"]["choices"][0]
    assert answer["message"] == {"role": "assistant", "content": "ok"}
    assert answer["finish_reason"] == "stop"
    assert second["custom_id"] == "row-1"
    assert results_of("ok", rows, tmp_path / "out", output_format="openai")[0] == []  # all are known


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_format": "xml"}, "output_format='xml': allowed is 'lagent_llms' or 'openai'"),
        ({"max_failures": "many"}, "max_failures='many': allowed is a number of rows, or a percentage"),
        ({"max_failures": -1}, "max_failures=-1"),
        ({"max_failures": 0.5}, "max_failures=0.5"),
        ({"max_concurrency": 0}, "max_concurrency=0: allowed is an integer of 1 or more, or 'auto'"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(tmp_path, options, message):
    llm = ScriptedLLM()
    with pytest.raises(InvalidArgument, match=message):
        run_batch(llm, ["a"], tmp_path / "out", **options)
    assert llm.requests == []
    run_batch(llm, ["a"], tmp_path / "out").close()  # the output is free


def test_results_that_wait_are_bounded(tmp_path):
    """A consumer that takes its time holds the calls back, not the memory."""
    llm = ScriptedLLM()
    for result in run_batch(llm, map(str, range(50_000)), None, max_concurrency=4):
        if result.row.position < 1000:
            time.sleep(0)
        assert len(llm.requests) < 25_000
        if result.row.position > 2000:
            break


def test_the_first_failure_and_the_retried_rows_are_told(results_of):
    def fail(request):
        return [ServerError("no", status_code=400)] if request.prompt in "35" else "ok"

    _, summary = results_of(fail, map(str, range(8)), max_concurrency=1)
    assert summary.first_failure == "row 3: no"
    assert (summary.failed, summary.retried) == (2, 0)
    assert {"first_failure", "retried"} <= summary.as_dict().keys()


def test_a_rate_is_checked(tmp_path):
    with pytest.raises(InvalidArgument, match="max_per_second=0: allowed is None or a number above 0"):
        run_batch(ScriptedLLM(), ["x"], tmp_path / "out", max_per_second=0)
    assert not (tmp_path / "out").exists()
