"""Start-up time: the import, the packages it loads, and the first token of the embedded model.

Every figure is from a fresh interpreter. The import is CPU time beyond that of an empty interpreter, measured
in turns; the first token is wall time from the start of the process, and CPU time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import report

NAME = "start_up"
HEAVY = ("requests", "urllib3", "aiohttp", "grpc", "jax", "torch", "lmdeploy", "numpy", "yaml", "msgspec")
IMPORTS = {
    "nothing": "",
    "import lagent_llms": "import lagent_llms",
    "create_llm, BaseLLM": "from lagent_llms import BaseLLM, create_llm",
    "LMDeployClient": "from lagent_llms import LMDeployClient",
    "requests (for comparison)": "import requests",
}
LOADED = "\nimport sys\nprint(*[name for name in {heavy!r} if name in sys.modules])"
USED = (
    "\nimport resource\nused = resource.getrusage(resource.RUSAGE_SELF)\nprint(used.ru_utime + used.ru_stime)"
)
FIRST = """
import time
from lagent_llms import create_llm
llm = create_llm(cache_dir={cache!r})
made = time.time()
stream = llm.stream_chat([{{"role": "user", "content": "What is the capital of France?"}}])
next(stream)
at = time.time()
import json
print(json.dumps([made, at, time.process_time()]))
stream.close()
llm.close()
"""


def python(code: str) -> str:
    """Run `code` in a fresh interpreter; return its output."""
    return subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout


def first_token(cache: str) -> dict[str, float]:
    began = time.time()
    made, at, cpu = json.loads(python(FIRST.format(cache=cache)).splitlines()[-1])
    return {"ready": made - began, "first_token": at - began, "cpu": cpu}


def measure(quick: bool) -> dict[str, Any]:
    imports: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(3 if quick else 25):
        for name, code in IMPORTS.items():
            imports[name].append(float(python(code + USED)))
    loaded = {name: python(code + LOADED.format(heavy=HEAVY)).strip() for name, code in IMPORTS.items()}
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(1 if quick else 3):
        with tempfile.TemporaryDirectory() as cache:
            runs["cold"].append(first_token(cache))
            runs["warm"] += [first_token(cache) for _ in range(1 if quick else 4)]
    figures = {
        state: {
            key: {
                "best": min(run[key] for run in found),
                "median": statistics.median(run[key] for run in found),
            }
            for key in found[0]
        }
        for state, found in runs.items()
    }
    floor = imports.pop("nothing")
    return {
        "import_ms": {
            name: {
                "best": (min(times) - min(floor)) * 1e3,
                "median": (statistics.median(times) - statistics.median(floor)) * 1e3,
            }
            for name, times in imports.items()
        },
        "loaded": {name: loaded[name] for name in imports},
        "first_token": figures,
    }


def tables(figures: dict[str, Any]) -> str:
    imports = report.table(
        ("import", "ms of CPU, best", "median", "of the heavy packages, loaded"),
        [
            (f"`{name}`", f"{ms['best']:.0f}", f"{ms['median']:.0f}", figures["loaded"][name] or "none")
            for name, ms in figures["import_ms"].items()
        ],
    )
    first = report.table(
        ("compile cache", "first token, s, best", "median", "of it until loaded", "s of CPU, best"),
        [
            (
                state,
                *(f"{row['first_token'][kind]:.2f}" for kind in ("best", "median")),
                f"{row['ready']['best']:.2f}",
                f"{row['cpu']['best']:.2f}",
            )
            for state, row in figures["first_token"].items()
        ],
    )
    return f"{imports}\n\nHeavy packages looked for: {', '.join(HEAVY)}.\n\n{first}"


if __name__ == "__main__":
    os.environ.pop("LAGENT_LLM_CONFIG", None)
    report.main(NAME, __doc__, measure, tables, packages=("jax", "numpy"))
