"""The backends the promises are tested on, each with its real peer and the embedded model under it.

LMDeployPipeline is tested where lmdeploy is installed (``.venv-lmdeploy``), all others where it is not.
"""

import importlib
import json
from importlib.util import find_spec

import pytest


def _from(module, name, *args):
    """A function of a module beside this one, imported when it is called: not every peer is everywhere."""
    return lambda: getattr(importlib.import_module(f".{module}", __package__), name)(*args)


#: A context manager for each backend: its peer runs within, and it gives the `BackendUnderTest`. Neighbours
#: run at the same time, so those that compile the same graphs stand apart.
HERE = {
    "JAXPipeline": _from("jax", "pipeline"),
    "LoRAX": _from("lorax", "backend"),
    "TritonClient-vllm": _from("triton", "client"),
    "LMDeployClient": _from("lmdeploy", "client"),
    "JAXClient": _from("jax_server", "client"),
    "LMDeployServer": _from("lmdeploy", "server"),
    "TritonClient-trtllm": _from("triton", "client", "trtllm"),
    "TritonClient-turbomind": _from("triton", "client", "turbomind", "preprocessing", "postprocessing"),
}
WHERE_LMDEPLOY_IS = {
    "LMDeployPipeline-turbomind": _from("lmdeploy", "pipeline", "turbomind"),
    "LMDeployPipeline-pytorch": _from("lmdeploy", "pipeline", "pytorch"),
}
BACKENDS = HERE if find_spec("lmdeploy") is None else WHERE_LMDEPLOY_IS
# lagent runs in a process of its own, where a patched engine of this one cannot be reached.
collect_ignore = [] if BACKENDS is HERE else ["test_lagent.py"]

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
    """A configuration file in which the first line says which backend."""
    settings = {"temperature": 0, **subject.defaults, **subject.config}
    path = tmp_path / "llm.yaml"
    path.write_text(CONFIG.format(name=subject.name, settings=json.dumps(settings)), encoding="utf-8")
    return path
