"""The backends the promises are tested on, each with its real peer and the embedded model under it.

LMDeployPipeline is tested where lmdeploy is installed (``.venv-lmdeploy``), all others where it is not.
"""

import importlib.util

import pytest

from . import jax, lmdeploy

#: A context manager for each backend: its peer runs within, and it gives the `Subject`.
HERE = {
    "JAXPipeline": jax.pipeline,
    "LMDeployClient": lmdeploy.client,
    "LMDeployServer": lmdeploy.server,
}
WHERE_LMDEPLOY_IS = {
    "LMDeployPipeline-turbomind": lambda: lmdeploy.pipeline("turbomind"),
    "LMDeployPipeline-pytorch": lambda: lmdeploy.pipeline("pytorch"),
}
BACKENDS = HERE if importlib.util.find_spec("lmdeploy") is None else WHERE_LMDEPLOY_IS


@pytest.fixture(scope="session", params=BACKENDS)
def subject(request):
    with BACKENDS[request.param]() as subject:
        subject.name = request.param
        yield subject
