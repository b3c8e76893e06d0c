"""Batch jobs: CPU and time of a row, beside openai's client and litellm; the cost of durability; memory.

Every round runs all clients, each in a process (and virtual environment) of its own, against one scripted
server that answers after 0 or 50 ms; ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks import report
from benchmarks.clients.install import peers_python

NAME = "batch"
CONCURRENCY = 64
OURS, OPENAI, NOT_STORED = "run_batch", "openai", "run_batch, not stored"
#: Client -> peer whose environment it needs; None is ours.
CLIENTS: dict[str, str | None] = {
    OURS: None,
    NOT_STORED: None,
    "chat(list)": None,
    OPENAI: "openai",
    "litellm": "litellm",
}
DELAYS = (0.0, 0.05)
#: (what, client, reference, key, most)
BUDGETS = (
    ("CPU of a row, `run_batch` / openai", OURS, OPENAI, "cpu", 0.2),
    ("CPU of a row, stored / not stored", OURS, NOT_STORED, "cpu", 1.1),
    ("time of a batch, stored / not stored", OURS, NOT_STORED, "wall", 1.1),
)

Rounds = list[dict[str, dict[str, float]]]


@contextlib.contextmanager
def serving(delay: float) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.integration.batch.server", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


def last_line(command: list[str]) -> Any:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def rounds_of(delay: float, rows: int, rounds: int) -> Rounds:
    pythons = {peer: sys.executable if peer is None else peers_python(peer) for peer in CLIENTS.values()}
    with serving(delay) as url:
        return [
            {
                name: last_line(
                    [
                        pythons[peer],
                        "-Wignore",
                        "-m",
                        "benchmarks.batch_clients",
                        name,
                        url,
                        str(rows),
                        str(CONCURRENCY),
                    ]
                )
                for name, peer in CLIENTS.items()
            }
            for _ in range(rounds)
        ]


def ratio(rounds: Rounds, name: str, reference: str, key: str) -> float:
    return statistics.median(one[name][key] / one[reference][key] for one in rounds)


def measure(quick: bool) -> dict[str, Any]:
    rows, rounds, many = (500, 1, 20_000) if quick else (4000, 3, 1_000_000)
    figures: dict[str, Any] = {"rows": rows, "delays": {}}
    for delay in DELAYS:
        found = rounds_of(delay, rows, rounds)
        figures["delays"][f"{delay * 1000:.0f}"] = {
            "clients": {
                name: {
                    "us": statistics.median(one[name]["cpu"] for one in found) / rows * 1e6,
                    "rows_a_second": rows / statistics.median(one[name]["wall"] for one in found),
                    "of_openai": ratio(found, name, OPENAI, "cpu"),
                }
                for name in CLIENTS
            },
            "budgets": [
                {"what": what, "ratio": ratio(found, name, reference, key), "most": most}
                for what, name, reference, key, most in BUDGETS
            ],
        }
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.batch_memory", str(many), f"{folder}/out"]
        figures["memory"] = last_line(command)
    return figures


def tables(figures: dict[str, Any]) -> str:
    parts = []
    for delay, found in figures["delays"].items():
        rows = [
            (name, f"{row['us']:.0f}", f"{row['of_openai']:.2f}", f"{row['rows_a_second']:.0f}")
            for name, row in found["clients"].items()
        ]
        head = (f"answers after {delay} ms", "µs of CPU a row", "of openai's", "rows a second")
        parts.append(report.table(head, rows))
    budgets = [
        (f"{budget['what']}, {delay} ms", f"{budget['ratio']:.2f}", budget["most"])
        for delay, found in figures["delays"].items()
        for budget in found["budgets"]
    ]
    parts.append(report.table(("ratio", "measured", "at most"), budgets))
    most = figures["memory"]["mb"]
    parts.append(
        report.table(("rows", "most MB of memory"), [(rows, f"{mb:.0f}") for rows, mb in most.items()])
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables, packages=("lagent-llms",))
