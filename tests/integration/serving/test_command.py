"""`lagent-llms serve`, called by openai, openai-agents, anthropic, LangChain, smolagents and curl."""

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lagent_llms import OpenAIClient
from tests import lmdeploy_peer

ROOT = Path(__file__).parents[3]
SERVE = [sys.executable, "-c", "from lagent_llms.cli import main; main()", "serve"]
ANSWER = "The capital of France is Paris."


@contextlib.contextmanager
def serving(*arguments):
    """The URL that ``lagent-llms serve`` listens on, and its whole banner."""
    command = [*SERVE, "--port", "0", *arguments]
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
def remote(tmp_path_factory):
    """The same command over a remote backend: lmdeploy's own api_server."""
    file = tmp_path_factory.mktemp("remote") / "llm.yaml"
    with lmdeploy_peer.api_server() as peer:
        # Our template formats the tools: lmdeploy's own needs a tool parser configured.
        named = f"type: LMDeployClient\nurl: {peer.url}\nmodel_name: {lmdeploy_peer.NAME}\n"
        file.write_text(f"{named}meta_template: internlm2-lagent\n")
        with serving("--config", str(file), "--model", "embedded") as found:
            yield found


@pytest.fixture(scope="module", params=["jax", "remote"])
def url(request):
    return request.getfixturevalue(request.param)[0]


@pytest.fixture(scope="module")
def python():
    """The Python of the environment with third-party clients and agents."""
    subprocess.run(["sh", str(ROOT / "scripts/peer"), "openai-clients"], check=True)
    return ROOT / ".venv-openai-clients/bin/python"


@pytest.mark.parametrize("framework", ["langchain", "smolagents", "openai_agents", "anthropic"])
def test_an_agent_of_another_framework(url, python, framework):
    script = ROOT / "examples" / f"{framework}_agent.py"
    done = subprocess.run(
        [python, script, "What is 231 * 17?", "--url", f"{url}/v1"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3927" in done.stdout
    assert done.stdout.strip().endswith("231 * 17 = 3927.")


def test_the_openai_and_anthropic_packages_and_langchain(url, python):
    script = ROOT / "tests/peers/openai-clients/ask.py"
    done = subprocess.run(
        [python, script, f"{url}/v1", "embedded"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers.pop("models") == ["embedded"]
    assert set(answers.values()) == {ANSWER}


def test_the_curl_command_of_the_banner(url, request):
    kind = "jax" if url == request.getfixturevalue("jax")[0] else "remote"
    banner = request.getfixturevalue(kind)[1]
    command = banner[banner.index("  curl") : banner.index("\n\n  from openai")]
    command = command.replace("curl", "curl -s").replace('"messages"', '"temperature": 0, "messages"')
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == ANSWER


def test_a_server_without_a_configuration_file(jax):
    with serving("--url", f"{jax[0]}/v1", "--model", "embedded") as (url, banner):
        assert "model 'embedded' on OpenAIClient" in banner
        with OpenAIClient(url, temperature=0) as llm:
            assert llm.models() == ["embedded"]
            assert llm.chat("What is the capital of France?") == ANSWER


def test_the_openai_example_of_the_banner(jax):
    """The printed lines run unchanged."""
    subprocess.run(["sh", str(ROOT / "scripts/peer"), "openai-clients"], check=True)
    banner = jax[1]
    lines = banner[banner.index("  from openai") : banner.index("\n\nCtrl-C")]
    code = (
        textwrap.dedent(lines).replace("client.chat", "print(client.chat", 1) + ".choices[0].message.content)"
    )
    done = subprocess.run(
        [ROOT / ".venv-openai-clients/bin/python", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def refused(*arguments):
    return subprocess.run([*SERVE, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "--port=99999"),
        (["--config", "/no/such/file.yaml"], "no/such/file"),
        (["--set", "temprature=1"], "did you mean 'temperature'"),
    ],
)
def test_errors_are_one_line(arguments, message):
    code = "from lagent_llms.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_reported():
    with serving() as (url, _):
        port = url.rpartition(":")[2]
        done = refused("--port", port)
    assert done.returncode == 1
    assert "cannot be listened on" in done.stderr
