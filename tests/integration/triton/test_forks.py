"""Forks over one inherited gRPC client."""

import os
import subprocess
import sys

import pytest

from tests.triton_peer import ROOT

# Workers are forked while the parent's client is warm: the asynchronous one on a loop that stays open. The
# synchronous parent also has a stream in progress, which another thread reads.
CODE = """
import asyncio, os, signal, sys, threading
from lagent_llms import AsyncTritonClient, TritonClient

kind, address, leave = sys.argv[1:]
given = (address, "trtllm-scripted")
if kind == "sync":
    llm = TritonClient(*given, max_retries=0)
    ask = parent = llm.generate
    stream, texts = llm.stream_generate("[[tokens 40]] [[slow 0.05]]"), []
    next(stream)
    reader = threading.Thread(target=lambda: texts.extend(chunk.text for chunk in stream))
else:
    llm, loop = AsyncTritonClient(*given, max_retries=0), asyncio.new_event_loop()
    ask = lambda prompt: asyncio.run(llm.generate(prompt))
    parent = lambda prompt: loop.run_until_complete(llm.generate(prompt))
assert parent("[[say warm]]") == "warm"
if kind == "sync":
    reader.start()

def child(worker):
    signal.alarm(100)
    questions = [f"q{worker}-{number}" for number in range(15)]
    answers = [ask(f"[[say {question}]]") for question in questions]
    return sum(answer == question for answer, question in zip(answers, questions))

pids = []
for worker in range(16):
    pid = os.fork()
    if not pid:
        status = child(worker)
        sys.exit(status) if leave == "exit" else os._exit(status)
    pids.append(pid)
right = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
if kind == "sync":
    reader.join()
    assert texts[-1] == "".join(f"t{n} " for n in range(40)), texts
assert parent("[[say parent]]") == "parent"
print(right, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("leave", ["_exit", "exit"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_forked_workers_get_their_own_answers(peer, kind, leave):
    """With 'exit', the children free their copies of the parent's channel; that must not reach the server."""
    command = [sys.executable, "-c", CODE, kind, peer.grpc, leave]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout == "240\n", done.stderr


# Children are forked while a task of the parent reads a stream; later ones must not get events of the others.
STREAM = """
import asyncio, os, signal, sys
from lagent_llms import AsyncTritonClient, TritonClient

given = (sys.argv[1], "trtllm-scripted")
llm, sync = AsyncTritonClient(*given, max_retries=0), TritonClient(*given, max_retries=0)
assert "GRPC_POLL_STRATEGY" not in os.environ

def child(worker):
    signal.alarm(100)
    questions = [f"q{worker}-{number}" for number in range(10)]
    return sum(sync.generate(f"[[say {question}]]") == question for question in questions)

async def main():
    stream = llm.stream_generate("[[tokens 60]] [[slow 0.02]]")
    texts, pids = [(await anext(stream)).text], []
    async for chunk in stream:
        texts.append(chunk.text)
        if len(pids) < 16:
            if not (pid := os.fork()):
                os._exit(child(len(pids)))
            pids.append(pid)
    assert texts[-1] == "".join(f"t{n} " for n in range(60)), texts
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

print(asyncio.run(main()), "GRPC_POLL_STRATEGY" in os.environ, flush=True)
os._exit(0)
"""


def test_forked_during_an_asynchronous_stream(peer):
    command = [sys.executable, "-c", STREAM, peer.grpc]
    clean = {name: value for name, value in os.environ.items() if name != "GRPC_POLL_STRATEGY"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200, env=clean
    )
    assert done.stdout == f"{[10] * 16} False\n", done.stderr


# The parent leaves cycles with objects of grpc.aio; the children collect their garbage.
GARBAGE = """
import asyncio, gc, os, signal, sys
from lagent_llms import AsyncTritonClient, TritonClient

given = (sys.argv[1], "trtllm-scripted")
gc.disable()

async def use():
    llm = AsyncTritonClient(*given)
    stream = llm.stream_generate("[[tokens 50]]")
    await anext(stream)
    hanging = asyncio.create_task(llm.generate("[[tokens 5]] [[hang 2]]"))
    await asyncio.sleep(0.2)
    hanging.cancel()
    return await llm.generate("[[say a]]")

for _ in range(5):
    asyncio.run(use())
llm = TritonClient(*given)
assert llm.generate("[[say b]]") == "b"
statuses = []
for worker in range(8):
    if not (pid := os.fork()):
        signal.alarm(20)
        gc.collect()
        os._exit(llm.generate(f"[[say c{worker}]]") != f"c{worker}")
    statuses.append(os.waitpid(pid, 0)[1])
print(statuses, llm.generate("[[say d]]"), flush=True)
os._exit(0)
"""


def test_children_collect_their_garbage(peer):
    command = [sys.executable, "-c", GARBAGE, peer.grpc]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout == "[0, 0, 0, 0, 0, 0, 0, 0] d\n", done.stderr
