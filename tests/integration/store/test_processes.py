"""Processes that share a cache and a journal, and processes that are killed while they write them."""

import json
import random
import signal
import sqlite3
import subprocess
import sys

import pytest

from lagent_llms.store.journal_reader import JournalReader

BATCH = [sys.executable, "-c", "from lagent_llms.cli import main; main()", "batch"]
ROWS = 300

#: Calls a model, and prints the number of each call that is written.
CALLER = """
import sys
from lagent_llms.testing import ScriptedLLM

cache, journal = sys.argv[1:]
llm = ScriptedLLM("answer " * 500, temperature=0, cache=cache, journal=journal)
for number in range(1_000_000):
    llm.generate(str(number))
    if number % 20 == 0:
        llm.journal.flush()
        print(number, flush=True)
"""


@pytest.fixture
def url():
    command = [sys.executable, "-m", "tests.integration.batch.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


@pytest.fixture
def batch(tmp_path, url):
    """The command of a batch with a cache and a journal; its argument is the name of the output."""
    rows, config = tmp_path / "rows.jsonl", tmp_path / "llm.yaml"
    rows.write_text("".join(json.dumps({"prompt": f"q{number}"}) + "\n" for number in range(ROWS)))
    config.write_text(json.dumps({"type": "LMDeployClient", "url": url, "temperature": 0, "model_name": "m"}))
    kept = ["--cache", str(tmp_path / "cache"), "--journal", str(tmp_path / "calls.sqlite")]

    def batch(output, *options):
        return [*BATCH, str(rows), str(tmp_path / output), "--config", str(config), *kept, *options]

    return batch


def calls(tmp_path):
    reader = JournalReader(tmp_path / "calls.sqlite")
    try:
        return list(reader.calls())
    finally:
        reader.close()


def stored(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_processes_share_a_cache_and_a_journal(batch, tmp_path):
    jobs = [
        subprocess.Popen(batch(f"{number}.jsonl"), stderr=subprocess.PIPE, text=True) for number in range(3)
    ]
    for job in jobs:
        _, errors = job.communicate()
        assert job.returncode == 0, errors
    done = subprocess.run(batch("last.jsonl", "--summary"), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["cached"] == ROWS
    assert f"{ROWS} of them were answered from the cache" in done.stderr
    found = calls(tmp_path)
    assert len(found) == 4 * ROWS
    assert {call.text for call in found} == {f"answer to q{number}" for number in range(ROWS)}
    for output in ("0", "1", "2", "last"):
        assert {row["text"] for row in stored(tmp_path / f"{output}.jsonl")} == {call.text for call in found}


def test_a_stored_row_of_a_killed_batch_is_in_the_journal(batch, tmp_path):
    output = tmp_path / "out.jsonl"
    with subprocess.Popen(batch("out.jsonl", "--max-concurrency", "1"), stderr=subprocess.DEVNULL) as job:
        while not output.exists() or not output.stat().st_size:
            assert job.poll() is None
        job.kill()
    rows = [line for line in output.read_bytes().split(b"\n")[:-1] if line]
    assert rows
    assert {json.loads(row)["text"] for row in rows} <= {call.text for call in calls(tmp_path)}


def test_killed_writers_lose_nothing_that_was_flushed(tmp_path):
    moments = random.Random(0)
    cache, journal = tmp_path / "cache", tmp_path / "calls.sqlite"
    written = 0
    for _ in range(6):
        command = [sys.executable, "-c", CALLER, str(cache), str(journal)]
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for writer in writers:
            assert writer.stdout.readline() == "0\n"
        stop_at = moments.randrange(1, 8)
        seen = [0, 0]
        for place, writer in enumerate(writers):
            for _ in range(stop_at):
                seen[place] = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            rest = writer.communicate()[0].split()
            written += (int(rest[-1]) if rest else seen[place]) + 1
    for path in (journal, *cache.glob("*.sqlite")):
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    found = calls(tmp_path)
    assert len(found) >= written
    assert {call.text for call in found} == {"answer " * 500}
