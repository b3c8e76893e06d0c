"""Ray: CPU of a row beside plain `map_batches`, and rows a second with 1 to 8 actors.

CPU is that of all processes of a local cluster, the driver included, from the first result to the last one,
so the start of actors is left out. The scripted server answers after 1 s, so what limits an actor is its
number of calls at once; the rate is that of the time in which all actors work: the last part of the rows
without its end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.data

from benchmarks import report
from benchmarks.batch import serving
from lagent_llms.ray import generate, run_batch

NAME = "cluster"
DELAY = 1.0
#: Calls at once in an actor whose server limits it.
CALLS = 4
ROOT = Path(__file__).parents[1]


class Nothing:
    def __call__(self, batch: Any) -> Any:
        return batch


class NothingAsync:
    async def __call__(self, batch: Any) -> Any:
        return batch


def cpu() -> dict[int, float]:
    """CPU seconds of the driver (0) and of the processes of the cluster."""
    driver = psutil.Process()
    found = {}
    for process in [driver, *driver.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[0 if process is driver else process.pid] = times.user + times.system
    return found


def measured(results: Iterator[int]) -> dict[str, float]:
    """Microseconds of CPU a row, the driver's too, and rows a second, from the first result to the last."""
    rows = 0
    next(results)
    before, began = cpu(), time.perf_counter()
    for found in results:
        rows += found
        after, ended = cpu(), time.perf_counter()
    spent = {pid: seconds - before.get(pid, 0.0) for pid, seconds in after.items()}
    return {
        "us": sum(spent.values()) / rows * 1e6,
        "driver_us": spent[0] / rows * 1e6,
        "rows_a_second": rows / (ended - began),
    }


def steady_rate(results: Iterator[int], rows: int) -> float:
    """Rows a second between the middle of the `rows` and nine tenths of them: all actors work."""
    done, times = 0, [(0, time.perf_counter())]
    for found in results:
        done += found
        times.append((done, time.perf_counter()))
    first = next(one for one in times if one[0] >= rows * 0.5)
    last = next(one for one in times if one[0] >= rows * 0.9)
    return (last[0] - first[0]) / (last[1] - first[1])


def dataset(rows: int, blocks: int) -> Any:
    items = [{"number": number, "prompt": f"prompt {number}"} for number in range(rows)]
    return ray.data.from_items(items, override_num_blocks=blocks)


def sizes(mapped: Any) -> Iterator[int]:
    return (len(batch) for batch in mapped.iter_batches(batch_size=None, batch_format="pyarrow"))


def job(config: dict[str, Any], rows: int, actors: int) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        records = ({"prompt": f"prompt {number}"} for number in range(rows))
        with run_batch(config, records, f"{folder}/out", actors=actors) as run:
            stored = 0
            for summary in run:
                if summary.rows > stored:
                    yield summary.rows - stored
                    stored = summary.rows
        assert run.summary.failed == 0


def overhead(rows: int) -> dict[str, dict[str, float]]:
    scripted = {"type": "lagent_llms.testing.ScriptedLLM", "meta_template": "chatml"}
    pool = ray.data.ActorPoolStrategy(size=1)
    options = {"compute": pool, "batch_size": 16, "batch_format": "pyarrow"}
    blocks = rows // 16

    def over_http() -> Iterator[int]:
        with serving(0) as url:
            config = {"type": "LMDeployClient", "url": url, "model_name": "m", "stream": False}
            yield from sizes(generate(dataset(rows, blocks), config))

    return {
        "map_batches, nothing in it": measured(sizes(dataset(rows, blocks).map_batches(Nothing, **options))),
        "the same, asynchronous": measured(sizes(dataset(rows, blocks).map_batches(NothingAsync, **options))),
        "generate, scripted model": measured(sizes(generate(dataset(rows, blocks), scripted))),
        "generate, client of a server": measured(over_http()),
        "run_batch, scripted model, stored": measured(job(scripted, rows, 1)),
    }


def scaling(seconds: float, most: int) -> dict[int, float]:
    """Rows a second with 1, 2, 4 … actors of the scripted server."""
    found = {}
    with serving(DELAY) as url:
        config = {
            "type": "LMDeployClient",
            "url": url,
            "model_name": "m",
            "stream": False,
            "max_concurrency": CALLS,
        }
        actors = 1
        while actors <= most:
            rows = int(seconds * actors * CALLS / DELAY)
            found[actors] = steady_rate(job(config, rows, actors), rows)
            actors *= 2
    return found


def engines(rows: int) -> dict[int, float]:
    """Rows a second with 1 and 2 actors that each hold the embedded model."""
    config = {"type": "JAXPipeline", "temperature": 0, "max_new_tokens": 16, "max_concurrency": 8}
    return {actors: steady_rate(job(config, rows, actors), rows) for actors in (1, 2)}


def measure(quick: bool) -> dict[str, Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    # More logical CPUs than cores: the actors that are measured for their number wait for a server.
    ray.init("local", num_cpus=9, include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        rows, rounds, seconds, most = (1600, 1, 4, 2) if quick else (16_000, 3, 60, 8)
        found = [overhead(rows) for _ in range(rounds)]
        names = {
            name: {key: statistics.median(one[name][key] for one in found) for key in found[0][name]}
            for name in found[0]
        }
        return {
            "rows": rows,
            "overhead": names,
            "scaling": scaling(seconds, most),
            "engines": engines(100 if quick else 400),
        }
    finally:
        ray.shutdown()


def tables(figures: dict[str, Any]) -> str:
    plain = next(iter(figures["overhead"].values()))["us"]
    rows = [
        (
            name,
            f"{row['us']:.0f}",
            f"{row['us'] - plain:+.0f}",
            f"{row['driver_us']:.0f}",
            f"{row['rows_a_second']:.0f}",
        )
        for name, row in figures["overhead"].items()
    ]
    parts = [
        report.table(("one actor", "µs of CPU a row", "over plain", "the driver's", "rows a second"), rows)
    ]
    for head, found in (
        (f"actors, answers after {DELAY:g} s", "scaling"),
        ("actors, JAXPipeline", "engines"),
    ):
        rates = {int(actors): rate for actors, rate in figures[found].items()}
        lines = [(actors, f"{rate:.1f}", f"{rate / rates[1] / actors:.0%}") for actors, rate in rates.items()]
        parts.append(report.table((head, "rows a second", "of so many times one"), lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables, packages=("ray",))
