"""Fixed costs of a client: import time, memory, and the size of its installation."""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.clients.contract import Client

__all__ = ["import_ms", "installed", "once", "peers_python"]

#: Prints the number of distributions that a distribution needs, itself included, and their bytes on disk.
_SIZES = """
import importlib.metadata as metadata, json, pathlib, re, sys
def name_of(text):
    return re.sub(r"[-_.]+", "-", re.match(r"[\\w.-]+", text)[0]).lower()
def wanted(requirement):
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement
    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate({"extra": ""})
def size(distribution):
    origin = distribution.read_text("direct_url.json")
    if origin and json.loads(origin).get("dir_info", {}).get("editable"):
        root = pathlib.Path(json.loads(origin)["url"].removeprefix("file://")) / distribution.name
        files = [path for path in root.rglob("*") if path.suffix != ".pyc"]
    else:
        files = [distribution.locate_file(file) for file in distribution.files or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in map(pathlib.Path, files) if path.is_file())
found, todo = {}, [sys.argv[1]]
while todo:
    name = name_of(todo.pop())
    if name in found:
        continue
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue  # for another platform or an extra
    found[name] = size(distribution)
    todo += [text for text in distribution.requires or () if wanted(text)]
version, size = metadata.version(sys.argv[1]), sum(found.values())
print(json.dumps({"version": version, "dists": len(found), "mb": size / 1e6}))
"""
_IMPORT = "import time\nbegan = time.process_time()\n{}\nprint(time.process_time() - began)"


def _python(python: str, *arguments: str) -> str:
    command = [python, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


def installed(python: str, client: Client) -> dict[str, Any]:
    """Return the version, and the number and megabytes of the distributions, without bytecode."""
    found: dict[str, Any] = json.loads(_python(python, "-c", _SIZES, client.distribution))
    return found


def import_ms(python: str, client: Client, rounds: int) -> float:
    """Return the CPU time of the import in a fresh interpreter, in ms."""
    code = _IMPORT.format(client.imports)
    return statistics.median(float(_python(python, "-c", code)) for _ in range(rounds)) * 1e3


def once(python: str, peer: str, port: int, name: str, streams: int, rounds: int) -> dict[str, float]:
    """Return CPU ms and peak memory (MB) of a fresh process that reads `streams` answers at once."""
    command = ["-m", "benchmarks.clients.worker", "once", peer, str(port), name, str(streams)]
    runs = [json.loads(_python(python, *command)) for _ in range(rounds)]
    return {
        "cpu_ms": statistics.median(run["cpu_s"] for run in runs) * 1e3,
        "peak_mb": statistics.median(run["peak_mb"] for run in runs),
    }


def peers_python(peer: str) -> str:
    """Return the interpreter of a peer's virtual environment; create the environment if it is missing."""
    root = Path(__file__).parent.parent.parent
    subprocess.run(["sh", str(root / "scripts" / "peer"), peer], check=True)
    return str(root / f".venv-{peer}" / "bin" / "python")
