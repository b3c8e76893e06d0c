"""The commands and the program of docs/batch.md run unchanged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "batch.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(command, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("commands", COMMANDS, ids=[text.split(" ")[0] for text in COMMANDS])
def test_commands(commands, tmp_path):
    printed = run(["sh", "-e", "-c", commands], tmp_path)
    for output in {"answers.jsonl", "numbers.jsonl", "cluster.jsonl", "second.jsonl"} & set(
        os.listdir(tmp_path)
    ):
        rows = [json.loads(line) for line in (tmp_path / output).read_bytes().splitlines()]
        assert sorted(row["row"] for row in rows) == list(range(len(rows)))
        assert all(row["error"] is None for row in rows)
    if "kill" in commands:
        first, last = (int(line.split()[0]) for line in printed.splitlines())
        assert 0 < first < last == 1000


JOB, DATASET, CACHE = PROGRAMS


@pytest.mark.parametrize(
    ("program", "printed"), [(JOB, ("0 ", "1 ")), (DATASET, ("one", "two"))], ids=["job", "dataset"]
)
def test_programs(program, printed, tmp_path):
    assert run([sys.executable, "-c", program], tmp_path).startswith(printed)


def test_program_of_the_cache(tmp_path):
    printed = [run([sys.executable, "-c", CACHE], tmp_path) for _ in range(2)]
    assert printed == ["False 0 1\n", "True 1 0\n"]
