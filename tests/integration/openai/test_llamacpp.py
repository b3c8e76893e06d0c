"""OpenAIClient on llama.cpp's own server: the routes and fields that the conformance tests do not use."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from lagent_llms import AsyncOpenAIClient, InvalidArgument, OpenAIClient, ServerError, UnsupportedParameter
from lagent_llms.from_lagent.openai import GPTAPI
from tests import openai_peers
from tests.unit.test_media import PNG, WAV

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


def test_lagents_name_and_a_template_of_roles(peer):
    roles = [{"role": "human", "api_role": "user"}, {"role": "bot", "api_role": "assistant"}]
    dialog = [
        {"role": "human", "content": "My name is Alice."},
        {"role": "bot", "content": "Hello, Alice!"},
        {"role": "human", "content": "What is my name?"},
    ]
    url = f"{peer.url}/v1/chat/completions"
    with GPTAPI("embedded", api_base=url, key="any", meta_template=roles, temperature=0) as llm:
        assert llm.chat(dialog) == "Your name is Alice."
        assert [*llm.stream_chat(dialog)][-1].finish_reason == "stop"


@pytest.mark.parametrize(("kind", "data"), [("image", PNG), ("audio", WAV)])
def test_the_server_reads_images_and_audio(peer, kind, data):
    content = [{"type": "text", "text": "What?"}, {"type": kind, kind: data}]
    with OpenAIClient(peer.url) as llm, pytest.raises(ServerError, match=f"{kind} input is not supported"):
        llm.chat([{"role": "user", "content": content}])  # its model reads text


@dataclass
class Town:
    name: Annotated[str, Meta(max_length=20)]
    kind: Literal["village", "city"]
    sizes: Annotated[list[Literal[7, 12]], Meta(max_length=3)]


#: Regular expressions, each with most of what a grammar can say, and few enough texts for a short answer.
PATTERNS = [
    r"^\d{4}-[01]\d-[0-3]\d$",
    r"(?:yes|no)(, (?P<what>certainly|\w{2,3}))?[.!]",
    r"[^\d_a-z]x?\$\s[-.\]a]{1,3}?|\u00e9",
    r"\"[^\"\\\x00-\x1F]{3}\"",
]


@pytest.mark.parametrize("template", [None, "internlm2-lagent"], ids=["messages", "prompt"])
def test_constrained_answers(peer, template):
    schema = {"type": "object", "properties": {"n": {"enum": [7, 12]}}, "required": ["n"]}
    with OpenAIClient(peer.url, temperature=1, max_new_tokens=100, meta_template=template) as llm:

        def ask(constraint, seed=1):
            return llm.complete(FRANCE, response_format=constraint, seed=seed).text

        assert json.loads(ask({**schema, "additionalProperties": False}))["n"] in (7, 12)
        assert isinstance(json.loads(ask({"type": "json_object"})), dict)
        assert ask(['猫 "x"', "b\\c\n"]) in ('猫 "x"', "b\\c\n")
        for pattern in PATTERNS:
            for seed in range(3):
                assert re.fullmatch(pattern, answer := ask(re.compile(pattern), seed)), answer


async def test_parse_returns_instances(peer):
    with OpenAIClient(peer.url, temperature=0) as llm:
        town = llm.parse("Which town?", Town, max_new_tokens=200)
        assert (type(town), town.kind in ("village", "city")) == (Town, True)
        assert llm.parse(FRANCE, Literal["Paris", "Rome"]) in ("Paris", "Rome")
        assert set(llm.parse("Which sizes?", Annotated[list[Literal[7, 12]], Meta(max_length=3)])) <= {7, 12}
    async with AsyncOpenAIClient(peer.url, temperature=0, meta_template="internlm2-lagent") as llm:
        assert await llm.parse(FRANCE, bool) in (True, False)


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


def test_the_examples_of_the_page_on_structured_output(peer):
    page = (ROOT / "docs" / "structured_output.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    assert "http://127.0.0.1:8080" in code
    command = [sys.executable, "-c", code.replace("http://127.0.0.1:8080", peer.url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"True\n{PARIS}\n{PARIS}\n")


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
