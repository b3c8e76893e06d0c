"""The options that name a backend without a configuration file."""

import pytest

from lagent_llms.cli.connection import named_backend
from lagent_llms.errors import InvalidArgument

URL = "http://127.0.0.1:8000/v1"


def named(config=None, profile=None, url=None, model=None, backend=None):
    return named_backend(config, profile, url, model, backend)


def test_a_file_is_named_as_before():
    assert named() == (None, None, {})
    assert named("llm.yaml", "mine") == ("llm.yaml", "mine", {})


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({"url": URL}, {"type": "OpenAIClient", "base_url": URL}),
        ({"url": "127.0.0.1:8000"}, {"type": "OpenAIClient", "base_url": "127.0.0.1:8000"}),
        ({"model": "m"}, {"type": "OpenAIClient", "model": "m"}),
        (
            {"url": URL, "model": "m", "backend": "LMDeployClient"},
            {"type": "LMDeployClient", "url": URL, "model_name": "m"},
        ),
        (
            {"url": "grpc://127.0.0.1:8001", "backend": "TritonClient"},
            {"type": "TritonClient", "tritonserver_addr": "grpc://127.0.0.1:8001"},
        ),
        ({"backend": "LMDeployPipeline", "model": "dir"}, {"type": "LMDeployPipeline", "path": "dir"}),
    ],
)
def test_a_backend_without_a_file(given, settings):
    source, profile, options = named(**given)
    assert (source, profile) == (settings, None)
    assert set(settings) - {"type"} <= set(options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": URL, "config": "llm.yaml"}, "--url and --config are both given; the file names the backend"),
        ({"model": "m", "config": "llm.yaml"}, "--model and --config are both given"),
        ({"backend": "LoRAX", "profile": "p"}, "--backend and --profile are both given"),
        ({"url": "grpc://h:8001"}, "--url grpc://h:8001: OpenAIClient, the default of --backend, takes http"),
        ({"backend": "TritonClint"}, "--backend TritonClint: unknown backend 'TritonClint', did you mean"),
        ({"backend": "LMDeployClient", "model": "m"}, "--url is missing: LMDeployClient needs it"),
        ({"backend": "LMDeployServer"}, "--model is missing: LMDeployServer needs it"),
        ({"backend": "LMDeployPipeline", "url": URL}, "--url: LMDeployPipeline has no such argument"),
        ({"backend": "FallbackLLM"}, "--set llms=… is missing: FallbackLLM needs it"),
    ],
)
def test_what_cannot_be(given, message):
    with pytest.raises(InvalidArgument) as caught:
        named(**given)
    assert str(caught.value).startswith(message)
