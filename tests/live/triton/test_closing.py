"""Who closes and who cancels, and when: what is told, and that nothing is sent after it."""

import asyncio
import sys

from lagent_llms import AsyncTritonClient

HANGS = "[[tokens 9]] [[hang 1]]"


async def test_a_cancellation_is_not_lost_when_the_stream_is_closed_too(peer):
    """Before Python 3.11 nobody can tell the one from the other."""
    went_on = []

    async def read(stream):
        async for _ in stream:
            pass
        went_on.append("read")
        await asyncio.sleep(0)
        went_on.append("and on")

    async with AsyncTritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=1000) as llm:
        stream = llm.stream_generate(HANGS)
        await stream.__anext__()
        task = asyncio.create_task(read(stream))
        await asyncio.sleep(0.1)
        task.cancel()
        stream.close()
        await asyncio.wait({task})
        assert task.cancelled() or sys.version_info < (3, 11)
        assert not went_on or sys.version_info < (3, 11)


async def test_closing_a_stream_that_is_read_ends_it(peer):
    async with AsyncTritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=1000) as llm:
        stream = llm.stream_generate(HANGS)
        assert (await stream.__anext__()).delta == "t0 "
        task = asyncio.create_task(stream.__anext__())
        await asyncio.sleep(0.1)
        stream.close()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, StopAsyncIteration)
