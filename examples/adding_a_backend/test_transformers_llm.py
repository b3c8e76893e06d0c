"""The plugin, found by its registered name, passes the conformance tests with a real model."""

import os

import pytest

from lagent_llms import create_llm
from lagent_llms.testing.conformance import BackendUnderTest, Conformance

MODEL = os.environ["MODEL_DIR"]


class Transformers(BackendUnderTest):
    name = "TransformersLLM"

    def make(self, asynchronous, **kwargs):
        config = {"type": "TransformersLLM", "path": MODEL, "meta_template": "internlm2-lagent", **kwargs}
        return create_llm(config, asynchronous=asynchronous)


@pytest.fixture
def subject():
    return Transformers()


class TestTransformersLLM(Conformance):
    pass
