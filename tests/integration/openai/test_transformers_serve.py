"""OpenAIClient on `transformers serve`: the conformance tests, with messages.

The server never shows special tokens, so no tool call of the embedded model: its own tests are not run here.
"""

import json

import pytest

from lagent_llms import AsyncOpenAIClient, OpenAIClient, ServerError
from lagent_llms.testing.conformance import BackendUnderTest, Conformance
from tests import openai_peers


class Client(BackendUnderTest):
    name = "OpenAIClient-transformers"

    def __init__(self, peer):
        self._peer = peer

    def make(self, asynchronous, **kwargs):
        cls = AsyncOpenAIClient if asynchronous else OpenAIClient
        return cls(self._peer.url, flavour="transformers", **kwargs)


@pytest.fixture(scope="module")
def peer():
    with openai_peers.transformers() as peer:
        yield peer


@pytest.fixture
def subject(peer):
    return Client(peer)


class TestTransformersServe(Conformance):
    """The suite; `peer` says nothing about running generations."""


def test_the_flavour_is_found(peer):
    with OpenAIClient(peer.url, temperature=0) as llm:
        assert llm.chat("What is the capital of France?") == "The capital of France is Paris."
        assert llm.flavour == "transformers"


def test_fields_without_a_parameter(peer):
    question = "Count from 1 to 60."
    with OpenAIClient(peer.url, flavour="transformers", temperature=0, max_new_tokens=30) as llm:
        settings = {"generation_config": json.dumps({"max_new_tokens": 30, "repetition_penalty": 8.0})}
        assert llm.chat(question, extra_body=settings) != llm.chat(question)
        with pytest.raises(ServerError, match="no_such_field"):
            llm.chat(question, extra_body={"no_such_field": 1})
