"""Many requests at once from forks of one client: every answer is the right one, and nothing grows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.alone
def test_10000_requests_from_forks_with_threads_and_tasks():
    command = [sys.executable, "-m", "tests.integration.http.soak"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    *forks, summary = map(json.loads, done.stdout.splitlines())
    assert summary == {"most": 1000, "statuses": [0, 0, 0, 0]}
    for fork in forks:
        assert fork["wrong"] == []
        assert fork["seen"] == 2500
        (memory, files), (memory_at_end, files_at_end) = fork["half"], fork["end"]
        assert memory_at_end - memory < 8 << 10  # KiB
        assert files_at_end <= files
