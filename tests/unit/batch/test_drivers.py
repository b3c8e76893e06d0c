"""A batch at a server that is overloaded loses no row: fewer calls at once, and the retries of a batch."""

from lagent_llms import AsyncBaseLLM, RateLimited, RetryPolicy, run_batch
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

PLACES = 3
ROWS = 60


def busy(kind):
    """A model with `PLACES` places that refuses further calls."""

    def answer(request):
        if llm.open > PLACES:
            return [0.01, RateLimited("no place", status_code=429)]
        return [0.01, f"{request.prompt}!"]

    llm = kind(answer, retry=RetryPolicy(base=0.001, max_backoff=0.01))
    return llm


async def results_of(llm, output):
    run = run_batch(llm, map(str, range(ROWS)), output, max_concurrency=24)
    if isinstance(llm, AsyncBaseLLM):
        return [result async for result in run], run.summary
    return list(run), run.summary


async def check(llm, output):
    results, summary = await results_of(llm, output)
    assert {result.row.position: result.completion.text for result in results} == {
        number: f"{number}!" for number in range(ROWS)
    }
    assert (summary.rows, summary.failed) == (ROWS, 0)
    assert len(llm.requests) > ROWS  # the server did refuse some
    assert 0 < summary.retried <= ROWS


async def check_auto(kind, output):
    """Without a number, the places are found, and workers start as they are needed."""
    llm = kind(lambda request: [0.005, f"{request.prompt}!"])
    run = run_batch(llm, map(str, range(ROWS)), output)
    found = [result async for result in run] if isinstance(llm, AsyncBaseLLM) else list(run)
    assert len(found) == ROWS
    assert len(run._crew.workers) <= llm.found_concurrency[0].limit * 4 + 2


async def test_auto_sync(tmp_path):
    await check_auto(ScriptedLLM, tmp_path / "out")


async def test_auto_async(tmp_path):
    await check_auto(AsyncScriptedLLM, tmp_path / "out")


async def test_sync(tmp_path):
    await check(busy(ScriptedLLM), tmp_path / "out")


async def test_async(tmp_path):
    await check(busy(AsyncScriptedLLM), tmp_path / "out")
