"""Measure the clients of one peer in turns with the floor, in the peer's environment; print JSON.

    .venv-PEER/bin/python -m benchmarks.clients.worker rounds PEER PORT [--quick] [--only NAME …]
    .venv-PEER/bin/python -m benchmarks.clients.worker once PEER PORT NAME STREAMS

``rounds`` times everything. ``once`` measures memory and start of a fresh process: one client (or 'floor')
reads STREAMS answers at once.
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

_MEASUREMENT_LIMIT = 45.0  # seconds; a measurement ends after the first round beyond it
_MANY_ROUNDS = 100
_ROUND_LIMIT = 8.0  # seconds; no further pass begins after it


@dataclass(frozen=True)
class Streams:
    """A load: number of concurrent streams, their length and the pause between events."""

    chunks: int
    pause_us: int = 0
    at_once: int = 1
    rounds: int = 15
    passes: int = 1  # per round; several, so that each includes some of the rare, long garbage collections


def streamed(quick: bool) -> dict[str, Streams]:
    """Return the loads by kind. The pauses let all but the slowest clients read one event at a time."""
    if quick:
        return {"burst": Streams(200, rounds=3), "paced": Streams(50, 300, rounds=3)}
    return {
        "burst": Streams(2000),
        "paced": Streams(500, 300),
        "100 at once": Streams(50, 10_000, 100, rounds=5, passes=2),
        "1000 at once": Streams(20, 100_000, 1000, rounds=5, passes=2),
        "1000 in bursts": Streams(20, at_once=1000, rounds=5, passes=2),
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

    def settle(self) -> None:
        """Wait until threads have finished the last answer, so that it does not count for the next runner."""
        settle(time.sleep)

    def close(self) -> None:
        self._client.close()


class AsyncRunner:
    """One client, called with await on one event loop."""

    def __init__(self, make: Callable[[str], AsyncClient], loop: asyncio.AbstractEventLoop) -> None:
        self._make = make
        self._loop = loop

    def ready(self, url: str) -> None:
        async def made() -> AsyncClient:  # some clients need a running loop
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

    def settle(self) -> None:
        """See `SyncRunner`; tasks as well."""
        settle(lambda seconds: self._run(asyncio.sleep(seconds)))

    def close(self) -> None:
        self._run(self._client.close())

    def _run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(step)


Runner = SyncRunner | AsyncRunner
_expected: dict[int, str] = {}


def check(found: str, chunks: int) -> None:
    """Raise AssertionError if a client lost text."""
    expected = _expected.get(chunks) or _expected.setdefault(chunks, text(chunks))
    if found != expected:
        raise AssertionError(f"the text of {chunks} chunks is wrong: {found[:80]!r}")


def settle(sleep: Callable[[float], object]) -> None:
    """Sleep until this process is idle, for half a second at most."""
    for _ in range(50):
        before = time.process_time()
        sleep(0.01)
        if time.process_time() - before < 0.001:
            return


def _first(stream: Callable[[Callable[[str], object]], object]) -> tuple[float, float]:
    """Return wall and CPU seconds until the first text."""
    at: list[tuple[float, float]] = []
    wall, cpu = time.perf_counter(), time.process_time()
    stream(lambda text: at.append((time.perf_counter(), time.process_time())))
    return at[0][0] - wall, at[0][1] - cpu


def in_turns(
    rounds: int, runners: dict[str, Runner], run: Callable[[Runner], Any]
) -> Iterator[dict[str, Any]]:
    """Yield the results of `run` for every runner, round by round; the first round is a warm-up."""
    began = time.monotonic()
    for number in range(rounds + 1):
        found = {}
        for name, runner in runners.items():
            if rounds < _MANY_ROUNDS:
                gc.collect()  # it also evicts the CPU's caches, which would distort very short measurements
            runner.settle()
            found[name] = run(runner)
        if number:
            yield found
            if time.monotonic() - began > _MEASUREMENT_LIMIT:
                return


def timed(
    run: Callable[[Runner], object], per: int, passes: int = 1
) -> Callable[[Runner], tuple[float, float]]:
    """Return a function that measures CPU and wall time of `run`, in µs per unit; `per` units a pass."""

    def measured(runner: Runner) -> tuple[float, float]:
        done = 0
        wall, cpu = time.perf_counter(), time.process_time()
        while done < passes and (not done or time.perf_counter() - wall < _ROUND_LIMIT):
            run(runner)
            done += 1
        return (
            (time.process_time() - cpu) / per / done * 1e6,
            (time.perf_counter() - wall) / per / done * 1e6,
        )

    return measured


def server_cpu(port: int) -> float:
    """Return the CPU seconds the server has used so far."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/cpu")
    used = float(connection.getresponse().read())
    connection.close()
    return used


class Measurements:
    """The rounds of every measurement by kind, and the CPU time of the server for the floor alone.

    Args:
        runners: The clients, including the floor.
        port: The server's port.
    """

    def __init__(self, runners: dict[str, Runner], port: int) -> None:
        self.rounds: dict[str, list[dict[str, Any]]] = {}
        self.server_us: dict[str, float] = {}
        self._runners = runners
        self._port = port

    def streams(self, kind: str, streams: Streams) -> None:
        count = streams.chunks * streams.at_once
        url = scenario(self._port, streams.chunks, streams.pause_us)
        run = timed(lambda runner: runner.read(streams), count, streams.passes)
        self._measure(kind, url, streams.rounds, run, count * streams.passes)

    def requests(self, count: int, rounds: int) -> None:
        url = scenario(self._port, 20)
        self._measure("request", url, rounds, timed(lambda runner: runner.answers(count), count), count)

    def first_chunks(self, rounds: int) -> None:
        url = scenario(self._port, 1)
        self._measure("first chunk", url, rounds, lambda runner: [part * 1e6 for part in runner.first()], 1)

    def _measure(self, kind: str, url: str, rounds: int, run: Callable[[Runner], Any], per: int) -> None:
        for runner in self._runners.values():
            runner.ready(url)
        self.rounds[kind] = list(in_turns(rounds, self._runners, run))
        self.server_us[kind] = min(self._server_time(run) for _ in range(3)) / per * 1e6
        for runner in self._runners.values():
            runner.close()

    def _server_time(self, run: Callable[[Runner], Any]) -> float:
        before = server_cpu(self._port)
        run(self._runners["floor"])
        return server_cpu(self._port) - before


def measure(runners: dict[str, Runner], port: int, quick: bool, *, many: bool) -> dict[str, Any]:
    found = Measurements(runners, port)
    for kind, streams in streamed(quick).items():
        if many or streams.at_once == 1:
            found.streams(kind, streams)
    found.requests(5 if quick else 100, 3 if quick else 15)
    found.first_chunks(20 if quick else 200)
    return {"rounds": found.rounds, "server_us": found.server_us}


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
    """Return CPU seconds and peak memory (MB) of this process after `streams` concurrent answers."""
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
    options = parser.parse_args()
    if options.what == "rounds":
        figures = rounds(options.peer, options.port, options.quick, options.only)
    else:
        figures = once(options.peer, options.port, options.name, options.streams)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
