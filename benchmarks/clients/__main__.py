"""Clients over HTTP: ours, plain ones and other libraries, each measured with the floor in one process.

Makes a virtual environment for each library (scripts/peer NAME, from benchmarks/peers/NAME). With --write the
figures go to benchmarks/results/clients.json and a plot of them to docs/clients.svg (the extra `plot`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.clients.measure import measure
from benchmarks.clients.tables import tables

NAME = "clients"
RESULTS = Path(__file__).parent.parent / "results" / "clients.json"
PLOT = report.DOCS.parent / "clients.svg"


def write(figures: dict[str, Any]) -> None:
    from benchmarks.clients.plot import plot

    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    plot(figures, PLOT)


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables, write=write)
