"""FallbackLLM and RouterLLM on real servers of different kinds, one of which goes away; docs/routing.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lagent_llms import AsyncRouterLLM, FallbackLLM, JAXServer, RouterLLM, create_llm
from lagent_llms.config import load_config
from lagent_llms.registry import find_backend
from lagent_llms.store.journal_reader import JournalReader
from tests import openai_peers

PAGE = (Path(__file__).parents[3] / "docs" / "routing.md").read_text(encoding="utf-8")
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
TURNS = ("My name is Alice.", FRANCE, "What is my name?")


@pytest.fixture(scope="module")
def peer():
    with openai_peers.llamacpp() as peer:
        yield peer


def members(peer, server):
    """One client of each server, with different routes: messages here, prompts there."""
    return [
        {"type": "JAXClient", "url": server.url, "retry": {"max_retries": 0}},
        {"type": "OpenAIClient", "base_url": peer.url, "min_p": 0, "meta_template": "internlm2-lagent"},
    ]


def test_a_session_survives_the_end_of_its_server(peer):
    with JAXServer.load(config={"host": "127.0.0.1", "port": 0}) as server:
        server.fire()
        llm = FallbackLLM(members(peer, server), temperature=0)
        turn = {"session_id": 3, "sequence_end": False}
        said = [llm.chat(TURNS[0], sequence_start=True, **turn)]
        assert llm.pool.homes == {3: 0}
    said += [llm.chat(text, sequence_start=False, **turn) for text in TURNS[1:]]
    assert llm.pool.homes == {3: 1}
    assert (said[1], said[2]) == (PARIS, "Your name is Alice.")
    assert [len(member.sessions) for member in llm.members] == [0, 0]
    assert "".join(llm.stream_text([{"role": "user", "content": FRANCE}])) == PARIS
    llm.close()
    assert peer.running() == 0


async def test_a_batch_is_spread_over_both(peer, tmp_path):
    files = [tmp_path / name for name in ("jax", "llamacpp", "all")]
    with JAXServer.load(config={"host": "127.0.0.1", "port": 0}) as server:
        server.fire()
        pair = [{**one, "journal": file} for one, file in zip(members(peer, server), files, strict=False)]
        async with AsyncRouterLLM(pair, temperature=0, max_tokens=16, journal=files[2]) as llm:
            assert await llm.chat([[{"role": "user", "content": FRANCE}]] * 12) == [PARIS] * 12
    first, second, both = (len([*JournalReader(file).calls()]) for file in files)
    assert min(first, second) > 0
    assert first + second == both == 12


def test_the_program_of_the_page():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{PARIS}\n", "")


def test_the_configuration_of_the_page(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "near").write_text("sk-near\n")
    path = tmp_path / "llm.yaml"
    path.write_text(text.replace("/run/secrets/near", str(tmp_path / "near")), encoding="utf-8")
    for profile in yaml.safe_load(text)["profiles"]:
        with create_llm(path, profile=profile) as llm:
            assert isinstance(llm, find_backend(load_config(path, profile=profile)[0]["type"]))
            if profile in ("safe", "both"):
                assert "sk-near" in llm.secrets()
                assert isinstance(llm, FallbackLLM if profile == "safe" else RouterLLM)
