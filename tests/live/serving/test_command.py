"""`lagent-llms serve` as a user starts it, called by the openai package, LangChain and curl."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ANSWER = "The capital of France is Paris."


@contextlib.contextmanager
def serving(*arguments):
    """The address that ``lagent-llms serve`` says it listens on, and its whole greeting."""
    code = "from lagent_llms.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Ctrl-C"):
                    break
            assert "".join(lines).startswith("listening on "), lines
            yield lines[0].split()[2], "".join(lines)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.fixture(scope="module")
def jax():
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def remote(jax, tmp_path_factory):
    """The same command before a remote backend: LMDeployClient, which speaks to the first server."""
    file = tmp_path_factory.mktemp("remote") / "llm.yaml"
    file.write_text(f"type: LMDeployClient\nurl: {jax[0]}\nmodel_name: embedded\ntemperature: 0\n")
    with serving("--config", str(file), "--model", "embedded") as found:
        yield found


@pytest.fixture(scope="module", params=["jax", "remote"])
def url(request):
    return request.getfixturevalue(request.param)[0]


def test_the_openai_package_and_langchain(url):
    subprocess.run(["sh", str(ROOT / "scripts/peer"), "openai-clients"], check=True)
    python = ROOT / ".venv-openai-clients/bin/python"
    script = ROOT / "tests/peers/openai-clients/ask.py"
    told = subprocess.run(
        [python, script, f"{url}/v1", "embedded"], capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stderr
    answers = json.loads(told.stdout)
    assert answers.pop("models") == ["embedded"]
    assert set(answers.values()) == {ANSWER}


def test_curl_as_the_greeting_says(jax):
    _, greeting = jax
    command = greeting[greeting.index("  curl") : greeting.index("\n\n  from openai")]
    told = subprocess.run(["sh", "-c", command.replace("curl", "curl -s")], capture_output=True, text=True)
    assert json.loads(told.stdout)["choices"][0]["message"]["content"] == ANSWER
