"""Forks: 16 workers over one inherited client; what the parent has open stays the parent's."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests

from lagent_llms import (
    AsyncJAXClient,
    AsyncLMDeployClient,
    AsyncLoRAX,
    AsyncTritonClient,
    JAXClient,
    LLMError,
    LMDeployClient,
    LoRAX,
    SessionBusy,
    SessionClosed,
    TritonClient,
    forks,
)
from lagent_llms.core.llm import LLMCore
from lagent_llms.http.endpoints import Endpoints
from lagent_llms.locks import DeferredLock, locked_cached_property
from lagent_llms.lorax import AsyncClient, Client
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM
from tests.scripted_server import ScriptedServer

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

WORKERS, QUESTIONS = 16, 15


def fork(work):
    """Run `work` in a forked child; return its process id. The exit status is 0 if `work` returns True."""
    if pid := os.fork():
        return pid
    signal.alarm(60)
    status = 1
    try:
        status = 0 if work() is True else 2
    except BaseException as error:
        os.write(2, f"in the child: {type(error).__name__}: {error}\n".encode())
    os._exit(status)


def ended(*pids):
    return [os.waitpid(pid, 0)[1] for pid in pids]


def text_of(result):
    return getattr(result, "generated_text", result)


def ask(llm, prompt, **kwargs):
    answer = llm.generate(prompt, **kwargs)
    if asyncio.iscoroutine(answer):
        answer = asyncio.run(as_coroutine(answer))
    return text_of(answer)


async def as_coroutine(awaitable):
    return await awaitable


def echo(connection):
    """Answer with the prompt, in the form of each route."""
    if connection.method == "GET" or connection.path.endswith("/config"):
        connection.json(json.loads(TRITON_CONFIG) if "/v2/" in connection.path else {"max_stop_sequences": 4})
        return
    if connection.path.endswith("/index"):
        connection.json([{"name": "m", "state": "READY"}])
        return
    body = connection.body
    prompt = body.get("prompt") or body.get("inputs") or body.get("text_input")
    if isinstance(prompt, list):
        prompt = prompt[0]
    time.sleep(0.003)  # so that workers are in flight together
    if "inputs" in body:
        token = {"id": 1, "text": prompt, "logprob": 0, "special": False}
        details = {"finish_reason": "length", "generated_tokens": 1, "prefill": [], "tokens": [token]}
        connection.json({"generated_text": prompt, "details": details})
    elif "text_input" in body:
        connection.json({"text_output": prompt, "model_name": "m"})
    else:
        connection.json({"choices": [{"text": prompt, "finish_reason": "stop"}]})


TRITON_CONFIG = json.dumps(
    {
        "name": "m",
        "backend": "vllm",
        "input": [
            {"name": name, "data_type": "TYPE_STRING", "dims": [1]}
            for name in ("text_input", "sampling_parameters")
        ],
        "output": [{"name": "text_output", "data_type": "TYPE_STRING", "dims": [-1]}],
    }
)
KINDS = {
    "LMDeployClient": lambda url: LMDeployClient(url, "m", max_retries=0),
    "AsyncLMDeployClient": lambda url: AsyncLMDeployClient(url, "m", max_retries=0),
    "LMDeployClient, session": lambda url: LMDeployClient(
        url, "m", max_retries=0, session=requests.Session()
    ),
    "JAXClient": lambda url: JAXClient(url, "m", max_retries=0),
    "AsyncJAXClient": lambda url: AsyncJAXClient(url, "m", max_retries=0),
    "LoRAX": lambda url: LoRAX(url, max_retries=0),
    "AsyncLoRAX": lambda url: AsyncLoRAX(url, max_retries=0),
    "lorax.Client": lambda url: Client(url, max_session_retries=0),
    "lorax.AsyncClient": lambda url: AsyncClient(url, max_session_retries=0),
    "lorax.Client, session": lambda url: Client(url, max_session_retries=0, session=requests.Session()),
    "TritonClient over HTTP": lambda url: TritonClient(url, "m", max_retries=0, echo=False),
    "AsyncTritonClient over HTTP": lambda url: AsyncTritonClient(url, "m", max_retries=0, echo=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_forked_workers_get_their_own_answers(kind):
    """An asynchronous client is warm on a loop that stays open, as that of a running application."""
    options = {} if "lorax." in kind else {"stream": False}
    with ScriptedServer(echo) as server, contextlib.closing(asyncio.new_event_loop()) as loop:
        llm = KINDS[kind](server.url)
        warm = llm.generate("warm", **options)
        assert text_of(loop.run_until_complete(warm) if asyncio.iscoroutine(warm) else warm) == "warm"

        def work(worker):
            prompts = [f"question {worker}-{number}" for number in range(QUESTIONS)]
            return [ask(llm, prompt, **options) for prompt in prompts] == prompts

        pids = [fork(partial(work, worker)) for worker in range(WORKERS)]
        assert ended(*pids) == [0] * WORKERS
        again = llm.generate("again", **options)
        assert text_of(loop.run_until_complete(again) if asyncio.iscoroutine(again) else again) == "again"
        if hasattr(llm, "aclose"):
            loop.run_until_complete(llm.aclose())
        else:
            llm.close()


# Streams in progress. The server sends the rest once it is asked for "resume".

ANSWER = ["a", "b", "c"]


class HeldServer(ScriptedServer):
    """Answers "held" with a first piece, and the rest once it was asked for "resume"."""

    def __init__(self):
        super().__init__(self.answer)
        self.resumed, self.left = threading.Event(), threading.Event()

    def answer(self, connection):
        prompt = connection.body.get("prompt", connection.body.get("inputs"))
        if prompt == "leave":
            connection.head()
            self.piece(connection, "a")
            if connection.wait_gone(60):
                self.left.set()
        elif prompt == "held":
            connection.head()
            self.piece(connection, "a")
            assert self.resumed.wait(60)
            self.piece(connection, "b")
            self.piece(connection, "c", last=True)
            if connection.path == "/v1/completions":
                connection.event("[DONE]")
            connection.chunk()
        else:
            self.resumed.set()
            connection.answer("resumed")

    @staticmethod
    def piece(connection, text, last=False):
        if connection.path == "/v1/completions":
            connection.text(text, "stop" if last else None)
            return
        end = (
            {"finish_reason": "length", "generated_tokens": 3, "prefill": [], "tokens": []} if last else None
        )
        token = {"id": 1, "text": text, "logprob": 0, "special": False}
        whole = "abc" if last else None
        connection.event(json.dumps({"token": token, "generated_text": whole, "details": end}))


STREAMS = {
    "sync": lambda url: LMDeployClient(url, "m").stream_generate,
    "session": lambda url: LMDeployClient(url, "m", session=requests.Session()).stream_generate,
    "async": lambda url: AsyncLMDeployClient(url, "m").stream_generate,
    "lorax.Client": lambda url: Client(url).generate_stream,
    "lorax.AsyncClient": lambda url: AsyncClient(url).generate_stream,
}


class Steps:
    """Steps of a synchronous or asynchronous stream, the latter on a loop of its own."""

    def __init__(self, stream):
        self.stream = stream
        self.loop = asyncio.new_event_loop() if hasattr(stream, "__anext__") else None

    def __next__(self):
        if self.loop is None:
            return self.text(next(self.stream))
        return self.text(self.loop.run_until_complete(as_coroutine(self.stream.__anext__())))

    @staticmethod
    def text(item):
        return item.delta if hasattr(item, "delta") else item.token.text

    def rest(self):
        pieces = []
        with contextlib.suppress(StopIteration, StopAsyncIteration):
            while True:
                pieces.append(next(self))
        return "".join(pieces)

    def close(self):
        self.stream.close()
        if self.loop is not None:
            self.loop.run_until_complete(asyncio.sleep(0.01))
            self.loop.close()


@pytest.mark.parametrize("kind", STREAMS)
def test_a_child_neither_reads_nor_ends_the_stream_of_its_parent(kind):
    with HeldServer() as server:
        steps = Steps(STREAMS[kind](server.url)("held"))
        assert next(steps) == "a"

        def use():
            with pytest.raises(LLMError, match="before this process was forked.*start a new one"):
                next(steps)
            steps.stream.close()
            return ask(LMDeployClient(server.url, "m"), "resume") == "resumed"

        assert ended(fork(use)) == [0]
        assert steps.rest() == "bc"
        steps.close()


@pytest.mark.parametrize("kind", STREAMS)
def test_leaving_a_stream_ends_it_while_a_child_lives(kind):
    """The child's copy of the socket must not keep the connection open."""
    with HeldServer() as server:
        steps = Steps(STREAMS[kind](server.url)("leave"))
        assert next(steps) == "a"
        pid = fork(lambda: time.sleep(300))
        try:
            steps.close()
            assert server.left.wait(30)
        finally:
            os.kill(pid, signal.SIGKILL)
            ended(pid)


