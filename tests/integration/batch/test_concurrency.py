"""Batches that find the number of calls at once, at real servers with a few slots."""

import time

import pytest

from lagent_llms import AsyncLMDeployClient, LMDeployClient, RetryPolicy, run_batch

from .server import Slots, serving

CLIENT = {"model_name": "m", "stream": False, "retry": RetryPolicy(base=0.01, max_backoff=0.05)}
DELAY = 0.03


async def finished(asynchronous, url, rows, **options):
    """Run a batch of `rows` rows; return its answers and its summary."""
    prompts = (str(number) for number in range(rows))
    if asynchronous:
        async with AsyncLMDeployClient(url, **CLIENT) as llm, run_batch(llm, prompts, **options) as run:
            answers = {result.row.position: result.completion async for result in run}
    else:
        with LMDeployClient(url, **CLIENT) as llm, run_batch(llm, prompts, **options) as run:
            answers = {result.row.position: result.completion for result in run}
    return answers, run.summary


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("refuses", [False, True], ids=["queues", "refuses"])
@pytest.mark.parametrize("count", [1, 12])
async def test_every_row_is_answered_and_the_slots_are_filled(count, refuses, asynchronous):
    slots = Slots(count, DELAY, refuses=refuses)
    rows = 60 * count
    with serving(slots) as url:
        answers, summary = await finished(asynchronous, url, rows)
    assert {number: answer.text for number, answer in answers.items()} == {
        number: f"answer to {number}" for number in range(rows)
    }
    assert (summary.rows, summary.failed) == (rows, 0)
    assert slots.most >= count * 0.75
    assert slots.most <= 4 * count  # it was measured while it grew
    assert (summary.retried > 0) == (slots.refused > 0)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_each_server_gets_what_it_can_answer(asynchronous):
    small, large = Slots(1, DELAY, refuses=True), Slots(12, DELAY, refuses=True)
    with serving(small) as one, serving(large) as other:
        answers, summary = await finished(asynchronous, [one, other], 600)
    assert (len(answers), summary.failed) == (600, 0)
    assert large.served > 3 * small.served
    assert small.refused < small.served


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_a_list_of_prompts_begins_low_and_the_next_one_with_what_was_found(asynchronous):
    slots = Slots(8, DELAY)
    with serving(slots) as url:
        if asynchronous:
            async with AsyncLMDeployClient(url, **CLIENT) as llm:
                first = await llm.generate([str(number) for number in range(200)])
                found, slots.most = llm.found_concurrency[0].limit, 0
                await llm.generate(["x"] * 8)
        else:
            with LMDeployClient(url, **CLIENT) as llm:
                first = llm.generate([str(number) for number in range(200)])
                found, slots.most = llm.found_concurrency[0].limit, 0
                llm.generate(["x"] * 8)
    assert first == [f"answer to {number}" for number in range(200)]
    assert found > 2
    assert slots.most >= min(8, found // 2)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_a_rate_holds_across_all_calls(asynchronous):
    slots = Slots(100, 0.0)
    with serving(slots) as url:
        began = time.monotonic()
        _, summary = await finished(asynchronous, url, 30, max_per_second=50, max_concurrency=16)
    assert summary.failed == 0
    assert time.monotonic() - began >= 28 / 50
