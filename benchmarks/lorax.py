"""CPU of LoRAX's clients per streamed token and per request, against lorax-client and the floor.

The floor is the cost of the protocol in plain Python: http.client, or asyncio's streams, and a JSON decoder.
Each client is measured in its own environment and process, in turns with the floor; compare the ratios. The
server (benchmarks/lorax_server.py) runs in another process.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import report
from benchmarks.lorax_server import PACE, running

NAME = "lorax"
ROOT = Path(__file__).parent.parent
BURST, PACED, REQUESTS, STREAMS, SHORT = 2000, 300, 200, 1000, 30
CLIENTS = ("lagent_llms.lorax", "lagent_llms.LoRAX", "lorax-client")


def _body(prompt: str, stream: bool) -> bytes:
    return json.dumps({"inputs": prompt, "parameters": {"max_new_tokens": 20}, "stream": stream}).encode()


# the floors: only what a request needs


class Floor:
    """The floor of synchronous clients."""

    def __init__(self, url: str) -> None:
        import msgspec

        self._decode = msgspec.json.decode
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def _send(self, body: bytes) -> http.client.HTTPResponse:
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return self._connection.getresponse()

    def request(self) -> str:
        """Return a whole answer."""
        text: str = self._decode(self._send(_body("x", False)).read())[0]["generated_text"]
        return text

    def tokens(self, prompt: str) -> Iterator[str]:
        """Yield the tokens of a streamed answer."""
        decode = self._decode
        for line in self._send(_body(prompt, True)):
            if line.startswith(b"data:"):
                yield decode(line[5:])["token"]["text"]


class AsyncFloor:
    """The floor of asynchronous clients."""

    def __init__(self, url: str) -> None:
        import msgspec

        self._decode = msgspec.json.decode
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def _send(self, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        pair = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        pair[1].write(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        return pair

    async def request(self) -> str:
        """Return a whole answer."""
        reader, writer = await self._send(_body("x", False))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        text: str = self._decode(await reader.readexactly(length))[0]["generated_text"]
        self._idle.append((reader, writer))
        return text

    async def tokens(self, prompt: str) -> AsyncIterator[str]:
        """Yield the tokens of a streamed answer."""
        reader, writer = await self._send(_body(prompt, True))
        await reader.readuntil(b"\r\n\r\n")
        decode = self._decode
        while (line := await reader.readline()) != b"0\r\n":
            if line.startswith(b"data:"):
                yield decode(line[5:])["token"]["text"]
        await reader.readline()
        self._idle.append((reader, writer))


# the clients


def sync_client(name: str, url: str) -> tuple[Callable[[], str], Callable[[str], Iterator[str]]]:
    """Return two functions: one requests an answer, the other yields the tokens of a stream."""
    if name == "lagent_llms.LoRAX":
        from lagent_llms import LoRAX

        llm = LoRAX(url, stop_words=["<|im_end|>", "<|end|>"], temperature=0)
        return (lambda: llm.generate("x 1", stream=False)), lambda prompt: (
            c.delta for c in llm.stream_generate(prompt)
        )
    if name == "lorax-client":
        from lorax import Client
    else:
        from lagent_llms.lorax import Client
    client = Client(url)
    return (
        lambda: client.generate("x").generated_text,
        lambda prompt: (one.token.text for one in client.generate_stream(prompt)),
    )


def async_client(
    name: str, url: str
) -> tuple[Callable[[], Coroutine[Any, Any, str]], Callable[[str], AsyncIterator[str]]]:
    """Return the asynchronous functions; see `sync_client`."""
    if name == "lagent_llms.LoRAX":
        from lagent_llms import AsyncLoRAX

        llm = AsyncLoRAX(url, stop_words=["<|im_end|>", "<|end|>"], temperature=0)

        async def whole() -> str:
            return await llm.generate("x 1", stream=False)

        async def deltas(prompt: str) -> AsyncIterator[str]:
            async for chunk in llm.stream_generate(prompt):
                yield chunk.delta

        return whole, deltas
    if name == "lorax-client":
        from lorax import AsyncClient
    else:
        from lagent_llms.lorax import AsyncClient
    client = AsyncClient(url)

    async def text() -> str:
        return str((await client.generate("x")).generated_text)

    async def tokens(prompt: str) -> AsyncIterator[str]:
        async for one in client.generate_stream(prompt):
            yield one.token.text

    return text, tokens


def child(name: str, url: str, rounds: int) -> dict[str, dict[str, float]]:
    """Return CPU µs of the client `name` and of the floor, per kind of request."""
    floor, (request, tokens) = Floor(url), sync_client(name, url)
    loop = asyncio.new_event_loop()
    aio_floor, (aio_request, aio_tokens) = AsyncFloor(url), async_client(name, url)
    run = loop.run_until_complete

    def many(ask: Callable[[], object]) -> None:
        for _ in range(REQUESTS):
            ask()

    async def aio_many(ask: Callable[[], Coroutine[Any, Any, str]]) -> None:
        for _ in range(REQUESTS):
            await ask()

    async def read(stream: AsyncIterator[str]) -> int:
        return len([text async for text in stream])

    async def crowd(make: Callable[[str], AsyncIterator[str]]) -> None:
        counts = await asyncio.gather(*(read(make(f"paced {SHORT}")) for _ in range(STREAMS)))
        assert min(counts) >= SHORT - 1

    def count(stream: Iterator[str], expected: int) -> None:
        assert len(list(stream)) >= expected - 1  # the last event may have no text

    async def aio_count(stream: AsyncIterator[str], expected: int) -> None:
        assert await read(stream) >= expected - 1

    pairs: dict[str, tuple[Callable[[], object], Callable[[], object], int]] = {
        "request": (lambda: many(request), lambda: many(floor.request), REQUESTS),
        "burst": (
            lambda: count(tokens(f"burst {BURST}"), BURST),
            lambda: count(floor.tokens(f"burst {BURST}"), BURST),
            BURST,
        ),
        "paced": (
            lambda: count(tokens(f"paced {PACED}"), PACED),
            lambda: count(floor.tokens(f"paced {PACED}"), PACED),
            PACED,
        ),
        "async request": (
            lambda: run(aio_many(aio_request)),
            lambda: run(aio_many(aio_floor.request)),
            REQUESTS,
        ),
        "async burst": (
            lambda: run(aio_count(aio_tokens(f"burst {BURST}"), BURST)),
            lambda: run(aio_count(aio_floor.tokens(f"burst {BURST}"), BURST)),
            BURST,
        ),
        "async paced": (
            lambda: run(aio_count(aio_tokens(f"paced {PACED}"), PACED)),
            lambda: run(aio_count(aio_floor.tokens(f"paced {PACED}"), PACED)),
            PACED,
        ),
        "async 1,000 streams": (
            lambda: run(crowd(aio_tokens)),
            lambda: run(crowd(aio_floor.tokens)),
            STREAMS * SHORT,
        ),
    }
    figures = {}
    for what, (client, base, units) in pairs.items():
        times = report.interleaved({"client": client, "floor": base}, 2 if units > BURST else rounds)
        best = {one: min(found) / units * 1e6 for one, found in times.items()}
        ratios = sorted(a / b for a, b in zip(times["client"], times["floor"], strict=True))
        figures[what] = {**best, "ratio": ratios[len(ratios) // 2]}
    run(loop.shutdown_asyncgens())
    loop.close()
    return figures


def python_of(name: str) -> str:
    """Return the Python of the environment with the client."""
    if name != "lorax-client":
        return sys.executable
    env = {"PYTHON": sys.executable, **os.environ}
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "lorax-clients"], check=True, env=env)
    return str(ROOT / ".venv-lorax-clients" / "bin" / "python")


def measure(quick: bool) -> dict[str, Any]:
    figures = {}
    with running() as url:
        for name in CLIENTS:
            code = (
                "import json, sys; from benchmarks.lorax import child\n"
                "print(json.dumps(child(sys.argv[1], sys.argv[2], int(sys.argv[3]))))"
            )
            command = [python_of(name), "-W", "ignore", "-c", code, name, url, "3" if quick else "9"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            figures[name] = json.loads(done.stdout.splitlines()[-1])
    return {"microseconds": figures}


def tables(figures: dict[str, Any]) -> str:
    found = figures["microseconds"]
    rows = []
    for what in found[CLIENTS[0]]:
        cells = [f"{found[name][what]['client']:.1f} ({found[name][what]['ratio']:.2f}x)" for name in CLIENTS]
        rows.append((what, f"{found[CLIENTS[0]][what]['floor']:.1f}", *cells))
    legend = (
        "Microseconds of CPU per request (request) and per streamed token (all others), the best of its "
        "rounds; in brackets the median ratio to the floor of the same process, measured in turns. The floor "
        "is http.client, or asyncio's streams, with msgspec and no promises kept. *burst*: all tokens at "
        f"once; *paced*: one every {PACE * 1000:g} ms; *1,000 streams*: at once in one loop. `LoRAX` is the "
        "backend: stop words looked for, status tuples."
    )
    return f"{legend}\n\n{report.table(['', 'floor', *CLIENTS], rows)}"


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables, packages=("aiohttp", "urllib3", "msgspec"))
