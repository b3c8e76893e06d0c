"""One batch with one client, for `benchmarks.batch`; runs in the environment of the client.

    python -m benchmarks.batch_clients CLIENT URL ROWS CONCURRENCY

Prints the CPU and wall seconds of the batch, after a short one that opens the connections, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any


def messages(number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"prompt {number}"}]


def check(answer: str | None, number: int) -> None:
    assert answer == f"answer to prompt {number}", answer


async def openai(url: str, rows: int, concurrency: int) -> None:
    """`asyncio.gather` and a semaphore, as OpenAI's cookbook does; nothing is stored."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    gate = asyncio.Semaphore(concurrency)

    async def ask(number: int) -> None:
        async with gate:
            answer = await client.chat.completions.create(model="m", messages=messages(number))
            check(answer.choices[0].message.content, number)

    await asyncio.gather(*map(ask, range(concurrency)))
    with measured():
        await asyncio.gather(*map(ask, range(rows)))


async def litellm(url: str, rows: int, concurrency: int) -> None:
    """`batch_completion`, which uses threads; nothing is stored."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise the import downloads a price list
    from litellm import batch_completion

    def batch(count: int) -> None:
        answers = batch_completion(
            model="openai/m",
            messages=[messages(number) for number in range(count)],
            api_base=f"{url}/v1",
            api_key="none",
            max_workers=concurrency,
        )
        for number, answer in enumerate(answers):
            check(answer.choices[0].message.content, number)

    batch(concurrency)
    with measured():
        batch(rows)


async def ours(url: str, rows: int, concurrency: int, *, stores: bool = True) -> None:
    """`run_batch`, with or without an output."""
    from lagent_llms import AsyncLMDeployClient, run_batch

    def records(count: int) -> Iterator[dict[str, Any]]:
        return ({"messages": messages(number)} for number in range(count))

    with tempfile.TemporaryDirectory() as folder:
        async with AsyncLMDeployClient(url, "m", stream=False, max_concurrency=concurrency) as llm:
            async for _ in run_batch(llm, records(concurrency)):
                pass
            with measured():
                async for result in run_batch(llm, records(rows), f"{folder}/out" if stores else None):
                    assert result.completion is not None, result.error
                    check(result.completion.text, result.row.position)


async def ours_not_stored(url: str, rows: int, concurrency: int) -> None:
    await ours(url, rows, concurrency, stores=False)


async def ours_as_list(url: str, rows: int, concurrency: int) -> None:
    """`chat` of a list of dialogs."""
    from lagent_llms import AsyncLMDeployClient

    async with AsyncLMDeployClient(url, "m", stream=False, max_concurrency=concurrency) as llm:
        await llm.chat([messages(number) for number in range(concurrency)])
        with measured():
            for number, answer in enumerate(await llm.chat([messages(number) for number in range(rows)])):
                check(answer, number)


class measured:  # noqa: N801  (used as a function)
    """Print the CPU and wall seconds of a block."""

    def __enter__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        print(json.dumps({"cpu": cpu, "wall": wall}), flush=True)


CLIENTS = {
    "openai": openai,
    "litellm": litellm,
    "run_batch": ours,
    "run_batch, not stored": ours_not_stored,
    "chat(list)": ours_as_list,
}

if __name__ == "__main__":
    name, url, rows, concurrency = sys.argv[1:]
    asyncio.run(CLIENTS[name](url, int(rows), int(concurrency)))
