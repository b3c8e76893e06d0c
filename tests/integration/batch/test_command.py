"""`lagent-llms batch`: statuses, signals, standard input and the forms of files."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-c", "from lagent_llms.cli import main; main()", "batch"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, **options)


def stored(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def scripted(tmp_path):
    """A configuration of a model that answers from a script."""

    def scripted(script):
        path = tmp_path / "llm.yaml"
        settings = {"type": "lagent_llms.testing.ScriptedLLM", "script": script, "meta_template": "chatml"}
        path.write_text(json.dumps(settings))  # JSON is YAML
        return path

    return scripted


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": str(number)}) + "\n" for number in range(20)))
    return path


def test_the_embedded_model_answers_and_the_same_command_continues(tmp_path):
    rows, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    question = {"id": "fr", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    rows.write_text(json.dumps(question) + "\n{broken\n")
    done = run(rows, output, "--set", "temperature=0", "--summary")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    assert (summary["rows"], summary["failed"]) == (2, 1)
    answer, broken = sorted(stored(output), key=lambda row: row["row"])
    assert answer["text"] == "The capital of France is Paris."
    assert answer["message"] == {"role": "assistant", "content": answer["text"]}
    assert answer["usage"]["completion_tokens"] > 5
    assert broken["error"]["message"].startswith("line 2: ")
    assert "2 rows in" in done.stderr
    assert "1 row failed, 0 rows retried" in done.stderr
    assert "the first failure: row 1: line 2: " in done.stderr
    rows.write_text(json.dumps(question) + "\n" + json.dumps({**question, "id": "again"}) + "\n")
    done = run(rows, output, "--set", "temperature=0", "--retry-errors")
    assert done.returncode == 0, done.stderr
    assert {row["id"] for row in stored(output)} == {"fr", "again"}
    assert "1 of them is from earlier runs" in done.stderr


def test_standard_input(scripted, tmp_path):
    done = run("-", tmp_path / "out", "--config", scripted("ok"), input='{"prompt": "a"}\n')
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path / "out")[0]["text"] == "ok"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_rows_that_run(scripted, rows, tmp_path, number):
    output = tmp_path / "out"
    command = [*COMMAND, str(rows), str(output), "--config", str(scripted(["a", 0.5, "b"]))]
    with subprocess.Popen([*command, "--max-concurrency", "2"], stderr=subprocess.PIPE, text=True) as process:
        while not output.exists() or not output.stat().st_size:
            assert process.poll() is None
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "finishing 2 rows" in errors
    assert "ended early: interrupted; the same command continues" in errors
    assert 2 <= len(stored(output)) < 20
    assert {row["text"] for row in stored(output)} == {"ab"}
    done = run(rows, output, "--config", scripted("later"))
    assert done.returncode == 0
    assert len(stored(output)) == 20


def test_a_second_signal_stops_at_once(scripted, rows, tmp_path):
    output = tmp_path / "out"
    rows.write_text("broken\n" + rows.read_text())  # stored at once, which shows that the job runs
    command = [*COMMAND, str(rows), str(output), "--config", str(scripted(["a", 3600.0, "b"]))]
    command += ["--max-concurrency", "20"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not output.exists() or not output.stat().st_size:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert "finishing 20 rows" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert len(stored(output)) == 1


def test_too_many_failures(rows, scripted, tmp_path):
    rows.write_text("broken\n" * 20)
    done = run(rows, tmp_path / "out", "--config", scripted("ok"), "--max-failures", "3")
    assert done.returncode == 1
    assert "ended early: 20 of 20 rows failed" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt-template", "{text}"], "--prompt-template: the input has no column 'text'"),
        (["--max-failures", "some"], "--max-failures='some': allowed is"),
        (["--set", "temperatur=0"], "did you mean 'temperature'"),
        (["--actors", "2"], "--actors: only with --ray"),
    ],
)
def test_bad_options_are_one_sentence(rows, scripted, tmp_path, options, message):
    done = run(rows, tmp_path / "out", "--config", scripted("ok"), *options)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("rows", "output", "options", "message"),
    [
        ("none.jsonl", "out", [], "cannot read the input none.jsonl: No such file"),
        ("rows.jsonl", "no/out", [], "cannot write the output no/out: No such file"),
        ("rows.jsonl", "out", ["--prompt-template", "{a"], "--prompt-template: '{a'"),
        ("rows.jsonl", "out", ["--max-failures", "x"], "--max-failures='x'"),
    ],
)
def test_files_and_options_are_checked_before_the_model_is_started(rows, output, options, message, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "llm.yaml").write_text('{"type": "JAXPipeline", "path": "no/such/model"}')
    done = run(rows, output, "--config", "llm.yaml", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "no/such/model" not in done.stderr


def test_a_full_disk_ends_the_job_with_one_sentence_and_it_continues(rows, scripted, tmp_path):
    """The limit on the size of a file stands for a full disk."""
    command = [*COMMAND, str(rows), "out", "--config", str(scripted("x" * 200))]
    limited = ["sh", "-c", 'trap "" XFSZ; ulimit -f 4; exec "$@"', "sh", *command]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write the output out: File too large; the same command continues\n"
    whole = len(stored(tmp_path / "out"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert sorted(row["row"] for row in stored(tmp_path / "out")) == list(range(20))
    assert f"{whole} of them" in done.stderr or not whole


def test_progress_at_a_terminal(rows, scripted, tmp_path):
    """The number of rows, their rate and the time left are on one line."""
    ours, theirs = pty.openpty()
    wide = {**os.environ, "COLUMNS": "160", "TERM": "xterm"}
    command = [*COMMAND, str(rows), str(tmp_path / "out"), "--config", str(scripted(["a", 0.3, "b"]))]
    with subprocess.Popen([*command, "--max-concurrency", "2"], stderr=theirs, env=wide) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the process has ended
            while more := os.read(ours, 4096):
                shown += more
    os.close(ours)
    assert process.returncode == 0
    assert re.search(
        r"/20.*0 failed, 0 retried, 2 in flight, \d+\.\d rows/s, \d+ tokens/s, about 0:00:", shown.decode()
    )


def test_an_output_that_is_no_output(rows, scripted):
    done = run(rows, rows, "--config", scripted("ok"))
    assert done.returncode == 1
    assert "is no output of a batch job" in done.stderr
    assert len(rows.read_text().splitlines()) == 20


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl.zst"])
def test_forms_of_files(scripted, tmp_path, ending):
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet
    import zstandard

    path, columns = tmp_path / f"rows.{ending}", {"id": ["a", "b"], "text": ["寿司", "x"]}
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif ending == "csv":
        pyarrow.csv.write_csv(pyarrow.table(columns), path)
    else:
        lines = b'{"id": "a", "text": "1"}\n', b'{"id": "b", "text": "2"}\n'
        path.write_bytes(b"".join(map(zstandard.ZstdCompressor().compress, lines)))
    done = run(path, tmp_path / "out", "--config", scripted("ok"), "--prompt-template", "Read {text}.")
    assert done.returncode == 0, done.stderr
    assert {row["id"] for row in stored(tmp_path / "out")} == {"a", "b"}
