"""lagent's own agents, from PyPI and unchanged, run on every backend that a subprocess can use."""

import subprocess
from pathlib import Path

import pytest

from .conftest import BACKENDS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
#: Backends whose packages, torch among them, the environment of lagent does not have.
ABSENT = {"HFTransformers"}


@pytest.fixture(scope="session")
def lagent():
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "lagent"], check=True)
    return ROOT / ".venv-lagent" / "bin" / "python"


@pytest.mark.parametrize("subject", [name for name in BACKENDS if name not in ABSENT], indirect=True)
def test_lagents_own_agents(lagent, config):
    done = subprocess.run(
        [lagent, EXAMPLES / "lagent_agents.py", "--config", config],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "Agent: The capital of France is Paris."
    for agent in ("StreamingAgent", "AsyncStreamingAgent"):
        streamed = [line.partition(": ")[2] for line in said if line.startswith(f"{agent}: ")]
        assert len(streamed) > 2
        assert streamed[0].startswith("STREAM_ING The")
        assert streamed[-1] == "END The capital of France is Paris."
    assert "AgentForInternLM: 231 * 17 = 3927." in said
    assert "    {'role': 'environment', 'content': '3927', 'name': 'plugin'}" in said
    assert "Agent, second turn: Your name is Alice." in said
    assert said.count("AsyncAgentForInternLM: 231 * 17 = 3927.") == 4
