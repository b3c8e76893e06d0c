"""Run the server and every peer's worker; summarize their rounds as medians and medians of ratios."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.clients import install
from benchmarks.clients.contract import load

__all__ = ["BUDGETS", "FIRST_CHUNK_BUDGETS", "MOST_MS_TO_IMPORT", "OURS", "PEERS", "measure"]

OURS = "lagent_llms"
#: Peers in the order of the tables.
PEERS = (OURS, "lorax_client", "lagent_lmdeploy", "openai", "litellm")
#: (row label, sync or async, kind, reference client, maximal ratio to the reference)
BUDGETS = (
    ("streamed chunk, sync, in bursts", "sync", "burst", "http.client + orjson", 0.8),
    ("streamed chunk, sync, paced", "sync", "paced", "http.client + orjson", 1.5),
    ("streamed chunk, async, in bursts", "async", "burst", "aiohttp", 0.6),
    ("streamed chunk, async, paced", "async", "paced", "aiohttp", 1.0),
    ("streamed chunk, 1,000 streams at once", "async", "1000 at once", "aiohttp", 1.0),
    ("request, sync, not streamed", "sync", "request", "requests", 0.25),
    ("request, async, not streamed", "async", "request", "aiohttp", 1.2),
)
#: Of the first chunk: (sync or async, held against, at most so many ms later).
FIRST_CHUNK_BUDGETS = (("sync", "floor", 0.5), ("async", "aiohttp", 0.3))
MOST_MS_TO_IMPORT = 50
#: Processes whose rounds are taken together for our own environment: memory lies differently in each, which
#: is worth up to 8 % of the time with 1,000 streams.
PROCESSES = 3

Rounds = Sequence[Mapping[str, Sequence[float]]]


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """Start the server in a subprocess; yield its port."""
    command = [sys.executable, "-m", "benchmarks.clients.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.stdin.close()


def measure(
    quick: bool, pythons: Mapping[str, str] | None = None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure all figures; return JSON values.

    Args:
        quick: Fewer and shorter rounds, without memory and imports, for a functional check.
        pythons: Interpreters of the measured peers; None creates the environments of all peers.
        only: Names of the measured clients; empty for all.
    """
    pythons = pythons or {peer: install.peers_python(peer) for peer in PEERS}
    figures: dict[str, Any] = {"clients": {}, "server": {}}
    with serving() as port:
        for peer, python in pythons.items():
            print(f"measuring {peer} …", file=sys.stderr, flush=True)
            command = [python, "-Wignore", "-m", "benchmarks.clients.worker", "rounds", peer, str(port)]
            options = [*(["--quick"] if quick else []), *(["--only", *only] if only else [])]
            found = _rounds([*command, *options])
            for _ in range(0 if quick or peer != OURS else PROCESSES - 1):
                _append(found, _rounds([*command, *options]))
            for mode in ("sync", "async"):
                _sum_up(figures, mode, found[mode])
            if peer == OURS:
                figures["budgets"] = list(_budgets(found))
            if not quick:
                _start(figures, peer, python, port)
    return figures


def _rounds(command: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _append(found: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Append the rounds of another process."""
    for mode in ("sync", "async"):
        for kind, rounds in more[mode]["rounds"].items():
            found[mode]["rounds"][kind] += rounds


def _sum_up(figures: dict[str, Any], mode: str, found: Mapping[str, Any]) -> None:
    for kind, rounds in found["rounds"].items():
        summed = _over_the_floor(rounds) if kind == "first chunk" else _times_the_floor(rounds)
        for name, row in summed.items():
            if name != "floor":
                figures["clients"].setdefault(name, {}).setdefault(mode, {})[kind] = row
        server = figures["server"].setdefault(mode, {}).setdefault(kind, [])
        server.append({"server_us": found["server_us"][kind], "floor_us": summed["floor"]["us"]})


def _times_the_floor(rounds: Rounds) -> dict[str, dict[str, float]]:
    return {
        name: {
            "us": statistics.median(one[name][0] for one in rounds),
            "best_us": min(one[name][0] for one in rounds),
            "wall_us": statistics.median(one[name][1] for one in rounds),
            "x_floor": _ratio(rounds, name, "floor"),
            "rounds": len(rounds),
        }
        for name in rounds[0]
    }


def _over_the_floor(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Return by how much the first chunk is later than the floor's, in wall and CPU time (µs)."""
    return {
        name: {
            "us": statistics.median(one[name][0] for one in rounds),
            "over_us": statistics.median(one[name][0] - one["floor"][0] for one in rounds),
            "cpu_over_us": statistics.median(one[name][1] - one["floor"][1] for one in rounds),
            "rounds": len(rounds),
        }
        for name in rounds[0]
    }


def _ratio(rounds: Rounds, name: str, reference: str) -> float:
    return statistics.median(one[name][0] / one[reference][0] for one in rounds)


def _budgets(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for what, mode, kind, reference, most in BUDGETS:
        rounds = found[mode]["rounds"].get(kind)
        if rounds and reference in rounds[0]:
            yield {"what": what, "reference": reference, "most": most, "is": _ratio(rounds, OURS, reference)}


def _start(figures: dict[str, Any], peer: str, python: str, port: int) -> None:
    """Add import time, memory and size of a peer's clients; the floor's process is the baseline."""
    floor = install.once(python, peer, port, "floor", 1, 5)
    for client in load(peer):
        if not client.distribution:
            continue
        one = install.once(python, peer, port, client.name, 1, 5)
        row = {
            **install.installed(python, client),
            "import_ms": install.import_ms(python, client, 9),
            "first_answer_ms": one["cpu_ms"] - floor["cpu_ms"],
            "peak_mb": one["peak_mb"],
            "floor_mb": floor["peak_mb"],
        }
        if client.aio:
            row["peak_1000_mb"] = install.once(python, peer, port, client.name, 1000, 3)["peak_mb"]
        figures["clients"][client.name]["start"] = row
