"""The number of files and functions that a reader, and Python, goes through for one streamed call."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import call_path

#: In a process of its own: what other tests have loaded (tracing, metrics) takes part in calls.
CODE = (
    "import json; from benchmarks import call_path; print(json.dumps(call_path.measure(True)['functions']))"
)


def test_files_and_calls_of_a_streamed_call():
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    for name in ("messages, sync", "messages, async"):
        assert len(call_path.files(figures[name])) <= call_path.MOST_FILES, call_path.files(figures[name])
        assert sum(figures[name].values()) <= call_path.MOST_CALLS, figures[name]
