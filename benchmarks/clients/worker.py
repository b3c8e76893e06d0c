"""Runs inside one peer's virtual environment: its clients and the floor in turns, figures as JSON at the end.

    .venv-PEER/bin/python -m benchmarks.clients.worker rounds PEER PORT [--quick] [--only NAME …]
    .venv-PEER/bin/python -m benchmarks.clients.worker once PEER PORT NAME STREAMS

``rounds`` times everything; ``once`` is for the memory and the start of a fresh process: one client (or 'floor')
reads one answer, or so many at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.clients.contract import AsyncClient, Client, SyncClient, load, scenario, text
from benchmarks.clients.floor import AsyncFloor, Floor

_LONGEST = 25.0  # seconds of wall time for one kind of measurement, if it has its three rounds
_FEWEST = 3


@dataclass(frozen=True)
class Streams:
    """Streams that are read at once, and how they come."""

    chunks: int
    pause_us: int = 0
    at_once: int = 1
    rounds: int = 15


def streamed(quick: bool) -> dict[str, Streams]:
    """The kinds of streams. Ticks leave every client but the slowest the time to read one event at a time."""
    if quick:
        return {"burst": Streams(200, rounds=3), "paced": Streams(50, 300, rounds=3)}
    return {
        "burst": Streams(2000),
        "paced": Streams(500, 300),
        "burst of 1000": Streams(20, at_once=1000, rounds=7),
        "100 at once": Streams(50, 10_000, 100, rounds=5),
        "1000 at once": Streams(20, 100_000, 1000, rounds=5),
    }


class SyncRunner:
    """One client, called synchronously."""

    def __init__(self, make: Callable[[str], SyncClient]) -> None:
        self._make = make

    def ready(self, url: str) -> None:
        self._client = self._make(url)

    def read(self, streams: Streams) -> None:
        parts: list[str] = []
        self._client.stream(parts.append)
        check("".join(parts), streams.chunks)

    def first(self) -> tuple[float, float]:
        return _first(lambda take: self._client.stream(take))

    def answers(self, count: int) -> None:
        for _ in range(count):
            check(self._client.answer(), 20)

    def close(self) -> None:
        self._client.close()


class AsyncRunner:
    """One client, called with await on one event loop."""

    def __init__(self, make: Callable[[str], AsyncClient], loop: asyncio.AbstractEventLoop) -> None:
        self._make = make
        self._loop = loop

    def ready(self, url: str) -> None:
        async def made() -> AsyncClient:  # some want a running loop
            return self._make(url)

        self._client = self._run(made())

    def read(self, streams: Streams) -> None:
        self._run(self._read(streams))

    async def _read(self, streams: Streams) -> None:
        parts: list[list[str]] = [[] for _ in range(streams.at_once)]
        if streams.at_once == 1:
            await self._client.stream(parts[0].append)
        else:
            await asyncio.gather(*(self._client.stream(part.append) for part in parts))
        for part in parts:
            check("".join(part), streams.chunks)

    def first(self) -> tuple[float, float]:
        return _first(lambda take: self._run(self._client.stream(take)))

    def answers(self, count: int) -> None:
        self._run(self._answers(count))

    async def _answers(self, count: int) -> None:
        for _ in range(count):
            check(await self._client.answer(), 20)

    def close(self) -> None:
        self._run(self._client.close())

    def _run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(step)


Runner = SyncRunner | AsyncRunner
_expected: dict[int, str] = {}


def check(found: str, chunks: int) -> None:
    """A client that loses text is not fast."""
    expected = _expected.get(chunks) or _expected.setdefault(chunks, text(chunks))
    if found != expected:
        raise AssertionError(f"the text of {chunks} chunks is not right: {found[:80]!r}")


def _first(stream: Callable[[Callable[[str], object]], object]) -> tuple[float, float]:
    """Wall and CPU seconds until the first text."""
    at: list[tuple[float, float]] = []
    wall, cpu = time.perf_counter(), time.process_time()
    stream(lambda text: at.append((time.perf_counter(), time.process_time())))
    return at[0][0] - wall, at[0][1] - cpu


def in_turns(
    rounds: int, runners: dict[str, Runner], run: Callable[[Runner], Any]
) -> Iterator[dict[str, Any]]:
    """What `run` gives for every runner, round by round; the first round only warms up."""
    began = time.monotonic()
    for number in range(rounds + 1):
        found = {}
        for name, runner in runners.items():
            gc.collect()
            found[name] = run(runner)
        if number:
            yield found
        if number >= _FEWEST and time.monotonic() - began > _LONGEST:
            return


def cpu_of(run: Callable[[Runner], object], per: int) -> Callable[[Runner], float]:
    """The CPU time `run` takes of a runner, in µs for each of `per`."""

    def timed(runner: Runner) -> float:
        began = time.process_time()
        run(runner)
        return (time.process_time() - began) / per * 1e6

    return timed


def server_cpu(port: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/cpu")
    used = float(connection.getresponse().read())
    connection.close()
    return used


def measure(runners: dict[str, Runner], port: int, quick: bool, *, many: bool) -> dict[str, Any]:
    """Every round of every measurement, by kind and client; and what the server took for the floor alone."""
    figures: dict[str, Any] = {}
    server: dict[str, float] = {}

    def prepared(url: str) -> None:
        for runner in runners.values():
            runner.ready(url)

    def keep(kind: str, rounds: int, run: Callable[[Runner], Any], per_round: int) -> None:
        figures[kind] = list(in_turns(rounds, runners, run))
        before = server_cpu(port)
        run(runners["floor"])
        server[kind] = (server_cpu(port) - before) / per_round * 1e6
        for runner in runners.values():
            runner.close()

    for kind, streams in streamed(quick).items():
        if streams.at_once > 1 and not many:
            continue
        prepared(scenario(port, streams.chunks, streams.pause_us))
        count = streams.chunks * streams.at_once

        def read(runner: Runner, streams: Streams = streams) -> None:
            runner.read(streams)

        keep(kind, streams.rounds, cpu_of(read, count), count)
    prepared(scenario(port, 20))
    count = 5 if quick else 100
    keep("request", 3 if quick else 15, cpu_of(lambda runner: runner.answers(count), count), count)
    prepared(scenario(port, 1))
    keep("first", 20 if quick else 300, lambda runner: [part * 1e6 for part in runner.first()], 1)
    return {"rounds": figures, "server_us": server}


def clients_of(peer: str, only: list[str]) -> list[Client]:
    return [client for client in load(peer) if not only or client.name in only]


def rounds(peer: str, port: int, quick: bool, only: list[str]) -> dict[str, Any]:
    clients = clients_of(peer, only)
    route = clients[0].route
    loop = asyncio.new_event_loop()
    sync: dict[str, Runner] = {"floor": SyncRunner(lambda url: Floor(url, route))}
    sync |= {client.name: SyncRunner(client.sync) for client in clients if client.sync}
    aio: dict[str, Runner] = {"floor": AsyncRunner(lambda url: AsyncFloor(url, route), loop)}
    aio |= {client.name: AsyncRunner(client.aio, loop) for client in clients if client.aio}
    return {
        "sync": measure(sync, port, quick, many=False),
        "async": measure(aio, port, quick, many=True),
    }


def once(peer: str, port: int, name: str, streams: int) -> dict[str, float]:
    """CPU seconds and the largest memory of this process, after one answer or several at once."""
    client = next(client for client in load(peer) if name in ("floor", client.name))
    sync = (lambda url: Floor(url, client.route)) if name == "floor" else client.sync
    aio = (lambda url: AsyncFloor(url, client.route)) if name == "floor" else client.aio
    runner: Runner
    if streams == 1 and sync:
        runner = SyncRunner(sync)
    else:
        assert aio is not None
        runner = AsyncRunner(aio, asyncio.new_event_loop())
    what = Streams(2000 if streams == 1 else 20, at_once=streams)
    runner.ready(scenario(port, what.chunks))
    runner.read(what)
    runner.close()
    with open("/proc/self/status", encoding="ascii") as status:
        peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    return {"cpu_s": time.process_time(), "peak_mb": int(peak) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["rounds", "once"])
    parser.add_argument("peer")
    parser.add_argument("port", type=int)
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("streams", nargs="?", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    if given.what == "rounds":
        figures = rounds(given.peer, given.port, given.quick, given.only)
    else:
        figures = once(given.peer, given.port, given.name, given.streams)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
