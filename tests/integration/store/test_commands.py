"""`lagent-llms journal`, the options of the other commands, and what docs/journal.md shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lagent_llms.testing import ScriptedLLM

PAGE = (Path(__file__).parents[3] / "docs" / "journal.md").read_text(encoding="utf-8")
COMMAND = [sys.executable, "-c", "from lagent_llms.cli import main; main()"]


def run(*arguments, cwd=None):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def journal(tmp_path):
    scripts = iter(["blue", [ValueError("rain")], "green"])
    with ScriptedLLM(lambda _: next(scripts), meta_template="chatml", journal=tmp_path / "j.sqlite") as llm:
        llm.chat("What colour has\nthe sea?")
        with pytest.raises(ValueError):
            llm.chat("And the sky?")
        llm.generate("grass")
    return tmp_path / "j.sqlite"


def test_calls_are_listed_and_searched(journal):
    listed = run("journal", journal).stdout
    assert "What colour has the sea? -> blue" in listed
    assert "And the sky? -> rain" in listed
    assert "grass -> green" in listed
    assert [line.split()[0] for line in listed.splitlines()[::2]] == ["1", "2", "3"]
    assert "blue" not in run("journal", journal, "--last", "2").stdout
    assert "ValueError" in run("journal", journal, "--failed").stdout
    assert run("journal", journal, "--search", "the sky").stdout.splitlines()[0].split()[0] == "2"


def test_calls_are_exported(journal):
    lines = [json.loads(line) for line in run("journal", journal, "--jsonl").stdout.splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 3]
    assert lines[0]["messages"] == [{"role": "user", "content": "What colour has\nthe sea?"}]
    assert lines[0]["completion"]["text"] == "blue"
    assert lines[1]["error"] == {"type": "ValueError", "message": "rain"}
    assert lines[2]["prompt"] == "grass"


def test_a_missing_journal_is_said(tmp_path):
    done = run("journal", tmp_path / "missing.sqlite")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no journal ")


def test_options_of_the_chat(tmp_path):
    config = tmp_path / "llm.yaml"
    config.write_text("{type: lagent_llms.testing.ScriptedLLM, script: HELLO, meta_template: chatml}")
    file = tmp_path / "calls.sqlite"
    done = run("chat", "a question", "--config", config, "--journal", file, "--no-content")
    assert done.stdout == "HELLO\n", done.stderr
    (call,) = map(json.loads, run("journal", file, "--jsonl").stdout.splitlines())
    assert call["finish_reason"] == "stop"
    assert (call["messages"], call["text"]) == (None, None)
    assert b"a question" not in file.read_bytes()
    done = run("chat", "x", "--config", config, "--no-content")
    assert (done.returncode, done.stderr) == (1, "error: --no-content needs --journal FILE\n")
    done = run("chat", "x", "--config", config, "--journal", tmp_path)
    assert done.returncode == 1
    assert "is no regular file" in done.stderr


def test_the_page_runs(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    printed = []
    for language, text in re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL):
        command = ["sh", "-e", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    commands, _, replayed = printed
    assert "What is the capital of France? -> The capital of France is Paris." in commands
    assert '"text":"The capital of France is Paris."' in commands
    assert replayed.startswith("The capital of France is Paris.\nthe journal calls.sqlite has no call with")
    assert "+user: What is the capital of Spain?" in replayed
    assert (
        re.search(r"```\nthe journal .*?```", PAGE, re.DOTALL)[0].strip("`\n").splitlines()[3:]
        == (replayed.rstrip().splitlines()[4:])
    )
