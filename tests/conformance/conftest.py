"""The backends the promises are tested on, each with its real peer and the embedded model under it.

LMDeployPipeline is tested where lmdeploy is installed (``.venv-lmdeploy``), all others where it is not.
"""

import importlib.util
import json

import pytest

from . import jax, lmdeploy, lorax, triton

#: A context manager for each backend: its peer runs within, and it gives the `Subject`.
HERE = {
    "JAXPipeline": jax.pipeline,
    "LMDeployClient": lmdeploy.client,
    "LMDeployServer": lmdeploy.server,
    "LoRAX": lorax.backend,
    "TritonClient": triton.client,
}
WHERE_LMDEPLOY_IS = {
    "LMDeployPipeline-turbomind": lambda: lmdeploy.pipeline("turbomind"),
    "LMDeployPipeline-pytorch": lambda: lmdeploy.pipeline("pytorch"),
}
BACKENDS = HERE if importlib.util.find_spec("lmdeploy") is None else WHERE_LMDEPLOY_IS
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
