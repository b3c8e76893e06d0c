"""A batch that is killed again and again at random moments: no row is lost, none is there twice."""

import json
import random
import subprocess
import sys

import pytest

ROWS = 100_000
KILLS = 200
COMMAND = [sys.executable, "-c", "from lagent_llms.cli import main; main()", "batch"]


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, "-m", "tests.integration.batch.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


@pytest.fixture
def job(tmp_path, url):
    """The command of a job of ROWS rows, and its output."""
    rows, config, output = (tmp_path / name for name in ("rows.jsonl", "llm.yaml", "out.jsonl"))
    with rows.open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            name = {"id": f"r{number}"} if number % 2 else {}
            file.write(json.dumps({**name, "prompt": f"寿司 {number}"}) + "\n")
    settings = {"type": "LMDeployClient", "url": url, "model_name": "m", "stream": False}
    config.write_text(json.dumps(settings))  # JSON is YAML
    return [*COMMAND, str(rows), str(output), "--config", str(config)], output


def check_complete(output):
    """Every row is there once, with its own answer."""
    found = set()
    for line in output.open("rb"):
        row = json.loads(line)
        number = row["row"]
        assert row["id"] == (f"r{number}" if number % 2 else None)
        assert row["text"] == f"answer to 寿司 {number}"
        assert row["error"] is None
        assert number not in found
        found.add(number)
    assert found == set(range(ROWS))


def test_killed_at_random_moments(job):
    command, output = job
    moments = random.Random(0)
    kills = completed = 0
    while not completed or kills < KILLS:
        limit = moments.uniform(0.1, 1.2) if kills < KILLS else None
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                _, errors = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                continue
        assert process.returncode == 0, errors
        check_complete(output)
        completed += 1
        output.unlink()
