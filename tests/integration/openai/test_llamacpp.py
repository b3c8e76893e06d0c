"""OpenAIClient on llama.cpp's own server: the routes and fields that the conformance tests do not use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lagent_llms import AsyncOpenAIClient, InvalidArgument, OpenAIClient, UnsupportedParameter
from tests import openai_peers

ROOT = Path(__file__).parents[3]
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."


@pytest.fixture(scope="module")
def peer():
    with openai_peers.llamacpp() as peer:
        yield peer


@pytest.mark.parametrize("end", ["", "/v1", "/v1/chat/completions"])
def test_messages_go_to_the_server_that_is_found(peer, end):
    with OpenAIClient(peer.url + end, temperature=0) as llm:
        assert llm.chat(FRANCE) == PARIS
        assert (llm.flavour, llm.model_name, llm.models()) == ("llama.cpp", "embedded", ["embedded"])
        assert llm.chat(FRANCE, stop_words=[" is"], stream=False) == "The capital of France"


async def test_asynchronously(peer):
    async with AsyncOpenAIClient(peer.url, temperature=0) as llm:
        assert await llm.chat([FRANCE] * 5) == [PARIS] * 5
        chunks = [chunk async for chunk in llm.stream_chat(FRANCE)]
        assert chunks[-1].usage.completion_tokens == len(await llm.tokenize(PARIS))


def test_structured_output(peer):
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [7, 12]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    given = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    with OpenAIClient(peer.url, temperature=0) as llm:
        assert json.loads(llm.chat(FRANCE, response_format=given))["n"] in (7, 12)


def test_what_was_not_given_is_the_servers(peer):
    hot = {"temperature": 2, "top_p": 1, "top_k": None, "max_new_tokens": 40}
    with OpenAIClient(peer.url) as llm:
        for given, varied in (({}, False), ({"min_p": 0}, True)):  # llama.cpp's own min_p is 0.05
            samples = {llm.chat("Count from 1 to 60.", seed=seed, **hot, **given) for seed in range(4)}
            assert (len(samples) > 1) is varied
        with pytest.raises(UnsupportedParameter, match="skip_special_tokens=True for flavour='llama.cpp'"):
            llm.chat(FRANCE, skip_special_tokens=True)


def test_the_example(peer):
    command = [sys.executable, ROOT / "examples" / "openai_client.py", f"{peer.url}/v1", FRANCE[0]["content"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("(llama.cpp, model embedded)\n")


def test_fields_without_a_parameter(peer):
    rome = {"grammar": 'root ::= "Rome"'}  # a field of llama.cpp's own
    with OpenAIClient(peer.url, temperature=0, extra_body=rome) as llm:
        assert llm.chat(FRANCE) == "Rome"
        assert llm.chat(FRANCE, extra_body={"grammar": 'root ::= "Oslo"'}) == "Oslo"
        assert llm.chat(FRANCE, extra_body=None) == PARIS
        with pytest.raises(
            InvalidArgument, match=r"extra_body\['temperature'\]: .* give the parameter temperature="
        ):
            llm.chat(FRANCE, extra_body={"temperature": 1})


def test_several_answers(peer):
    with OpenAIClient(peer.url, temperature=2, top_p=1, top_k=None, min_p=0, max_new_tokens=20) as llm:
        answer = llm.complete("Count from 1 to 60.", n=12)
        assert len({choice.text for choice in answer.choices}) > 1
        assert max(choice.usage.completion_tokens for choice in answer.choices) <= 20
