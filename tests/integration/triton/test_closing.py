"""Closing and cancelling at every moment of a call: what is raised, and that nothing is sent afterwards."""

import asyncio
import sys
import threading

import pytest

from lagent_llms import AsyncTritonClient, StreamInterrupted, TritonClient
from lagent_llms.backends.triton.discovery import LazyConversation
from lagent_llms.backends.triton.grpc_aio import _Channel as AsyncChannel
from lagent_llms.backends.triton.grpc_cancel import AsyncPendingCancels
from lagent_llms.backends.triton.grpc_sync import _Channel

HANGS = "[[tokens 9]] [[hang 1]]"


async def test_cancellation_is_raised_when_the_stream_is_closed_too(peer):
    """Before Python 3.11 a task cannot distinguish the two."""
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


async def test_close_ends_a_concurrent_read(peer):
    async with AsyncTritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=1000) as llm:
        stream = llm.stream_generate(HANGS)
        assert (await stream.__anext__()).delta == "t0 "
        task = asyncio.create_task(stream.__anext__())
        await asyncio.sleep(0.1)
        stream.close()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, StopAsyncIteration)


async def test_close_while_connecting_opens_no_stream(peer, monkeypatch):
    async with AsyncTritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=1000) as llm:
        stream = llm.stream_generate(HANGS)

        async def closing(self, command):
            stream.close()

        opened = []
        monkeypatch.setattr(AsyncPendingCancels, "wait", closing)
        monkeypatch.setattr(AsyncChannel, "stream", lambda self, message: opened.append(message))
        monkeypatch.setattr(LazyConversation, "server_session", 1)
        assert [chunk async for chunk in stream] == []
        assert opened == []


def test_close_during_backoff_stops_retries(peer, events, monkeypatch):
    """The model is busy; the caller closes while the client waits for its next attempt."""
    pausing = threading.Event()
    monkeypatch.setattr("lagent_llms.retry._uniform", lambda low, high: pausing.set() or 600.0)
    with TritonClient(peer.grpc, "trtllm-whole", max_retries=5) as llm:
        stream = llm.stream_generate("[[error 0 UNAVAILABLE]]")
        found = []
        reader = threading.Thread(target=lambda: found.extend(stream))
        reader.start()
        assert pausing.wait(30)
        stream.close()
        reader.join(30)
        assert not reader.is_alive()
    assert found == []
    assert len(events("begin")) == 1


def test_call_started_during_close_is_cancelled(peer, monkeypatch):
    """close() is called when the call has started and is not stored yet."""
    with TritonClient(peer.grpc, "trtllm-whole", max_retries=0) as llm:
        assert llm.dialect_found() == "trtllm"
        call, calls = _Channel.call, []
        stream = llm.stream_generate("[[first 3]]")

        def closing(self, *args):
            calls.append(call(self, *args))
            stream.close()
            return calls[-1]

        monkeypatch.setattr(_Channel, "call", closing)
        assert list(stream) == []
        assert calls[0].cancelled()


async def test_closing_the_channel_interrupts_async_streams(peer):
    """A closed call raises CancelledError in grpc.aio, as if the reading task had been cancelled."""
    async with AsyncTritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=1000) as llm:
        stream = llm.stream_generate(HANGS)
        await stream.__anext__()
        task = asyncio.create_task(stream.__anext__())
        await asyncio.sleep(0.1)
        await llm.transport.aclose()
        with pytest.raises(StreamInterrupted, match="is closed"):
            await task


def test_closing_the_channel_interrupts_reading_threads(peer):
    with TritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=1000) as llm:
        stream = llm.stream_generate(HANGS)
        next(stream)
        threading.Timer(0.3, llm.transport.close).start()
        with pytest.raises(StreamInterrupted):
            next(stream)


def test_a_closed_channel_opens_no_stream(peer):
    with TritonClient(peer.grpc, "trtllm-scripted", max_retries=0) as llm:
        assert llm.dialect_found() == "trtllm"
        llm.transport.close()
        with pytest.raises(StreamInterrupted, match="is closed"):
            llm.generate("hi")
