"""`lagent-llms serve` against `transformers serve`, both on the embedded model with the same HTTP requests.

At each concurrency every client sends one request after another, streamed and greedy, half of them with short
and half with longer answers: two warm-up rounds, then the measured one. The servers run one after the other.
Tokens are counted in the received text with the model's tokenizer. Then our server answers 10,000 requests
while its memory is recorded.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from tokenizers import Tokenizer

from benchmarks import report

NAME = "serving"
ROOT = Path(__file__).parent.parent
MODEL = ROOT / "lagent_llms" / "models" / "embedded"
CONCURRENCY = {1: 8, 8: 32, 32: 64, 128: 128}  # concurrent clients -> total requests
QUESTIONS = ("What is the capital of France?", "Count from 1 to 20.")
OURS, THEIRS, BATCHING = "lagent-llms serve", "transformers serve", "transformers serve, batching"


@contextmanager
def process(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a server; terminate it at the end."""
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()


@contextmanager
def ours() -> Iterator[tuple[str, str, int]]:
    """Run our server; yield URL, model name and process id."""
    code = "from lagent_llms.cli import main; main()"
    room = ("--set", "max_slots=128", "--set", "max_len=512")
    command = [sys.executable, "-c", code, "serve", "--port", "0", *room]
    with process(*command) as child:
        assert child.stdout is not None
        yield child.stdout.readline().split()[2], "embedded", child.pid


@contextmanager
def theirs(*flags: str) -> Iterator[tuple[str, str, int]]:
    """Run transformers' server; yield URL, model name and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = ROOT / ".venv-transformers" / "bin" / "transformers"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"  # more threads slow down so small a model
    with process(program, "serve", MODEL, "--port", str(port), "--device", "cpu", *flags) as child:
        url = f"http://127.0.0.1:{port}"
        asyncio.run(_until_healthy(url))
        yield url, str(MODEL), child.pid


SERVERS = {OURS: ours, THEIRS: theirs, BATCHING: lambda: theirs("--continuous-batching")}


async def _until_healthy(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            try:
                async with session.get(f"{url}/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


async def ask(session: aiohttp.ClientSession, url: str, model: str, question: str) -> tuple[float, str]:
    """Send one request; return the seconds to the first text, and the answer."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 256,
        "stream": True,
    }
    began, first, words = time.perf_counter(), 0.0, []
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            choices = json.loads(line[6:]).get("choices")
            if choices and (text := choices[0]["delta"].get("content")):
                first = first or time.perf_counter() - began
                words.append(text)
    return first, "".join(words).removesuffix("<|im_end|>")


async def load(url: str, model: str, clients: int, count: int) -> list[tuple[float, str]]:
    """Send `count` requests with `clients` concurrent clients."""
    left = iter(range(count))
    found = []

    async def client(session: aiohttp.ClientSession) -> None:
        for number in left:
            found.append(await ask(session, url, model, QUESTIONS[number % len(QUESTIONS)]))

    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return found


def measured(url: str, model: str, clients: int, count: int) -> dict[str, Any]:
    """Return tokens per second and times to the first token of one load."""
    for _ in range(2):  # warm-up: compiles, fills caches
        asyncio.run(load(url, model, clients, count))
    began = time.perf_counter()
    found = asyncio.run(load(url, model, clients, count))
    seconds = time.perf_counter() - began
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    firsts = sorted(first for first, _ in found)
    return {
        "tokens_per_second": sum(len(tokenizer.encode(text).ids) for _, text in found) / seconds,
        "first_p50": statistics.median(firsts),
        "first_p99": firsts[int(0.99 * (len(firsts) - 1))],
        "answers": sorted({text for _, text in found}),
    }


def memory(requests: int) -> list[int]:
    """Return the memory (bytes) of our server after each tenth of the requests."""
    found = []
    with ours() as (url, model, pid):
        asyncio.run(load(url, model, 32, 200))
        for _ in range(11):
            found.append(psutil.Process(pid).memory_info().rss)
            asyncio.run(short(url, model, requests // 10))
    return found


async def short(url: str, model: str, count: int) -> None:
    """Send requests with short answers, 32 at once."""
    gate = asyncio.Semaphore(32)

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with gate:
            await ask(session, url, model, f"What is {number % 10} + {number // 10 % 10}?")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session, number) for number in range(count)))


def measure(quick: bool) -> dict[str, Any]:
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "transformers"], check=True)
    with ours() as (url, model, _):  # not measured: the first start fills the cache of compiled graphs
        for clients, count in CONCURRENCY.items():
            asyncio.run(load(url, model, clients, count))
    found: dict[str, dict[str, Any]] = {str(clients): {} for clients in CONCURRENCY}
    for name, server in SERVERS.items():
        with server() as (url, model, _):
            for clients, count in CONCURRENCY.items():
                asked = max(clients, count // 2) if quick else count
                found[str(clients)][name] = row = measured(url, model, clients, asked)
                print(f"{name}, {clients} at once: {row['tokens_per_second']:.0f} tokens/s", flush=True)
    return {"load": found, "memory": memory(1000 if quick else 10_000)}


def tables(figures: dict[str, Any]) -> str:
    rows = []
    for clients, servers in figures["load"].items():
        for name, row in servers.items():
            ratio = servers[OURS]["tokens_per_second"] / row["tokens_per_second"]
            rows.append(
                (
                    clients,
                    name,
                    f"{row['tokens_per_second']:.0f}",
                    "" if name == OURS else f"{ratio:.1f}x",
                    f"{1000 * row['first_p50']:.0f}",
                    f"{1000 * row['first_p99']:.0f}",
                )
            )
    head = ("clients", "server", "tokens/s", "ours is", "first token p50, ms", "p99, ms")
    sizes = [f"{size / (1 << 20):.0f}" for size in figures["memory"]]
    return f"{report.table(head, rows)}\n\nMemory of ours over 10,000 requests, MiB: {', '.join(sizes)}."


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables, packages=("jax", "fastapi", "uvicorn"))
