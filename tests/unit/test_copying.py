"""Pickles and copies of backends: the same configuration, in a working object; nothing else."""

import asyncio
import copy
import pickle
import subprocess
import sys

import aiohttp
import pytest
import requests

import lagent_llms
from lagent_llms import (
    AsyncJAXClient,
    AsyncLMDeployClient,
    AsyncLMDeployServer,
    AsyncLoRAX,
    AsyncOpenAIClient,
    AsyncTritonClient,
    Completion,
    GenerationParams,
    JAXClient,
    LLMError,
    LMDeployClient,
    LMDeployServer,
    LoRAX,
    OpenAIClient,
    SessionClosed,
    Timeout,
    TritonClient,
)
from lagent_llms.lorax import AsyncClient, Client
from lagent_llms.params import CallOptions
from lagent_llms.retry import RetryPolicy
from lagent_llms.schema import Usage
from lagent_llms.templates import load_template
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM
from tests.scripted_server import ScriptedServer

SECRET = "sk-very-secret"
WAYS = {
    "pickle": lambda item: pickle.loads(pickle.dumps(item)),
    "pickle 2": lambda item: pickle.loads(pickle.dumps(item, 2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}
COMMON = {
    "api_key": SECRET,
    "headers": {"X-Key": "a"},
    "max_retries": 5,
    "meta_template": "internlm2",
    "session_len": 4096,
    "max_concurrency": 3,
    "temperature": 0.25,
    "timeout": Timeout(connect=1, first_token=2, idle=3, total=4),
    "stop_words": ["x"],
}
CLIENTS = {
    "LMDeployClient": (LMDeployClient, ["http://a:1"], COMMON),
    "AsyncLMDeployClient": (AsyncLMDeployClient, [["http://a:1", "http://b:2"], "m"], COMMON),
    "JAXClient": (JAXClient, ["http://a:1"], COMMON),
    "AsyncJAXClient": (AsyncJAXClient, ["http://a:1"], COMMON),
    "OpenAIClient": (OpenAIClient, ["http://a:1", "m"], {**COMMON, "flavour": "vllm"}),
    "AsyncOpenAIClient": (AsyncOpenAIClient, ["http://a:1"], {**COMMON, "organization": "o"}),
    "LoRAX": (LoRAX, ["http://a:1"], {**COMMON, "api_token": SECRET, "adapter_name": "x"}),
    "AsyncLoRAX": (AsyncLoRAX, ["http://a:1"], {**COMMON, "api_token": SECRET}),
    "TritonClient over HTTP": (TritonClient, ["http://a:1"], COMMON),
    "AsyncTritonClient over HTTP": (AsyncTritonClient, ["https://a:1"], {**COMMON, "verify": False}),
    "lorax.Client": (Client, ["http://a:1"], {"headers": {"Authorization": SECRET}, "timeout": 7}),
    "lorax.AsyncClient": (AsyncClient, ["http://a:1"], {"cookies": {"k": SECRET}}),
    "ScriptedLLM": (ScriptedLLM, ["ok"], {"temperature": 0.5}),
    "AsyncScriptedLLM": (AsyncScriptedLLM, [], {"script": ["a", "b"]}),
}


def state(item):
    """The configuration of a client: whatever has a value that can be compared."""
    plain = (str, int, float, bool, dict, list, tuple, type(None), GenerationParams, CallOptions, RetryPolicy)
    return {name: value for name, value in vars(item).items() if isinstance(value, plain)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CLIENTS)
def test_a_copy_has_the_same_configuration(name, way):
    check_copy(*CLIENTS[name], way)


def check_copy(cls, args, kwargs, way):
    made = cls(*args, **kwargs)
    again = WAYS[way](made)
    assert type(again) is cls
    assert again is not made
    assert state(again) == state(made)
    assert repr(again).partition(" at 0x")[0] == repr(made).partition(" at 0x")[0]
    assert SECRET not in repr(again)
    assert WAYS[way](again).__reduce__() == made.__reduce__()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "spec", ["internlm2", "llama-3", lagent_llms.INTERNLM2_META, "{{ messages[0].content }}!"]
)
def test_a_loaded_template(spec, way):
    made = LMDeployClient("http://a:1", meta_template=load_template(spec))
    dialog = [{"role": "user", "content": "x"}]
    assert WAYS[way](made).template.render(dialog) == made.template.render(dialog)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("session", "asynchronous"), [(False, False), (False, True), (True, False)])
def test_a_copy_of_a_warm_client_works(way, session, asynchronous):
    with ScriptedServer(lambda connection: connection.answer("a")) as server:
        given = {"session": requests.Session()} if session else {}
        llm = (AsyncLMDeployClient if asynchronous else LMDeployClient)(
            server.url, api_key=SECRET, model_name="m", **given
        )

        def ask(llm, **kwargs):
            answer = llm.generate("x", **kwargs)
            return asyncio.run(answer) if asynchronous else answer

        assert ask(llm, session_id=3, sequence_start=True, sequence_end=False) == "a"
        again = WAYS[way](llm)
        assert ask(again) == "a"
        assert server.requests[-1].headers["authorization"] == f"Bearer {SECRET}"
        with pytest.raises(SessionClosed):  # histories are not copied
            ask(again, session_id=3, sequence_start=False)
        assert ask(llm, session_id=3, sequence_start=False) == "a"


