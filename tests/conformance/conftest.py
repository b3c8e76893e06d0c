"""The backends under test, each with its real peer and the embedded model.

LMDeployPipeline is tested where lmdeploy is installed (``.venv-lmdeploy``), VLLMPipeline where vLLM is, all
others where neither is.
"""

import importlib
import json
from importlib.util import find_spec

import pytest


def _from(module, name, *args):
    """Return a call of a function in a sibling module, imported late: its peer may not be installed."""
    return lambda: getattr(importlib.import_module(f".{module}", __package__), name)(*args)


#: Backend -> a context manager that starts its peer and yields the `BackendUnderTest`. Neighbours run at the
#: same time, so backends that compile the same graphs are not adjacent.
ELSEWHERE = {
    "JAXPipeline": _from("jax", "pipeline"),
    "LoRAX": _from("lorax", "backend"),
    "TritonClient-vllm": _from("triton", "client"),
    "LMDeployClient": _from("lmdeploy", "client"),
    "HFTransformers": _from("transformers", "pipeline"),
    "JAXClient": _from("jax_server", "client"),
    "OpenAIClient-llama.cpp": _from("openai", "llamacpp"),
    "LMDeployServer": _from("lmdeploy", "server"),
    "TritonClient-trtllm": _from("triton", "client", "trtllm"),
    "OpenAIClient-serve": _from("openai", "serve"),
    "FallbackLLM": _from("routing", "backend", "fallback", 1),
    "RouterLLM": _from("routing", "backend", "router", 2),
    "TritonClient-turbomind": _from("triton", "client", "turbomind", "preprocessing", "postprocessing"),
}
WITH_LMDEPLOY = {
    "LMDeployPipeline-turbomind": _from("lmdeploy", "pipeline", "turbomind"),
    "LMDeployPipeline-pytorch": _from("lmdeploy", "pipeline", "pytorch"),
}
WITH_VLLM = {"VLLMPipeline": _from("vllm", "pipeline")}
BACKENDS = WITH_LMDEPLOY if find_spec("lmdeploy") else WITH_VLLM if find_spec("vllm") else ELSEWHERE
# lagent runs in a subprocess, which cannot use this process's patched engine.
collect_ignore = [] if BACKENDS is ELSEWHERE else ["test_lagent.py"]

CONFIG = """\
default: {name}
profiles:
  nothing: {{type: no_such.Backend}}
  {name}: {settings}
"""


@pytest.fixture(scope="session", params=BACKENDS)
def subject(request):
    with BACKENDS[request.param]() as subject:
        subject.name = request.param
        yield subject


@pytest.fixture
def config(subject, tmp_path):
    """A configuration file whose first line selects the backend."""
    settings = {"temperature": 0, **subject.defaults, **subject.config}
    path = tmp_path / "llm.yaml"
    path.write_text(CONFIG.format(name=subject.name, settings=json.dumps(settings)), encoding="utf-8")
    return path