def test_a_stream_that_has_not_begun_belongs_to_whoever_begins_it():
    with HeldServer() as server, LMDeployClient(server.url, "m") as llm:
        stream = llm.stream_generate("resume")
        assert ended(fork(lambda: [chunk.text for chunk in stream][-1] == "resumed")) == [0]
        assert [chunk.text for chunk in stream][-1] == "resumed"


def test_a_child_of_a_child():
    with ScriptedServer(echo) as server, LMDeployClient(server.url, "m", stream=False) as llm:
        assert llm.generate("warm") == "warm"

        def child():
            assert llm.generate("child") == "child"
            return ended(fork(lambda: llm.generate("grandchild") == "grandchild")) == [0]

        assert ended(fork(child)) == [0]
        assert llm.generate("parent") == "parent"
        assert server.connections == 3


# What is not a connection: sessions, locks, models of the process


def test_turns_that_run_in_the_parent_have_not_begun_in_the_child():
    with ScriptedLLM(["a", "b"]) as llm:
        llm.generate("x", session_id=1, sequence_start=True, sequence_end=False)
        running = llm.stream_generate("y", session_id=1, sequence_start=False, sequence_end=False)
        first = llm.stream_generate("z", session_id=2, sequence_start=True, sequence_end=False)
        next(running), next(first)

        def child():
            first.close()
            llm.generate("y", session_id=1, sequence_start=False, sequence_end=False)
            with pytest.raises(SessionClosed):
                llm.generate("z", session_id=2, sequence_start=False)
            return True

        assert ended(fork(child)) == [0]
        with pytest.raises(SessionBusy):
            llm.generate("y", session_id=1, sequence_start=False)
        assert [running.text, first.text] == ["a", "a"]


