"""The documented examples run as written: only the import, the address and the adapter are replaced."""

import ast
import asyncio
import inspect

import pytest

from lagent_llms.lorax import AsyncClient, Client
from lagent_llms.lorax.types import Response
from tests import lorax_peer

from . import seed
from .conftest import TOKEN, prompt_of

SIGNATURES = {
    "generate": """prompt adapter_id=None adapter_source=None merged_adapters=None api_token=None
        do_sample=False max_new_tokens=20 best_of=None repetition_penalty=None return_full_text=False
        seed=None stop_sequences=None temperature=None top_k=None top_p=None truncate=None typical_p=None
        watermark=False response_format=None decoder_input_details=False details=True""",
    "generate_stream": """prompt adapter_id=None adapter_source=None merged_adapters=None api_token=None
        do_sample=False max_new_tokens=20 repetition_penalty=None return_full_text=False seed=None
        stop_sequences=None temperature=None top_k=None top_p=None truncate=None typical_p=None
        watermark=False response_format=None details=True""",
    "__init__": "base_url headers=None cookies=None timeout=60",
}


def run(code, url, **names):
    """Run an example; return its variables."""
    code = code.replace("from lorax import", "from lagent_llms.lorax import").replace(
        "some/adapter", "french"
    )
    for address in ("http://127.0.0.1:8080", "https://api-inference.huggingface.co/models/bigscience/bloomz"):
        code = code.replace(address, url)
    code = code.replace("https://api.app.predibase.com/v1/llms/{llm_deployment_name}", url)
    result = eval(compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.iscoroutine(result):
        asyncio.run(result)
    return names


@pytest.mark.parametrize("example", ["USAGE", "ASYNC_USAGE"])
def test_usage(peer, example, capsys):
    run(getattr(seed, example), peer.url)
    whole, streamed = capsys.readouterr().out.splitlines()
    assert whole == streamed  # this small model gives an empty answer to a prompt without a template
    question = getattr(seed, example).replace('"Why is the sky blue?"', repr(prompt_of("Thank you!")))
    run(question, peer.url)
    assert capsys.readouterr().out.splitlines() == ["Je vous en prie !"] * 2


@pytest.mark.parametrize("example", ["DOCSTRING", "ASYNC_DOCSTRING"])
def test_docstrings(peer, example):
    with Client(peer.url) as client:
        expected = client.generate("Why is the sky blue?", adapter_id="french").generated_text
    assert run(getattr(seed, example), peer.url)["result"] == expected


def test_predibase(small_peer):
    """Its adapters are named REPO/VERSION and are private: the header's token opens them."""
    names = {"model_repo": "pirate", "model_version": 1, "api_token": TOKEN}
    code = seed.PREDIBASE.replace("adapter_id=", 'adapter_source="pbase", adapter_id=')
    assert isinstance(run(code, small_peer.url, **names)["response"], Response)
    run(seed.FROM_HUB, small_peer.url, client=Client(small_peer.url))


def test_a_base_url_with_a_path():
    """Predibase's deployments are paths: requests go to the path, not to the root."""
    from tests.scripted_server import ScriptedServer

    with ScriptedServer(lambda c: c.json([{"generated_text": "Hi"}])) as server:
        with Client(f"{server.url}/tenant/deployments/v2/llms/name/") as client:
            assert client.generate("x").generated_text == "Hi"
        assert server.requests[0].path == "/tenant/deployments/v2/llms/name"


@pytest.mark.parametrize("cls", [Client, AsyncClient])
@pytest.mark.parametrize("method", SIGNATURES)
def test_the_documented_parameters_and_defaults(cls, method):
    documented = SIGNATURES[method].split()
    found = [
        name if item.default is item.empty else f"{name}={item.default}"
        for name, item in inspect.signature(getattr(cls, method)).parameters.items()
        if item.kind is item.POSITIONAL_OR_KEYWORD and name != "self"
    ]
    assert found == documented


def test_the_peer_is_described_as_an_independent_one():
    source = (lorax_peer.ROOT / "tests" / "peers" / "lorax" / "launch.py").read_text(encoding="utf-8")
    assert "independent peer" in source
    assert "It is no LoRAX" in source
