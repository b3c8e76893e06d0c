"""Shared code of the benchmarks: interleaved timing, tables, the machine, and sections of docs/benchmarks.md.

A benchmark is a module with ``NAME``, ``measure(quick) -> figures`` (only JSON values) and
``tables(figures) -> Markdown``; its last line is ``report.main(...)`` with these three. Benchmarks
assert nothing; tests do.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["DOCS", "interleaved", "machine", "main", "median", "ratios", "table", "write_section"]

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def interleaved(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return CPU seconds of each candidate; every round runs all of them, under the same load of the machine.

    CPU time excludes other programs on the machine. The order within a round is random, because a candidate
    affects the next one (caches). The garbage collector is disabled meanwhile.
    """
    order = list(candidates)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                began = time.process_time()
                candidates[name]()
                times[name].append(time.process_time() - began)
    finally:
        gc.enable()
    return times


def median(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each list."""
    return {name: statistics.median(found) for name, found in times.items()}


def ratios(times: Mapping[str, Sequence[float]], peer: str) -> dict[str, float]:
    """Return each candidate's time relative to `peer`: the median of the ratios of all rounds.

    A temporary slowdown of the machine affects a whole round and cancels out.
    """
    return {
        name: statistics.median(one / other for one, other in zip(found, times[peer], strict=True))
        for name, found in times.items()
    }


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine(packages: Sequence[str] = ()) -> str:
    """Return date, machine and versions of Python and `packages` in one line."""
    try:
        cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        cpu = None
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return ", ".join(
        [
            time.strftime("%Y-%m-%d"),
            f"{cpu[1] if cpu else platform.machine()} ({os.cpu_count()} cores, "
            f"load {os.getloadavg()[0]:.0f} when it began)",
            f"Python {platform.python_version()}",
            *versions,
        ]
    )


def write_section(name: str, text: str, path: Path = DOCS) -> None:
    """Put `text` between the markers of the section `name`; add a missing section."""
    document = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in document:
        document = f"{document.rstrip()}\n\n## {name.replace('_', ' ').capitalize()}\n\n{begin}\n{end}\n"
    before, _, rest = document.partition(begin)
    path.write_text(f"{before}{begin}\n{text.strip()}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def main(
    name: str,
    doc: str | None,
    measure: Callable[[bool], dict[str, Any]],
    tables: Callable[[dict[str, Any]], str],
    *,
    packages: Sequence[str] = (),
    write: Callable[[dict[str, Any]], None] | None = None,
    arguments: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Run the command line of one benchmark: measure, print the tables, write the requested files.

    With ``--write``, `write` is also called with the figures, for further files of the benchmark.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a functional check")
    options = parser.parse_args(arguments)
    where = machine(packages)
    figures = {"measured_on": where, **measure(options.quick)}
    text = f"{tables(figures)}\n\n*{where}*"
    print(text, flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.write:
        write_section(name, text)
        if write is not None:
            write(figures)
    return figures