def test_a_lock_that_another_thread_holds_during_the_fork():
    lock, endpoints = DeferredLock(), Endpoints(["http://a"])
    with lock, endpoints._lock:

        def child():
            with lock:
                return endpoints.take() == "http://a"

        assert ended(fork(child)) == [0]


def test_a_fork_waits_for_an_attribute_that_another_thread_makes():
    begun = threading.Event()

    class Owner:
        @locked_cached_property
        def made(self):
            begun.set()
            time.sleep(0.3)
            return object()

    owner = Owner()
    thread = threading.Thread(target=lambda: owner.made)
    thread.start()
    assert begun.wait(60)
    assert ended(fork(lambda: "made" in vars(owner))) == [0]
    thread.join()


# A thread makes the first call of the process, and is importing a module when the process forks.
IMPORTING = """
import os, signal, sys, threading, time
import lagent_llms

kind, url, module = sys.argv[1:]
llm = getattr(lagent_llms, kind)(url, *(["m"] if kind == "LMDeployClient" else []), max_retries=0)
reached = threading.Event()

class Slow:
    def find_spec(self, name, *rest):
        if name == module and threading.current_thread() is thread:
            reached.set()
            time.sleep(0.5)

thread = threading.Thread(target=llm.chat, args=("x",))
sys.meta_path.insert(0, Slow())
thread.start()
assert reached.wait(60)
if not (child := os.fork()):
    signal.alarm(20)
    os._exit(llm.chat("y") != "a")
print(os.waitpid(child, 0)[1], flush=True)
thread.join()
"""


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("LMDeployClient", "lagent_llms.http.sync_client"),
        ("LMDeployClient", "lagent_llms.backends.lmdeploy.protocol"),
        ("LMDeployClient", "encodings.idna"),
        ("JAXClient", "lagent_llms.backends.jax.protocol"),
        ("LoRAX", "lagent_llms.backends.lorax.protocol"),
    ],
)
def test_a_fork_waits_for_the_imports_of_a_first_call(kind, module):
    def answer(connection):
        message = {"role": "assistant", "content": "a"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        connection.json({"choices": [choice], "data": [{"id": "m"}]})

    with ScriptedServer(answer) as server:
        command = [sys.executable, "-W", "ignore", "-c", IMPORTING, kind, server.url, module]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_threads_make_an_attribute_once():
    class Owner:
        @locked_cached_property
        def made(self):
            time.sleep(0.01)
            return object()

    owner = Owner()
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: owner.made, range(8)))) == 1


class InProcess:
    in_process = True
    freed = False

    def _free(self):
        InProcess.freed = True


class LocalLLM(InProcess, ScriptedLLM):
    pass


class AsyncLocalLLM(InProcess, AsyncScriptedLLM):
    async def _free(self):
        InProcess.freed = True


@pytest.mark.parametrize("cls", [LocalLLM, AsyncLocalLLM])
def test_a_model_of_the_parent_process_is_refused_at_once(cls):
    llm: LLMCore = cls()

    def child():
        for call in (ask, lambda llm, prompt: as_run(llm.tokenize(prompt))):
            with pytest.raises(LLMError, match="before this process was forked.*get_context.'spawn'"):
                call(llm, "x")
        as_run(llm.aclose() if hasattr(llm, "aclose") else llm.close())
        return not InProcess.freed

    assert ended(fork(child)) == [0]
    assert ask(llm, "x") == "ok"


def as_run(result):
    return asyncio.run(as_coroutine(result)) if asyncio.iscoroutine(result) else result


def test_the_copy_of_a_socket_is_closed_without_freeing_its_number():
    left, right = socket.socketpair()
    number = left.fileno()
    copy = left.dup()
    forks.close_inherited(left)
    copy.close()
    assert right.recv(1) == b""
    assert left.fileno() == number
    os.fstat(number)
    left.close()
    right.close()
    forks.close_inherited(None)
    forks.close_inherited(left)