def test_another_process_uses_a_pickle():
    """As a pool does whose processes are spawned."""
    with ScriptedServer(lambda connection: connection.answer("a")) as server:
        llm = LMDeployClient(server.url, "m")
        code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())('x'))"
        done = subprocess.run(
            [sys.executable, "-c", code], input=pickle.dumps(llm.generate), capture_output=True
        )
    assert (done.stdout, done.stderr) == (b"a\n", b"")


def test_secrets_of_the_environment_are_not_included(monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@proxy.test:1")
    with LMDeployClient("http://model.test", "m") as llm:
        assert llm.transport.servers  # made with the proxy
        assert SECRET.encode() not in pickle.dumps(llm)


@pytest.mark.parametrize("way", WAYS)
async def test_a_clients_session_of_one_loop_is_refused(way):
    async with aiohttp.ClientSession() as session:
        for cls, args in (
            (AsyncLMDeployClient, ["http://a"]),
            (AsyncClient, ["http://a"]),
            (AsyncTritonClient, ["http://a:1"]),
        ):
            with pytest.raises(TypeError, match=f"cannot copy or pickle {cls.__name__}: its session= serves"):
                WAYS[way](cls(*args, session=session))


async def test_a_subclass_of_a_session_is_refused_as_well():
    with pytest.warns(DeprecationWarning, match="Inheritance"):  # of aiohttp, which discourages it
        own = type("Own", (aiohttp.ClientSession,), {})
    async with own() as session:
        with pytest.raises(TypeError, match="its session= serves only the event loop"):
            copy.copy(AsyncLMDeployClient("http://a", session=session))


class LocalLLM(ScriptedLLM):
    in_process = True


@pytest.mark.parametrize("way", WAYS)
def test_a_model_in_this_process_is_refused(way):
    with pytest.raises(TypeError, match="LocalLLM: its model runs in this process; make one in each process"):
        WAYS[way](LocalLLM())


@pytest.mark.parametrize("name", ["LMDeployPipeline", "AsyncLMDeployPipeline"])
def test_the_engines_of_lmdeploy_are_in_process(name):
    assert getattr(lagent_llms, name).in_process


def server_object(cls, **kwargs):
    """An object as its constructor makes it, without a process."""
    made = cls.__new__(cls, "/model", **kwargs)
    LMDeployClient.__init__(made, "http://127.0.0.1:1", "m", api_key=kwargs.get("api_key", SECRET))
    made.api_key = kwargs.get("api_key", SECRET)
    return made


@pytest.mark.parametrize("cls", [LMDeployServer, AsyncLMDeployServer])
def test_a_copy_of_a_server_is_a_client_of_it(cls):
    made = server_object(cls, api_key=SECRET, log_level="INFO", headers={"X-Key": "a"}, temperature=0.5)
    kind = LMDeployClient if cls is LMDeployServer else AsyncLMDeployClient
    for way in WAYS.values():
        again = way(way(made))
        assert isinstance(again, kind)
        assert not isinstance(again, cls)
        assert (again.endpoints.urls, again.model_name) == (("http://127.0.0.1:1",), "m")
        options = again._transport_options
        assert (options["api_key"], options["headers"]) == (SECRET, {"X-Key": "a"})
        assert options["environment_proxy"] is False
        assert again.params.temperature == 0.5
        assert SECRET not in repr(again)


@pytest.mark.parametrize("cls", [LMDeployServer, AsyncLMDeployServer])
def test_a_random_key_leaves_the_process_in_no_pickle(cls):
    made = server_object(cls)
    with pytest.raises(TypeError, match=f"cannot pickle {cls.__name__}: .* is random .*; give api_key="):
        pickle.dumps(made)
    assert copy.deepcopy(made)._transport_options["api_key"] == SECRET
    made = server_object(cls, api_key="")
    made.api_key = None  # as the constructor reads an empty key
    assert pickle.loads(pickle.dumps(made))._transport_options["api_key"] is None


@pytest.mark.parametrize(
    "item",
    [
        Timeout(connect=1, first_token=None, idle=3, total=4),
        RetryPolicy(5, base=0.1),
        GenerationParams(max_new_tokens=3, stop_words=("x",)),
        CallOptions(session_id=3),
        Completion(text="a", finish_reason="stop", usage=Usage(1, 2)),
        LLMError("x"),
    ],
    ids=lambda item: type(item).__name__,
)
@pytest.mark.parametrize("way", WAYS)
def test_values(item, way):
    again = WAYS[way](item)
    assert repr(again) == repr(item)
    assert type(again) is type(item)
