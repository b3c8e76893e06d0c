"""The memory of one batch job of many short rows on a backend that answers at once, for `benchmarks.batch`.

    python -m benchmarks.batch_memory ROWS FILE

Prints the most MB after each tenth of the rows (and after the first 10,000), and the CPU seconds, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

from lagent_llms import AsyncBaseLLM, Piece, run_batch
from lagent_llms.core.request import Request


class Answer:
    async def __anext__(self) -> Piece:
        return Piece("a short answer", finish_reason="stop")

    def close(self) -> None:
        pass


class AtOnce(AsyncBaseLLM):
    """A backend that answers each prompt with the same text."""

    async def _open(self, request: Request) -> Any:
        return Answer()

    async def _tokenize(self, text: str) -> list[int]:
        return []


async def main(rows: int, file: str) -> None:
    most = {}
    began = time.process_time()
    done = 0
    async for _ in run_batch(AtOnce(), (f"short prompt {number}" for number in range(rows)), file):
        done += 1
        if done == min(rows, 10_000) or done % (rows // 10) == 0:
            most[done] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"mb": most, "cpu": time.process_time() - began}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
