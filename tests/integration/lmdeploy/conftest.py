"""lmdeploy's own programs with the embedded model, started once for all tests here.

test_parts.py and test_pipeline.py run where lmdeploy is installed (``.venv-lmdeploy``), the others where not.
"""

import importlib.util
from pathlib import Path

import pytest

from lagent_llms import JAXPipeline
from tests import lmdeploy_peer as peers

IN_PROCESS = ["test_parts.py", "test_pipeline.py"]
if importlib.util.find_spec("lmdeploy") is None:
    collect_ignore = IN_PROCESS
else:
    collect_ignore = [
        path.name for path in Path(__file__).parent.glob("test_*.py") if path.name not in IN_PROCESS
    ]


@pytest.fixture(scope="package")
def peer():
    """An api_server with adapters, on the pytorch engine."""
    with peers.api_server("--tool-call-parser", "internlm") as peer:
        yield peer


@pytest.fixture(scope="package")
def other_peer():
    """An api_server on the turbomind engine, with a key."""
    flags = ["--api-keys", "sk-right", "--backend", "turbomind"]
    headers = {"Authorization": "Bearer sk-right"}
    with peers.api_server(*flags, pytorch=False, headers=headers) as peer:
        yield peer


@pytest.fixture(scope="module")
def thinking_peer(tmp_path_factory):
    """An api_server that parses reasoning; the start of a tool call marks the end of the reasoning."""
    model = tmp_path_factory.mktemp("thinking")
    for file in peers.EMBEDDED_MODEL.iterdir():
        if file.suffix in (".json", ".safetensors"):
            (model / file.name).write_bytes(file.read_bytes())
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        text = (model / name).read_text(encoding="utf-8")
        text = text.replace("<|interpreter|>", "<think>").replace("<|plugin|>", "</think>")
        (model / name).write_text(text, encoding="utf-8")
    with peers.served("serve", "api_server", str(model), "--reasoning-parser", "default") as peer:
        yield peer


@pytest.fixture(scope="package")
def jax():
    """The reference for all answers."""
    with JAXPipeline(temperature=0, max_new_tokens=64) as llm:
        yield llm
