"""On a cluster of several nodes: `generate` and its errors, and batch jobs that survive deaths of all kinds.

One file, so that one process of pytest has the cluster.
"""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from lagent_llms import ConfigError, InvalidArgument, LLMError
from lagent_llms import run_batch as run_here
from lagent_llms.ray import generate, run_batch
from lagent_llms.testing import ScriptedLLM

from .conftest import ROOT

ECHO = {"type": "tests.integration.ray.models.Echo", "meta_template": "chatml", "max_new_tokens": 8}
RETRY = {"base": 0.01}
ERROR = "__inference_error__"
COMMAND = [sys.executable, "-c", "from lagent_llms.cli import main; main()", "batch"]
ROWS = 240


@pytest.fixture(scope="module")
def data(cluster):
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data


def by_number(dataset):
    return {row["number"]: row for row in dataset.take_all()}


def test_prompts_parameters_errors_and_details(data):
    rows = [{"number": n, "prompt": f"p{n}", "given": {"max_tokens": n + 1, "seed": None}} for n in range(50)]
    rows[7]["prompt"] = "unlucky"
    rows[8]["prompt"] = ""
    answered = generate(
        data.from_items(rows), ECHO, parameters="given", details="details", actors=2, max_concurrency=4
    )
    found = by_number(answered)
    assert len(found) == 50
    for number, row in found.items():
        assert row["given"]["max_tokens"] == number + 1  # the other columns stay
        if number in (7, 8):
            assert row["answer"] is None
            assert row["details"] is None
            continue
        assert row["answer"].split()[1:] == [f"p{number}", str(number + 1)]
        assert row[ERROR] == ""
        details = json.loads(row["details"])
        assert details["message"] == {"role": "assistant", "content": row["answer"]}
        assert details["finish_reason"] == "stop"
    assert found[7][ERROR] == "ServerError: no answer to this"
    assert found[8][ERROR] == "InvalidArgument: inputs: the prompt is empty"


def test_messages_and_bodies_and_a_second_model_on_the_answers(data):
    message = {"role": "user", "content": "寿司"}
    rows = [
        {"number": 0, "body": {"messages": [message], "max_tokens": 3, "model": "any", "prompt": None}},
        {"number": 1, "body": {"messages": None, "max_tokens": None, "model": None, "prompt": "Hi"}},
        {"number": 2, "body": {"messages": None, "max_tokens": 5, "model": None, "prompt": "unlucky"}},
    ]
    first = generate(data.from_items(rows), ECHO, input="body", output="first")
    found = by_number(generate(first, ECHO, prompt_template="Again: {first}", output="second", seed=1))
    assert "<im_start|>user\n寿司<im_end|>" in found[0]["first"]
    assert found[0]["first"].endswith(" 3")
    assert found[1]["first"].endswith(" Hi 8")
    assert f"Again: {found[1]['first']} 8" in found[1]["second"]
    assert found[2]["second"] is None
    assert found[2][ERROR] == "ServerError: no answer to this"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input": "promt"}, InvalidArgument, r"no column 'promt', did you mean 'prompt'\? \(columns: "),
        ({"prompt_template": "{text}"}, InvalidArgument, "no column 'text'"),
        ({"output": "prompt"}, InvalidArgument, "output='prompt': the dataset has that column"),
        ({"temperatur": 0}, ConfigError, "did you mean 'temperature'"),
        ({"temperature": -1}, InvalidArgument, "temperature=-1: allowed is"),
        ({"actors": 0}, InvalidArgument, "actors=0: allowed is"),
        ({"actors": (3, 2)}, InvalidArgument, r"actors=\(3, 2\): allowed is a least number"),
        ({"actors": 50}, ConfigError, "actors=50: the cluster has room for 6 actors with 1 CPU each"),
        ({"num_gpus": 1}, ConfigError, "room for 0 actors with 1 CPU, 1 GPU each"),
        ({"llm": {"type": "LMDeployClient", "url": "no url"}}, LLMError, "url"),
    ],
)
def test_refused_before_an_actor_starts(data, arguments, error, message):
    with pytest.raises(error, match=message):
        generate(data.from_items([{"number": 0, "prompt": "p"}]), **{"llm": ECHO, **arguments})


@pytest.fixture
def rows(tmp_path):
    """Rows in the forms of a batch; one fails, and the last line is broken."""
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            message = [{"role": "user", "content": f"寿司 {number}"}]
            row = [
                {"prompt": f"p{number}", "max_new_tokens": 3},
                {"id": f"r{number}", "messages": message},
                {"custom_id": f"c{number}", "url": "/v1/chat/completions", "body": {"messages": message}},
            ][number % 3]
            file.write(json.dumps(row if number else {"prompt": "unlucky"}) + "\n")
        file.write("{broken\n")
    return path


def settings(pause):
    return {**ECHO, "pause": pause, "max_concurrency": 4}


def lines_of(folder):
    """The lines that the actors have stored so far."""
    return [line for path in folder.glob("*.jsonl") for line in path.read_bytes().split(b"\n")[:-1]]


def process_of(line):
    """The process of the actor that stored an answer, None for an error."""
    text = json.loads(line).get("text")
    return text and int(text.split()[0])


