"""GET /health of `lagent-llms serve` while two clients send it requests of up to 4 MB, one after the other.

The server runs the embedded model. Each row is one kind of request, sent for some seconds; "time" is the
median time to its response. The first row is without other requests.
"""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from benchmarks import report
from benchmarks.serving import ours

NAME = "large_requests"
CLIENTS = 2
MESSAGES = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f"}}
CHAT, COMPLETE, TOKENIZE = "/v1/chat/completions", "/v1/completions", "/tokenize"


def requests() -> dict[str, tuple[str, dict[str, Any]]]:
    """The path and the body of each kind of request."""
    many = [{"role": "user", "content": "a"}] * 100_000
    return {
        "a prompt of 4 MB": (COMPLETE, {"prompt": "word " * 800_000}),
        "a prompt of 4 MB, streamed": (COMPLETE, {"prompt": "x" * 4_000_000, "stream": True}),
        "a message of 4 MB": (CHAT, {"messages": [{"role": "user", "content": "é" * 2_000_000}]}),
        "400,000 special tokens": (CHAT, {"messages": [{"role": "user", "content": "<|im_end|>" * 400_000}]}),
        "100,000 messages": (CHAT, {"messages": many}),
        "10,000 messages of 400 bytes": (
            CHAT,
            {"messages": [{"role": "user", "content": "a" * 370}] * 10_000},
        ),
        "50,000 tools": (CHAT, {"messages": MESSAGES, "tools": [TOOL] * 50_000}),
        "1,000 tools of 4,000 bytes": (
            CHAT,
            {"messages": MESSAGES, "tools": [{**TOOL, "x": "a" * 3_900}] * 1_000},
        ),
        "2,000,000 token ids": (COMPLETE, {"prompt": [1] * 2_000_000}),
        "1,300,000 prompts": (COMPLETE, {"prompt": ["a"] * 1_000_000}),
        "100,000 stop words": (COMPLETE, {"prompt": "a", "stop": [f"s{i}" for i in range(100_000)]}),
        "300,000 unknown fields": (COMPLETE, {"prompt": "a", **{f"f{i}": 1 for i in range(300_000)}}),
        "1,300,000 empty objects": (CHAT, {"messages": MESSAGES, "metadata": [{}] * 1_300_000}),
        "4 MB to tokenize": (TOKENIZE, {"prompt": "word " * 800_000}),
    }


def exchange(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, float]:
    """Send one request on a connection of its own; return the status and the seconds it took."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(address, timeout=300)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status, time.perf_counter() - began
    finally:
        connection.close()


@contextmanager
def sending(address: str, path: str, body: bytes) -> Iterator[list[tuple[int, float]]]:
    """Clients send the request inside; the list has their results."""
    stop, results = threading.Event(), []

    def send() -> None:
        while not stop.is_set():
            results.append(exchange(address, "POST", path, body))

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def health(address: str, seconds: float) -> list[float]:
    """The times of GET /health, one every 10 ms."""
    end, times = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        status, took = exchange(address, "GET", "/health")
        assert status == 200
        times.append(took)
        time.sleep(0.01)
    return times


def figures_of(times: list[float], results: list[tuple[int, float]]) -> dict[str, Any]:
    times = sorted(times)
    return {
        "statuses": sorted({status for status, _ in results}),
        "requests": len(results),
        "time": statistics.median(took for _, took in results) if results else 0.0,
        "p50": statistics.median(times),
        "p99": times[int(0.99 * (len(times) - 1))],
        "worst": times[-1],
    }


def measure(quick: bool) -> dict[str, Any]:
    seconds = 2.0 if quick else 6.0
    found: dict[str, Any] = {}
    with ours() as (url, model, _):
        address = urlsplit(url).netloc
        health(address, 0.5)
        found["nothing else"] = figures_of(health(address, seconds), [])
        for name, (path, fields) in requests().items():
            body = json.dumps({"model": model, **fields}, ensure_ascii=False, separators=(",", ":")).encode()
            with sending(address, path, body) as results:
                found[name] = {"bytes": len(body), **figures_of(health(address, seconds), [])}
            found[name] |= {key: figures_of([0], results)[key] for key in ("statuses", "requests", "time")}
            print(name, found[name], flush=True)
    return {"requests": found}


def tables(figures: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{row.get('bytes', 0) / 1e6:.1f}",
            ", ".join(map(str, row["statuses"])),
            f"{1000 * row['time']:.0f}",
            *(f"{1000 * row[key]:.0f}" for key in ("p50", "p99", "worst")),
        )
        for name, row in figures["requests"].items()
    ]
    return report.table(
        ("request", "MB", "status", "time, ms", "/health p50, ms", "p99, ms", "worst, ms"), rows
    )


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables, packages=("fastapi", "uvicorn", "tokenizers"))
