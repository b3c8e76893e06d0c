"""lmdeploy's own programs under the embedded model, started once for all tests here.

test_pipeline.py runs where lmdeploy is installed (``.venv-lmdeploy``), all others where it is not.
"""

import importlib.util
from pathlib import Path

import pytest

from lagent_llms import JAXPipeline
from tests import lmdeploy_peer as peers

IN_PROCESS = ["test_pipeline.py"]
if importlib.util.find_spec("lmdeploy") is None:
    collect_ignore = IN_PROCESS
else:
    collect_ignore = [
        path.name for path in Path(__file__).parent.glob("test_*.py") if path.name not in IN_PROCESS
    ]


@pytest.fixture(scope="session")
def peer():
    """An api_server with adapters, on the pytorch engine."""
    with peers.api_server("--tool-call-parser", "internlm") as peer:
        yield peer


@pytest.fixture(scope="session")
def other_peer():
    """An api_server on the turbomind engine, with a key."""
    flags = ["--api-keys", "sk-right", "--backend", "turbomind"]
    headers = {"Authorization": "Bearer sk-right"}
    with peers.api_server(*flags, pytorch=False, headers=headers) as peer:
        yield peer


@pytest.fixture(scope="session")
def jax():
    """What every answer is compared with."""
    with JAXPipeline(temperature=0, max_new_tokens=64) as llm:
        yield llm