def check_complete(output):
    """Every row is there once, with its own answer, and no shard is left."""
    found = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert sorted(row["row"] for row in found) == list(range(ROWS + 1))
    for row in found:
        number = row["row"]
        if number in (0, ROWS):
            assert row["error"]
            continue
        assert row["id"] == [None, f"r{number}", f"c{number}"][number % 3]
        assert (f"p{number} 3" if number % 3 == 0 else f"寿司 {number}<im_end|>") in row["text"]
    assert not output.with_name(output.name + ".shards").exists()
    return found


def test_the_driver_is_killed_and_the_same_command_continues(cluster, rows, tmp_path):
    output, config, shards = (tmp_path / name for name in ("out", "llm.yaml", "out.shards"))
    config.write_text(json.dumps(settings(0.3)))  # JSON is YAML
    command = [*COMMAND, str(rows), str(output), "--config", str(config), "--ray", cluster.address]
    options = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen([*command, "--actors", "2"], **options) as process:
        while len(lines_of(shards)) < 20:
            assert process.poll() is None, process.stderr.read()
        process.kill()
    stored = lines_of(shards)
    assert len(stored) < ROWS
    with subprocess.Popen([*command, "--actors", "3", "--summary"], **options) as process:
        printed, errors = process.communicate()
    assert process.returncode == 3, errors
    found = check_complete(output)
    summary = json.loads(printed)
    assert summary["earlier"] >= len(stored)  # what was stored is not run again
    assert (summary["rows"], summary["failed"]) == (ROWS + 1, 2)
    kept = {row["row"]: row for row in map(json.loads, stored)}
    assert {row["row"]: row for row in found if row["row"] in kept} == kept


def test_interrupted_and_continued_on_one_machine(cluster, rows, tmp_path):
    """Leaving the loop keeps what is stored; `run_batch` without a cluster continues."""
    output = tmp_path / "out"
    with run_batch(settings(0.0), rows, output, actors=1) as run:
        for summary in run:
            if summary.rows > 20:
                break
    assert run.summary.stopped == "interrupted"
    stored = len(output.read_bytes().splitlines())
    assert stored > 20
    with run_here(ScriptedLLM("here", meta_template="chatml"), rows, output) as rest:
        assert len([*rest]) == ROWS + 1 - stored


def test_the_summary_counts_retries_cached_answers_and_failures(cluster, tmp_path):
    """One call at a time, so that the second of two equal ones finds the answer of the first."""
    given = {**ECHO, "max_concurrency": 1, "cache": str(tmp_path / "cache"), "temperature": 0, "retry": RETRY}
    prompts = ["flaky", "same", "same", "unlucky"]
    with run_batch(given, [{"prompt": one} for one in prompts], tmp_path / "out", actors=1) as run:
        summary = [*run][-1]
    assert (summary.rows, summary.retried, summary.cached, summary.failed) == (4, 1, 1, 1)
    assert summary.first_failure == "row 3: no answer to this"


def test_an_error_of_the_backend_on_a_node_ends_the_job(cluster, rows, tmp_path):
    with pytest.raises(ConfigError, match=r"\Apause=-1: there is no such pause on this node\Z"):
        list(run_batch(settings(-1), rows, tmp_path / "out", actors=1))
    assert len((tmp_path / "out").read_bytes().splitlines()) == 1  # the broken line of the input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ordered": True}, InvalidArgument, "ordered"),
        ({"output": None}, InvalidArgument, "output=None"),
        ({"actors": 50}, ConfigError, "the cluster has room for"),
        ({"overrides": {"paus": 1}}, ConfigError, "did you mean 'pause'"),
        ({"prompt_template": "{text}"}, InvalidArgument, "no column 'text'"),
    ],
)
def test_refused_before_anything_runs(cluster, rows, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        run_batch(settings(0.0), rows, **{"output": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists() or not (tmp_path / "out").read_bytes()


def test_an_actor_is_killed_and_then_a_node(cluster, rows, tmp_path):
    """The last test: the cluster has a node less then."""
    output, shards = tmp_path / "out", tmp_path / "out.shards"
    killed = []

    def kill_an_actor():
        killed.append(next(filter(None, map(process_of, lines_of(shards)))))
        os.kill(killed[0], signal.SIGKILL)

    def kill_a_node():
        alive = next(one for one in map(process_of, lines_of(shards)[::-1]) if one and psutil.pid_exists(one))
        parents = {parent.pid for parent in psutil.Process(alive).parents()}
        (node,) = (node for node in cluster.worker_nodes if parents & raylets_of(node))
        cluster.remove_node(node, allow_graceful=False)
        killed.append(alive)

    events = {20: kill_an_actor, 100: kill_a_node}
    with run_batch(settings(0.3), rows, output, actors=3) as run:
        for summary in run:
            if events and summary.rows > min(events):
                events.pop(min(events))()
    assert not events
    assert (run.summary.rows, run.summary.failed, run.summary.stopped) == (ROWS + 1, 2, "")
    found = check_complete(output)
    processes = {int(row["text"].split()[0]) for row in found if row["error"] is None}
    assert set(killed) <= processes  # what they had stored counts
    assert len(processes) > 4  # others have taken their places


def raylets_of(node):
    return {one.process.pid for one in node.all_processes["raylet"]}
