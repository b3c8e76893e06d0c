"""Many concurrent streams on one channel, a long stream, several loops, threads and processes."""

import asyncio
import subprocess
import sys
import threading

import pytest

from lagent_llms import AsyncTritonClient, TritonClient
from lagent_llms.core import deadline_thread
from tests.triton_peer import ROOT, until

pytestmark = pytest.mark.alone

MANY = 500


async def test_500_streams_at_once_on_one_channel(peer, events):
    async with AsyncTritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=20, timeout=120) as llm:
        waiting = 0
        all_started = asyncio.Event()

        async def read(number):
            nonlocal waiting
            texts = []
            async for chunk in llm.stream_generate(f"[[say a{number} b{number} c{number}]]"):
                texts.append(chunk.delta)
                if len(texts) == 1:
                    waiting += 1
                    if waiting == MANY:
                        all_started.set()
                    await all_started.wait()  # until every stream is open
            return "".join(texts)

        texts = await asyncio.gather(*map(read, range(MANY)))
        assert texts == [f"a{n} b{n} c{n}" for n in range(MANY)]
    assert len(events("begin")) == MANY


async def test_500_streams_are_cancelled_together(peer, events):
    async with AsyncTritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=1000, timeout=120) as llm:
        tasks = [asyncio.create_task(llm.generate("[[tokens 9]] [[hang 1]]")) for _ in range(MANY)]
        await until(lambda: len(events("begin")) >= MANY, *tasks)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        await until(lambda: len(events("end")) >= MANY)
        assert {event["why"] for event in events("end")} == {"cancelled"}


async def test_one_client_serves_several_loops(peer):
    llm = AsyncTritonClient(peer.grpc, "trtllm-scripted")
    assert await llm.generate("[[say here]]") == "here"
    found = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(llm.generate("[[say there]]"))))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert found == ["there"]
    assert await llm.generate("[[say again]]") == "again"
    await llm.aclose()


def test_threads_share_one_client(peer):
    with TritonClient(peer.grpc, "trtllm-scripted", max_concurrency=50) as llm:
        prompts = [f"[[say n{number}]]" for number in range(200)]
        assert llm.generate(prompts) == [f"n{number}" for number in range(200)]


FORK = """
import os, sys
from lagent_llms import TritonClient

llm = TritonClient(sys.argv[1], "trtllm-scripted")
stream = llm.stream_generate("[[tokens 30]] [[slow 0.05]]")
first = next(stream).delta
child = os.fork()
if child == 0:
    answer = llm.generate("[[say child]]")
    llm.close()
    os._exit(0 if answer == "child" else 1)
status = os.waitpid(child, 0)[1]
print(status, first + "".join(chunk.delta for chunk in stream), llm.generate("[[say parent]]"))
llm.close()
"""


def test_a_fork_uses_a_channel_of_its_own(peer):
    command = [sys.executable, "-c", FORK, peer.grpc]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == f"0 {''.join(f't{n} ' for n in range(30))} parent\n", done.stderr


def test_a_long_answer(peer):
    words = 20_000
    with TritonClient(peer.grpc, "trtllm-scripted", max_new_tokens=words) as llm:
        *_, last = llm.stream_generate(f"[[tokens {words}]]")
        assert last.text == "".join(f"t{n} " for n in range(words))


def test_no_threads_are_left_running(peer, monkeypatch):
    """The client's threads end when it is closed; gRPC's own threads stay."""
    before = set(threading.enumerate())
    monkeypatch.setattr(deadline_thread, "_watch", deadline_thread._Watch())  # without earlier tests' timers
    with TritonClient(peer.grpc, "trtllm-scripted", timeout=0.5) as llm:
        assert llm.generate("[[say ok]]") == "ok"
        started = set(threading.enumerate()) - before
    for thread in started | set(threading.enumerate()) - before:
        if thread.name == "deadlines":  # it runs while a deadline is active
            thread.join(60)
            assert not thread.is_alive()
