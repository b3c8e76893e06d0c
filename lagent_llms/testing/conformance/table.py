"""A pytest plugin that writes which backend keeps which promise.

``pytest -p lagent_llms.testing.conformance.table --promises FILE`` adds the backends of this run to the table
in FILE, or makes it; backends of other runs stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

__all__ = ["PromiseTable", "read_table", "write_table"]

#: A table: promise -> backend -> 'kept', 'refused', 'not seen' or 'BROKEN'.
Table = dict[str, dict[str, str]]

HEADER = """# ConformanceTests

What every backend promises, and which proofs it passed against a real server or engine. Each is a test of
`lagent_llms.testing.conformance`, run with the synchronous and with the asynchronous class. `kept`: seen to
hold. `refused`: the backend has no such parameter and says so before anything is sent. `not seen`: nobody
could tell whether the engine or server stopped, or how much it was doing.

Written by the run itself: `pytest -p lagent_llms.testing.conformance.table --promises FILE`.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--promises``."""
    parser.addoption("--promises", metavar="FILE", help="add the backends of this run to the table in FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Collect the outcomes when they are asked for."""
    if path := config.getoption("--promises"):
        config.pluginmanager.register(PromiseTable(Path(path)))


class PromiseTable:
    """Collects the outcomes of one run and writes them at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table: Table = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of one proof: its last report carries what it was about."""
        if report.failed:
            self._failed.add(report.nodeid)
        told: dict[str, Any] = dict(report.user_properties)
        if report.when != "teardown" or "promise" not in told:
            return
        outcome = "BROKEN" if report.nodeid in self._failed else told["outcome"]
        row = self._table.setdefault(told["promise"], {})
        if row.get(told["subject"]) != "BROKEN":  # one failed proof of several is enough
            row[told["subject"]] = outcome

    def pytest_sessionfinish(self) -> None:
        """Write the table."""
        if self._table:
            known = read_table(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
            rows = {**self._table, **{promise: {} for promise in known if promise not in self._table}}
            merged = {promise: {**known.get(promise, {}), **row} for promise, row in rows.items()}
            self._path.write_text(write_table(merged), encoding="utf-8")


def read_table(text: str) -> Table:
    """The table in `text`, a document that `write_table` wrote."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    if not cells:
        return {}
    backends = cells[0][1:]
    return {row[0]: dict(zip(backends, row[1:], strict=True)) for row in cells[2:]}


def write_table(table: Mapping[str, Mapping[str, str]]) -> str:
    """The document with `table`."""
    backends = list(dict.fromkeys(backend for row in table.values() for backend in row))
    lines = [["promise", *backends], ["---"] * (len(backends) + 1)]
    lines += [[promise, *(row.get(backend, "") for backend in backends)] for promise, row in table.items()]
    return HEADER + "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
